"""T2T-ViT_t (arXiv 2101.11986): the models whose tokens-to-token module is a transformer.

Not those named T2T-ViT without the t, whose module is a Performer.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZES: dict[str, dict[str, int]] = {
    "14": {"embed_dim": 384, "depth": 14, "num_heads": 6},
    "19": {"embed_dim": 448, "depth": 19, "num_heads": 7},
}
"""Architecture of the sizes that the paper of ATM measures."""

TOKEN_DIM = 64
"""Width of the tokens inside the tokens-to-token module."""


class T2tVit(VisionTransformer):  # type: ignore[misc]  # timm is not annotated
    """A plain ViT on the tokens of `TokensToToken`, with fixed sinusoidal positions."""

    def __init__(self, **architecture: Any) -> None:
        """Build it with random weights; takes embed_dim, depth, num_heads and more of timm's."""
        super().__init__(
            mlp_ratio=3.0,
            qkv_bias=False,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
            embed_layer=TokensToToken,
            **architecture,
        )
        positions = sinusoids(self.pos_embed.shape[1], self.embed_dim)
        with torch.no_grad():
            self.pos_embed.copy_(positions)


class TokensToToken(nn.Module):
    """Patch embedding in three steps, each of overlapping windows; attention between them.

    Tokens per image of 224 pixels: 3136, 784, 196. Merging starts after it, so what it costs (26 %
    of T2T-ViT_t-14) no method saves.
    """

    patch_size = (16, 16)

    def __init__(
        self, *, img_size: int = 224, in_chans: int = 3, embed_dim: int = 768, **_: Any
    ) -> None:
        """Build it; timm passes more that this module has no use for, such as patch_size."""
        super().__init__()
        self.img_size = (img_size, img_size)
        self.grid_size = (img_size // 16, img_size // 16)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.attention1 = TokenTransformer(in_chans * 7 * 7, TOKEN_DIM)
        self.attention2 = TokenTransformer(TOKEN_DIM * 3 * 3, TOKEN_DIM)
        self.project = nn.Linear(TOKEN_DIM * 3 * 3, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens [batch, patches, dim] of images [batch, channels, height, width]."""
        x = F.unfold(images, 7, stride=4, padding=2).transpose(1, 2)
        x = _windows(self.attention1(x), side=self.img_size[0] // 4)
        x = _windows(self.attention2(x), side=self.img_size[0] // 8)
        tokens: Tensor = self.project(x)
        return tokens


class TokenTransformer(nn.Module):
    """A transformer block that changes the width of its tokens."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.attn = NarrowingAttention(in_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden_features=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, tokens, dim] of wider ones [batch, tokens, in_dim]."""
        x = self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class NarrowingAttention(nn.Module):
    """Attention of one head with its own residual sum, from the values: widths differ."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.scale = in_dim**-0.5  # of the input's width, as the official weights were trained
        self.qkv = nn.Linear(in_dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, tokens, dim] of wider ones [batch, tokens, in_dim]."""
        # With a head dimension of one, which the fused kernels ask for.
        q, k, v = self.qkv(x)[:, None].chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        out: Tensor = v[:, 0] + self.proj(attended[:, 0])
        return out


def _windows(x: Tensor, side: int) -> Tensor:
    """Windows of 3 x 3 tokens at every second place, [batch, tokens / 4, 9 * dim]."""
    grid = x.transpose(1, 2).reshape(len(x), -1, side, side)
    return F.unfold(grid, 3, stride=2, padding=1).transpose(1, 2)


def sinusoids(count: int, dim: int) -> Tensor:
    """Fixed positions, float32 [1, count, dim]: sines at even channels, cosines at odd ones.

    Source: arXiv 1706.03762, section 3.5.
    """
    channel = torch.arange(dim, dtype=torch.float64)
    rate = 10000.0 ** (-2 * (channel // 2) / dim)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official checkpoint under the names of `T2tVit`; its own stay."""
    return {name.replace("tokens_to_token.", "patch_embed."): x for name, x in state.items()}
