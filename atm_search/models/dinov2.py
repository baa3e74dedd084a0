"""DINOv2 (arXiv 2304.07193) with its official linear classifier of one layer."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atm_search.models.mixed import MIXED, MixedReadOut

SIZES: dict[str, dict[str, int]] = {
    "s": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "b": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "l": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}
"""Architecture of the sizes that share one kind of block."""

PATCH_SIZE = 14
REGISTERS = 4


class Dinov2(MixedReadOut):
    """DINOv2 with a head that reads the class token beside the mean of the patches.

    A merged token counts in that mean as often as it holds patches. The official classifier of four
    layers reads the class tokens of the last four blocks and is not supported.
    """

    def __init__(self, *, registers: bool = False, num_classes: int = 1000, **size: Any) -> None:
        """Build it with random weights for images of 224 pixels, 256 patches.

        Args:
            registers: the variant with four register tokens.
            num_classes: of the head.
            size: embed_dim, depth, num_heads, and what else timm takes.
        """
        if registers:
            size |= {"reg_tokens": REGISTERS, "no_embed_class": True}
        super().__init__(num_classes=num_classes, patch_size=PATCH_SIZE, init_values=1.0, **size)
        self.head = nn.Linear(2 * self.embed_dim, num_classes)
        self.global_pool = MIXED

    def read_out(self, x: Tensor, size: Tensor | None) -> Tensor:
        """Logits of the class token and the mean over patches."""
        patches = x[:, self.num_prefix_tokens :]
        if size is None:
            mean = patches.mean(dim=1)
        else:
            weights = size[:, self.num_prefix_tokens :, None]
            mean = ((patches.float() * weights).sum(dim=1) / weights.sum(dim=1)).to(x.dtype)
        logits: Tensor = self.head(torch.cat([x[:, 0], mean], dim=1))
        return logits


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the official classifier under the names that timm understands.

    Its positions are of images of 518 pixels; the official model interpolates them in every pass,
    and here they are interpolated once, in the same way, to those of 224 pixels.
    """
    named = {
        name.removeprefix("backbone.").replace("linear_head.", "head."): x
        for name, x in state.items()
    }
    if "mask_token" not in named:
        return named  # not an official file
    del named["mask_token"]
    registers = named.pop("register_tokens", None)
    positions = _interpolated(named["pos_embed"], exact=registers is not None)
    if registers is not None:
        # timm has no positions of prefix tokens here: the class token carries its own.
        named |= {"reg_token": registers, "cls_token": named["cls_token"] + positions[:, :1]}
        positions = positions[:, 1:]
    return named | {"pos_embed": positions}


def _interpolated(positions: Tensor, *, exact: bool, side: int = 224 // PATCH_SIZE) -> Tensor:
    """Positions [1, 1 + side * side, dim] from a larger square grid, class token first.

    The models without registers were trained with a slightly too large scale and without
    antialiasing, those with registers (`exact`) with neither flaw.
    """
    first, grid = positions[:, :1], positions[:, 1:]
    width = math.isqrt(grid.shape[1])
    if width == side:
        return positions
    square = grid.transpose(1, 2).reshape(1, -1, width, width).float()
    if exact:
        square = F.interpolate(square, size=(side, side), mode="bicubic", antialias=True)
    else:
        square = F.interpolate(square, scale_factor=(side + 0.1) / width, mode="bicubic")
    return torch.cat([first, square.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)
