"""Pictures of what a configuration merges, as in Figures 7 and A1 of arXiv 2505.15160.

Every image is run alone. In a measurement a batch-adaptive method merges by the mean over a batch,
so that all images of a batch keep as many tokens; alone, an image keeps what it asks for itself,
and simple images visibly fewer than complex ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from atm_search.data.shard import Shard
from atm_search.measure.flops import GIGA, CostModel
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method
from atm_search.merging.tome import Tome
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel
from atm_search.show.regions import Regions, draw, regions

CANDIDATES = 48
"""Images of a shard, from its start, that examples are chosen from."""

TILE, GAP, HEADING, CAPTION = 168, 8, 44, 20
"""Pixels: width of one picture, space between them, height of the headings and of a caption."""

INK, PAPER = (31, 41, 55), (255, 255, 255)


@dataclass(frozen=True)
class Merged:
    """What a method made of one image alone."""

    tokens: tuple[int, ...]
    """After each block's merging."""
    gflops: float
    regions: tuple[Regions, ...]
    """After each block that still has patches, first to last."""


def merge_alone(model: LoadedModel, method: Method, pixels: Tensor) -> Merged:
    """What a method makes of one uint8 image [3, height, width] in a batch of its own."""
    network = model.network
    with torch.inference_mode():
        forward = run(network, method, model.prepare(pixels[None]), track_sources=True)
    cost = CostModel.of(network, model.preprocessing.input_size)
    return Merged(
        tokens=tuple(round(count) for count in forward.mlp_tokens),
        gflops=cost.of_pass(forward) / GIGA,
        regions=tuple(
            regions(
                source[0].cpu().numpy(),
                num_prefix_tokens=network.num_prefix_tokens,
                grid=tuple(network.patch_embed.grid_size),
            )
            for source in forward.sources or ()
        ),
    )


def simple_to_complex(model: LoadedModel, shard: Shard, count: int) -> list[int]:
    """Images of a shard, evenly spread from the simplest to the most complex of its first 48.

    An image is the simpler, the fewer tokens it keeps, summed over blocks, when it is run alone
    with a configuration in the middle of the published range. That one is the same whatever is
    looked at, so pictures of different trials show the same images.

    Returns:
        Up to `count` indices, simplest first.
    """
    method = Atm(
        tau0=0.985,
        alpha=0.025,
        tau_min=0.885,
        split_depth=model.depth * 3 // 4,
        prop_attn=model.prop_attn,
    )
    candidates = range(min(CANDIDATES, len(shard)))
    kept = {
        index: sum(merge_alone(model, method, shard.images[index]).tokens) for index in candidates
    }
    ordered = sorted(candidates, key=kept.__getitem__)
    count = min(count, len(ordered))
    if count == 1:
        return ordered[:1]
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


def tome_at(model: LoadedModel, pixels: Tensor, gflops: float) -> Tome:
    """ToMe with the r whose GFLOPs come nearest; they depend on r alone, not on the image.

    Args:
        model: any.
        pixels: an image to run, uint8 [3, height, width].
        gflops: per image, to come near to.
    """
    largest = int(model.network.patch_embed.num_patches) // 2
    candidates = [Tome(r=item, prop_attn=model.prop_attn) for item in range(largest + 1)]
    low, high = 0, len(candidates) - 1
    while low < high:  # the first r that costs no more: GFLOPs fall with r
        middle = (low + high) // 2
        if merge_alone(model, candidates[middle], pixels).gflops <= gflops:
            high = middle
        else:
            low = middle + 1
    nearest = candidates[max(low - 1, 0) : low + 1]
    return min(nearest, key=lambda m: abs(merge_alone(model, m, pixels).gflops - gflops))


def token_picture(
    model: LoadedModel,
    shard: Shard,
    method: Method,
    *,
    gflops: float,
    examples: Sequence[int],
) -> Image.Image:
    """A sheet: a row per image; the image, then first, middle and last merging, then ToMe's.

    Args:
        model: the model.
        shard: its images.
        method: whose merging to show.
        gflops: what it was measured with; ToMe stands beside it at the same.
        examples: indices into the shard, for instance of `simple_to_complex`.
    """
    rival = tome_at(model, shard.images[examples[0]], gflops)
    rows = []
    for index in examples:
        pixels = shard.images[index]
        own, other = (merge_alone(model, each, pixels) for each in (method, rival))
        blocks = _blocks(min(len(own.regions), len(other.regions)))
        rows.append((pixels.numpy(), own, other, blocks))
    blocks = rows[0][3]
    cost = merge_alone(model, rival, shard.images[examples[0]]).gflops
    headings = ["image"]
    for title in (f"{method.name}, {gflops:.3f} GFLOPs", f"tome r={rival.r}, {cost:.3f} GFLOPs"):
        headings += [f"{title}\nblock {block}" for block in blocks]
    sheet = _Sheet(headings, rows=len(rows), aspect=shard.images.shape[2] / shard.images.shape[3])
    for row, (image, own, other, _) in enumerate(rows):
        sheet.put(row, 0, _plain(image), f"{method.name} alone: {own.gflops:.3f} GFLOPs")
        for side, merged in enumerate((own, other)):
            for place, block in enumerate(blocks):
                picture = draw(image, merged.regions[block - 1], width=TILE)
                caption = f"{merged.tokens[block - 1]} tokens"
                sheet.put(row, 1 + side * len(blocks) + place, picture, caption)
    return sheet.image


def _blocks(last: int) -> list[int]:
    """First, middle and last of the blocks that have patches, each once; from 1."""
    return sorted({1, (last + 1) // 2, last})


def _plain(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    return image.resize((TILE, round(TILE * image.height / image.width)), Image.Resampling.LANCZOS)


class _Sheet:
    """Pictures in rows and columns, with headings above and a caption below each."""

    def __init__(self, headings: Sequence[str], *, rows: int, aspect: float) -> None:
        self._high = round(TILE * aspect) + CAPTION + GAP
        size = len(headings) * (TILE + GAP) + GAP, HEADING + rows * self._high
        self.image = Image.new("RGB", size, PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(size=13)
        for column, heading in enumerate(headings):
            self._draw.multiline_text(
                (self._x(column), 6), heading, fill=INK, font=self._font, spacing=2
            )

    def put(self, row: int, column: int, picture: Image.Image, caption: str) -> None:
        """A picture with its caption."""
        x, y = self._x(column), HEADING + row * self._high
        self.image.paste(picture, (x, y))
        self._draw.text((x, y + picture.height + 1), caption, fill=INK, font=self._font)

    def _x(self, column: int) -> int:
        return GAP + column * (TILE + GAP)
