"""What a configuration did image by image, small enough to keep with its trial.

A race compares a new configuration with an old one on the same images, so it needs more of the old
one than its sums. A few KB per thousand images are enough: one bit for top-1, two bytes for the
distance from the dense model, and the GFLOPs of every batch. Only trials that were on a front when
they finished can stop others, so only theirs are kept; every worker loads all that is kept of every
trial.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atm_search.errors import InputError

HEADER = np.dtype("<u4")
DISTANCE = np.dtype("<f2")
GFLOPS = np.dtype("<f8")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One configuration on the first images of a shard, in the shard's order."""

    hits: NDArray[np.bool_] | None
    """Whether the best class is right, [images]; None without labels."""
    distances: NDArray[np.float16]
    """From the dense model, [images]: KL in nats, or of a feature the cosine distance."""
    gflops: NDArray[np.float64]
    """Of every batch, per image, [batches]."""

    @classmethod
    def of(cls, hits: ArrayLike | None, distances: ArrayLike, gflops: ArrayLike) -> "Outcomes":
        """The outcomes with every array in the type that is kept."""
        right = None if hits is None else np.asarray(hits, bool)
        return cls(right, np.asarray(distances, DISTANCE), np.asarray(gflops, GFLOPS))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.distances)

    def followed_by(self, other: "Outcomes") -> "Outcomes":
        """These images and then the other ones."""
        if len(self) == 0:
            return other
        hits = None
        if self.hits is not None and other.hits is not None:
            hits = np.concatenate([self.hits, other.hits])
        return Outcomes(
            hits,
            np.concatenate([self.distances, other.distances]),
            np.concatenate([self.gflops, other.gflops]),
        )

    def to_text(self) -> str:
        """All of it as ASCII: base64 of a zlib stream."""
        parts = (
            np.array([len(self), len(self.gflops)], HEADER).tobytes(),
            b"" if self.hits is None else np.packbits(self.hits).tobytes(),
            self.distances.tobytes(),
            self.gflops.tobytes(),
        )
        return base64.b64encode(zlib.compress(b"".join(parts), level=9)).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> "Outcomes":
        """The outcomes that `to_text` wrote.

        Raises:
            InputError: the text is damaged.
        """
        try:
            content = zlib.decompress(base64.b64decode(text, validate=True))
            images, batches = np.frombuffer(content[:8], HEADER).tolist()
            bits = len(content) - DISTANCE.itemsize * images - GFLOPS.itemsize * batches
            if bits not in (8, 8 + (images + 7) // 8):
                raise ValueError("it is cut off")
            packed = np.frombuffer(content[8:bits], np.uint8)
            end = bits + DISTANCE.itemsize * images
            return cls(
                np.unpackbits(packed, count=images).astype(bool)
                if bits > 8 or not images
                else None,
                np.frombuffer(content[bits:end], DISTANCE),
                np.frombuffer(content[end:], GFLOPS),
            )
        except (binascii.Error, zlib.error, ValueError) as error:
            raise InputError(f"Stored outcomes of a trial are damaged: {error}.") from error


NONE = Outcomes.of([], [], [])
"""No image yet."""
