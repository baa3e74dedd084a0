"""The tokens of one forward pass and what is known about them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

Count = int | Tensor
"""Tokens per image; int64 [batch] where images differ."""


@dataclass(frozen=True)
class Tokens:
    """Tokens between two steps of a block, with merging sizes and, if asked for, their origin.

    Belongs to one forward pass: every step returns a new value and none keeps state.
    """

    x: Tensor
    """Features, [batch, tokens, dim]; the prefix tokens stand first."""
    num_prefix_tokens: int
    """Class, distillation and register tokens: never merged, never dropped."""
    size: Tensor | None = None
    """Patches behind each token, float32 [batch, tokens]; None while every token is one patch."""
    source: Tensor | None = None
    """Position that now holds each original token, int64 [batch, original tokens], -1 if dropped;
    None unless asked for."""
    count: Tensor | None = None
    """Tokens of each image, int64 [batch], where images differ: rows beyond are padding, which no
    token attends to and no head reads. None if there is no padding."""

    def __len__(self) -> int:
        return self.x.shape[1]

    @property
    def per_image(self) -> Count:
        """Tokens per image, padding not among them."""
        return len(self) if self.count is None else self.count

    def sizes(self) -> Tensor:
        """Patches behind each token, float32 [batch, tokens], ones included; 0 for padding."""
        if self.size is not None:
            return self.size
        if self.count is not None:
            rows = torch.arange(len(self), device=self.x.device)
            return (rows < self.count[:, None]).float()
        return torch.ones(self.x.shape[:2], dtype=torch.float32, device=self.x.device)

    def with_source(self) -> "Tokens":
        """The same tokens, with a source map that says each holds itself."""
        batch, count, _ = self.x.shape
        here = torch.arange(count, device=self.x.device).expand(batch, count)
        return replace(self, source=here)

    def prefix_only(self) -> "Tokens":
        """Only the prefix tokens: all that a class-token readout still needs.

        The source map is left out: a picture shows what the blocks before have merged.
        """
        count = self.num_prefix_tokens
        size = None if self.size is None else self.size[:, :count]
        return replace(self, x=self.x[:, :count], size=size, source=None, count=None)


def rows(x: Tensor, positions: Tensor) -> Tensor:
    """x [batch, tokens, dim] at positions [batch, n] of its tokens, [batch, n, dim].

    Whole rows by their flat index: a gather with the index expanded over dim takes several times
    as long.
    """
    picked = x.flatten(0, 1).index_select(0, flat(positions, x.shape[1]))
    return picked.view(*positions.shape, x.shape[2])


def flat(positions: Tensor, count: int) -> Tensor:
    """Positions [batch, n] among the `count` rows of every image, [batch * n]."""
    start = torch.arange(positions.shape[0], device=positions.device)[:, None] * count
    return (positions + start).flatten()
