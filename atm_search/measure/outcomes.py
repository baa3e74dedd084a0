"""What a configuration did image by image, small enough to keep with its trial.

A race compares a new configuration with an old one on the same images, so it needs more of the old
one than its sums. A few KB per thousand images are enough: one bit for top-1, two bytes for KL, and
the GFLOPs of every batch. Only trials that were on a front when they finished can stop others, so
only theirs are kept; every worker loads all that is kept of every trial.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atm_search.errors import InputError

HEADER = np.dtype("<u4")
KL = np.dtype("<f2")
GFLOPS = np.dtype("<f8")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One configuration on the first images of a shard, in the shard's order."""

    hits: NDArray[np.bool_]
    """Whether the best class is right, [images]."""
    kl: NDArray[np.float16]
    """KL(dense || reduced) in nats, [images]."""
    gflops: NDArray[np.float64]
    """Of every batch, per image, [batches]."""

    @classmethod
    def of(cls, hits: ArrayLike, kl: ArrayLike, gflops: ArrayLike) -> "Outcomes":
        """The outcomes with every array in the type that is kept."""
        return cls(np.asarray(hits, bool), np.asarray(kl, KL), np.asarray(gflops, GFLOPS))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.hits)

    def followed_by(self, other: "Outcomes") -> "Outcomes":
        """These images and then the other ones."""
        return Outcomes(
            np.concatenate([self.hits, other.hits]),
            np.concatenate([self.kl, other.kl]),
            np.concatenate([self.gflops, other.gflops]),
        )

    def to_text(self) -> str:
        """All of it as ASCII: base64 of a zlib stream."""
        parts = (
            np.array([len(self.hits), len(self.gflops)], HEADER).tobytes(),
            np.packbits(self.hits).tobytes(),
            self.kl.tobytes(),
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
            bits = 8 + (images + 7) // 8
            kl, end = bits + KL.itemsize * images, len(content)
            if end != kl + GFLOPS.itemsize * batches:
                raise ValueError("it is cut off")
            return cls(
                np.unpackbits(np.frombuffer(content[8:bits], np.uint8), count=images).astype(bool),
                np.frombuffer(content[bits:kl], KL),
                np.frombuffer(content[kl:], GFLOPS),
            )
        except (binascii.Error, zlib.error, ValueError) as error:
            raise InputError(f"Stored outcomes of a trial are damaged: {error}.") from error


NONE = Outcomes.of([], [], [])
"""No image yet."""
