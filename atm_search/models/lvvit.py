"""LV-ViT (arXiv 2104.10858), under the names of its official checkpoints."""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from atm_search.models.mixed import MIXED, MixedReadOut

SIZES: dict[str, dict[str, Any]] = {
    "t": {"embed_dim": 240, "depth": 12, "num_heads": 4, "skip_lam": 1.0},
    "s": {"embed_dim": 384, "depth": 16, "num_heads": 6, "skip_lam": 2.0},
    "m": {"embed_dim": 512, "depth": 20, "num_heads": 8, "skip_lam": 2.0},
}
"""Architecture of each published size; `skip_lam` divides every residual branch."""


class LvVit(MixedReadOut):
    """LV-ViT: convolutional stem, scaled residual branches, a second head on every patch.

    The official evaluation adds half of the best patch's score, class by class:
    `head(cls) + 0.5 * max over patches of aux_head(patch)`. A merged token is one candidate of
    that maximum, whatever its size.
    """

    def __init__(
        self,
        *,
        skip_lam: float,
        read_patches: bool = True,
        num_classes: int = 1000,
        **architecture: Any,
    ) -> None:
        """Build it with random weights.

        Args:
            skip_lam: divisor of every residual branch, > 0.
            read_patches: the official readout; False reads the class token alone, which lets the
                last block keep nothing else, and leaves `aux_head` unused.
            num_classes: of both heads.
            architecture: embed_dim, depth, num_heads, and what else timm takes.
        """
        super().__init__(
            num_classes=num_classes,
            mlp_ratio=3.0,
            qkv_bias=False,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
            embed_layer=ConvStem,
            **architecture,
        )
        self.aux_head = nn.Linear(self.embed_dim, num_classes)
        self.global_pool = MIXED if read_patches else "token"
        if skip_lam != 1.0:
            # In the place of LayerScale: timm's block applies it before the residual sum, and the
            # weights stay those of the checkpoint.
            for block in self.blocks:
                block.ls1, block.ls2 = Divide(skip_lam), Divide(skip_lam)

    def read_out(self, x: Tensor, size: Tensor | None) -> Tensor:
        """Logits of the class token plus half of the best patch's, class by class."""
        logits: Tensor = self.head(x[:, 0]) + 0.5 * self.aux_head(x[:, 1:]).amax(dim=1)
        return logits

    @property
    def token_head(self) -> nn.Linear | None:
        """The head of every patch, if it is read."""
        return self.aux_head if self.global_pool == MIXED else None


class Divide(nn.Module):
    """Divides by a constant."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        """x / by."""
        return x / self.by


class ConvStem(nn.Module):
    """Patch embedding of four convolutions, 16 x 16 pixels per patch.

    Its first three see overlapping neighbourhoods at half the resolution; only the last cuts
    patches.
    """

    patch_size = (16, 16)

    def __init__(
        self, *, img_size: int = 224, in_chans: int = 3, embed_dim: int = 768, **_: Any
    ) -> None:
        """Build it; timm passes more that this stem has no use for, such as patch_size."""
        super().__init__()
        self.img_size = (img_size, img_size)
        self.grid_size = (img_size // 16, img_size // 16)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        width = 64
        self.conv1 = nn.Conv2d(in_chans, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.proj = nn.Conv2d(width, embed_dim, 8, stride=8)

    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens [batch, patches, dim] of images [batch, channels, height, width]."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        patches: Tensor = self.proj(x)
        return patches.flatten(2).transpose(1, 2)
