"""The images that a configuration is measured on, decoded once and in a fixed order."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atm_search.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class Shard:
    """Images, labelled or not, in the order in which they are measured.

    The order is part of the identity: a batch-adaptive method takes its counts from the whole
    batch, so who shares a batch with whom changes the result. Two shards are the same
    measurement if their `digest` is the same; `==` is identity, as for any object.

    Args:
        images: [N, 3, H, W], uint8, resized and cropped but not normalised.
        labels: [N], int64, class indices of the model; None if nobody knows the classes.
        names: N names for pictures and messages, such as `n01440764/tench.jpg`.
        digest: sha256, in hex, of what was read; the preprocessing is not in it and has an
            identity of its own (see `shard_digest`).
        source: where the images come from, in words for people.
        skipped: names of corrupt images that were left out on request.
        why_unlabelled: the reason for people, if there are no labels.
        check: told which images, from and up to, `batches` is about to give; raises DataError if
            they are damaged.
        contents: sha256, raw, of what each image was made from; empty if that is not known.

    Raises:
        DataError: there is no image, or shapes, types or lengths do not fit together.
    """

    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    digest: str
    source: str
    skipped: tuple[str, ...] = ()
    why_unlabelled: str = ""
    check: Callable[[int, int], None] | None = None
    contents: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        fits = (
            self.images.dtype == torch.uint8
            and self.images.ndim == 4
            and self.images.shape[1] == 3
            and (
                self.labels is None
                or (self.labels.dtype == torch.int64 and self.labels.shape == (len(self.images),))
            )
            and len(self.names) == len(self.images) > 0
        )
        if not fits:
            labels = "no labels"
            if self.labels is not None:
                labels = f"labels {self.labels.dtype} {list(self.labels.shape)}"
            raise DataError(
                f"Images {self.images.dtype} {list(self.images.shape)}, {labels} and "
                f"{len(self.names)} names are no shard: give uint8 [N, 3, H, W], int64 [N] or no "
                "labels, and N names, N >= 1."
            )

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Images and labels, `batch_size` at a time in the shard's order; the last may be short.

        Args:
            batch_size: >= 1.
            start: batches to leave out at the beginning.

        Raises:
            DataError: batch_size is below 1; later, an image is damaged.
        """
        if batch_size < 1:
            raise DataError(f"batch_size={batch_size}: a batch needs at least 1 image.")
        return (
            self._part(first, first + batch_size)
            for first in range(start * batch_size, len(self), batch_size)
        )

    def first(self, images: int) -> "Shard":
        """The first images of it, a shard of their own; itself if there are no more."""
        if images >= len(self):
            return self
        return replace(
            self,
            images=self.images[:images],
            labels=None if self.labels is None else self.labels[:images],
            names=self.names[:images],
            digest=hashlib.sha256(f"first {images} of {self.digest}".encode()).hexdigest(),
            contents=self.contents[:images],
        )

    def unlabelled(self, why: str) -> "Shard":
        """The same images without labels; `why`, for people. Only if their contents are known."""
        return replace(
            self, labels=None, why_unlabelled=why, digest=shard_digest(self.contents, None)
        )

    def _part(self, start: int, end: int) -> tuple[Tensor, Tensor | None]:
        if self.check is not None:
            self.check(start, end)
        labels = None if self.labels is None else self.labels[start:end]
        return self.images[start:end], labels

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[2:]
        labels = "no labels"
        if self.labels is not None:
            labels = f"{len(set(self.labels.tolist())):,} classes"
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return (
            f"Shard({len(self):,} images of {height}x{width}, {labels}, "
            f"{self.digest[:8]}, {self.source}{skipped})"
        )


def shard_digest(contents: Iterable[bytes], labels: Iterable[int] | None) -> str:
    """Identity of a shard: sha256, in hex, of what the images hold and their labels, in order.

    Names and places are not in it, so a copied or renamed folder that gives the same images in
    the same order is the same shard.

    Args:
        contents: the sha256 of each image's file, or of whatever else defines the image, raw.
        labels: as many class indices, or None.
    """
    digest = hashlib.sha256()
    if labels is None:
        for content in contents:
            digest.update(content)
        return digest.hexdigest()
    for content, label in zip(contents, labels, strict=True):
        digest.update(content + label.to_bytes(8, "little"))
    return digest.hexdigest()
