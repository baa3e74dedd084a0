"""The tokens of one forward pass and what is known about them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


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

    def __len__(self) -> int:
        return self.x.shape[1]

    def sizes(self) -> Tensor:
        """Patches behind each token, float32 [batch, tokens], ones included."""
        if self.size is not None:
            return self.size
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
        return replace(self, x=self.x[:, :count], size=size, source=None)
