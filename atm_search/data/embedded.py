"""The embedded data set: images of ten shapes, each drawn from its number alone.

It lets every command run at once, with no download. An image has a complexity from 0 to 1: a simple
one shows a clear shape on a smooth ground, a complex one a small, faint shape among textures, noise
and fragments. Token merging should shorten the first and spare the second, so both kinds are in
every prefix of the data set.

The pixels are the same on every machine and under every numpy, for their hash names the shard.
Hence random numbers of our own, and only arithmetic that IEEE 754 rounds exactly: no sin, exp or
pow, no sum, no matrix product.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from atm_search.data import painting
from atm_search.data.draws import Draws, Integers
from atm_search.data.painting import IMAGE_SIZE, PATCH_SIZE
from atm_search.data.shapes import SHAPES, Floats
from atm_search.data.shard import Shard, shard_digest
from atm_search.errors import DataError

Split = Literal["train", "validation"]

CLASS_NAMES: Final = tuple(SHAPES)
VALIDATION_IMAGES: Final = 5000
GENERATOR_VERSION: Final = 1
"""Raised with every change that alters a pixel; the weights record the one they were trained on."""

DEFAULT_IMAGES: Final = 1000

EMBEDDED: Final = "embedded"
"""Where its images come from, as a shard says it."""

_SEEDS: Final[dict[str, int]] = {"train": 0x7EA1 << 48, "validation": 0x7A11 << 48}
_CHUNK = 50  # images drawn at once: few enough for the processor's cache
_MAX_FRAGMENTS = 16


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """Some images of the embedded data set, with their answers."""

    images: npt.NDArray[np.uint8]
    """[count, 3, 112, 112], red, green and blue."""
    labels: npt.NDArray[np.int64]
    """[count], index into `CLASS_NAMES`; of ten images in a row, one is of each class."""
    foreground: npt.NDArray[np.bool_]
    """[count, 14, 14], whether the centre of an 8 x 8 patch lies in the shape."""
    complexity: Floats
    """[count], from 0, plain, to 1, cluttered; uniformly distributed."""


def embedded_images(count: int, *, split: Split = "validation", start: int = 0) -> EmbeddedImages:
    """Images number `start` to `start + count` of a split, about 2,000 per second and core.

    An image depends on its number alone: a larger count gives the same images and more. The
    training split has no end, the validation split has `VALIDATION_IMAGES`.

    Raises:
        DataError: no such split, a negative number, or more than the validation split has.
    """
    if split not in _SEEDS:
        raise DataError(f"No split '{split}' in the embedded data set: use {' or '.join(_SEEDS)}.")
    if count < 0 or start < 0:
        raise DataError(f"start={start}, count={count}: neither can be negative.")
    if split == "validation" and start + count > VALIDATION_IMAGES:
        raise DataError(
            f"The embedded data set has {VALIDATION_IMAGES:,} validation images, not "
            f"{start + count:,}: ask for fewer."
        )
    patches = IMAGE_SIZE // PATCH_SIZE
    images = np.empty((count, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    foreground = np.empty((count, patches, patches), np.bool_)
    complexity = np.empty(count, np.float32)
    numbers = np.arange(start, start + count, dtype=np.uint64)
    labels = (numbers % np.uint64(len(CLASS_NAMES))).astype(np.int64)
    for first in range(0, count, _CHUNK):
        part = slice(first, first + _CHUNK)
        drawn = _draw(numbers[part], labels[part], _SEEDS[split])
        images[part], foreground[part], complexity[part] = drawn
    return EmbeddedImages(images, labels, foreground, complexity)


def embedded_shard(images: int | None = None, *, skip: int = 0) -> Shard:
    """Validation images as a shard; `DEFAULT_IMAGES`, or all that are left, if no number is given.

    Args:
        images: how many.
        skip: how many of the first to pass over, those that another shard has.

    Raises:
        DataError: there are not so many, or none is asked for.
    """
    left = VALIDATION_IMAGES - skip
    if left < 1:
        raise DataError(
            f"The embedded data set has {VALIDATION_IMAGES:,} validation images and none beyond "
            f"the first {skip:,}: give a folder of others."
        )
    drawn = embedded_images(min(DEFAULT_IMAGES, left) if images is None else images, start=skip)
    contents = tuple(hashlib.sha256(image).digest() for image in drawn.images)
    return Shard(
        images=torch.from_numpy(drawn.images),
        labels=torch.from_numpy(drawn.labels),
        names=tuple(
            f"{number:04d} {CLASS_NAMES[label]}"
            for number, label in enumerate(drawn.labels, start=skip)
        ),
        digest=shard_digest(contents, drawn.labels.tolist()),
        source=EMBEDDED,
        contents=contents,
    )


def _draw(
    numbers: Integers, labels: npt.NDArray[np.int64], seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], Floats]:
    """Images, foreground and complexity of a few numbers, back to front."""
    draws = Draws(numbers, seed)
    complexity = draws.uniform()
    clutter = np.maximum(complexity - np.float32(0.2), 0) / np.float32(0.8)
    ground = draws.between(50, 205, 3)
    canvas = painting.gradient(draws, ground)
    painting.add_texture(canvas, draws, amplitude=45 * clutter)
    # Half of the fragments lie behind the shape and half before it.
    wanted = clutter * draws.between(_MAX_FRAGMENTS / 2, _MAX_FRAGMENTS)
    painting.add_fragments(canvas, draws, wanted, range(0, _MAX_FRAGMENTS, 2))
    radius = draws.between(26 - 10 * complexity, 42 - 16 * complexity)
    contrast = draws.between(100, 130) - 75 * complexity
    towards = np.where(ground < 128, np.float32(1), np.float32(-1))  # where there is room
    colour = ground + towards * contrast[:, None] * draws.between(0.5, 1, 3)
    foreground = painting.add_shapes(canvas, draws, labels, radius, colour)
    painting.add_fragments(canvas, draws, wanted, range(1, _MAX_FRAGMENTS, 2))
    painting.add_noise(canvas, draws, amplitude=4 + 26 * clutter)
    return np.clip(canvas, 0, 255).astype(np.uint8), foreground, complexity
