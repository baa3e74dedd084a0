"""Which patches a token holds, and how that looks: numpy and Pillow, nothing of models."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Regions = npt.NDArray[np.int64]
"""[rows, columns] of the patch grid: the token that holds each patch, -1 if it was dropped."""

LINE = (255, 255, 255)
DROPPED = (0, 0, 0)


def regions(source: Any, *, num_prefix_tokens: int, grid: tuple[int, int]) -> Regions:
    """The token that holds each patch of one image.

    Args:
        source: position that holds each original token, int64 [original tokens], -1 if dropped;
            prefix tokens first.
        num_prefix_tokens: class, distillation and register tokens, which hold no patch.
        grid: rows and columns of patches.

    Raises:
        ValueError: there are not as many patches as the grid has.
    """
    return np.asarray(source)[num_prefix_tokens:].reshape(grid).astype(np.int64)


def sizes(grid: Regions) -> dict[int, int]:
    """Patches behind each token, by token; dropped patches are behind none."""
    tokens, counts = np.unique(grid[grid >= 0], return_counts=True)
    return dict(zip(tokens.tolist(), counts.tolist(), strict=True))


def draw(pixels: npt.NDArray[np.uint8], grid: Regions, *, width: int) -> Image.Image:
    """An image with every merged token in its mean colour, and lines where tokens meet.

    A patch that nothing was merged into keeps its pixels, so what is still sharp is unmerged.
    A token's patches need not touch: all of them have its colour.

    Args:
        pixels: [3, height, width], uint8, of whole patches.
        grid: which token holds each patch.
        width: of the picture, in pixels; the height follows.
    """
    image = np.moveaxis(np.asarray(pixels), 0, -1)  # [height, width, 3]
    patch = image.shape[0] // grid.shape[0], image.shape[1] // grid.shape[1]
    tokens = grid.repeat(patch[0], axis=0).repeat(patch[1], axis=1)
    painted = _mean_colours(
        image, tokens, merged=[n for n, size in sizes(grid).items() if size > 1]
    )
    painted[tokens < 0] = DROPPED
    height = round(width * image.shape[0] / image.shape[1])
    picture = Image.fromarray(painted).resize((width, height), Image.Resampling.NEAREST)
    _lines(ImageDraw.Draw(picture), grid, width / grid.shape[1], height / grid.shape[0])
    return picture


def _mean_colours(
    image: npt.NDArray[np.uint8], tokens: Regions, *, merged: list[int]
) -> npt.NDArray[np.uint8]:
    """The image with the mean colour wherever a merged token is, [height, width, 3]."""
    index = tokens.clip(min=0).ravel()
    counts = np.bincount(index).clip(min=1)
    means = [np.bincount(index, weights=image[..., c].ravel()) / counts for c in range(3)]
    colours = np.stack(means, axis=-1).round().astype(np.uint8)  # [tokens, 3]
    return np.where(np.isin(tokens, merged)[..., None], colours[index].reshape(image.shape), image)


def _lines(drawing: ImageDraw.ImageDraw, grid: Regions, wide: float, high: float) -> None:
    """A line along every edge between two patches of different tokens."""
    for row, column in np.argwhere(grid[:, 1:] != grid[:, :-1]).tolist():
        x = round((column + 1) * wide)
        drawing.line([(x, round(row * high)), (x, round((row + 1) * high))], fill=LINE)
    for row, column in np.argwhere(grid[1:] != grid[:-1]).tolist():
        y = round((row + 1) * high)
        drawing.line([(round(column * wide), y), (round((column + 1) * wide), y)], fill=LINE)
