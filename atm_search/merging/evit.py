"""EViT (arXiv 2202.07800), used without its training."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.pruning import by_importance, cls_attention, keep
from atm_search.merging.schedule import acting_blocks, check_keep_rate
from atm_search.merging.tokens import Tokens, rows


@dataclass(frozen=True, kw_only=True)
class Evit(Method):
    """Keep what the class token attends to most, in three blocks; fuse the rest into one token.

    The blocks stand after one, two and three quarters of the depth: 4, 7 and 10 of 12. The fused
    token is from then on one like any other. The published accuracies are of models trained with
    it; here it runs in models that were not.

    Source: arXiv 2202.07800. The fused token's weights are the attention itself and do not sum to
    1, as in the official code.
    """

    name: ClassVar[str] = "evit"
    needs_class_token: ClassVar[bool] = True

    keep_rate: float
    """Share of the tokens that each of the three blocks keeps, rounded up; 0 < keep_rate <= 1."""
    fuse: bool = True
    """Whether what is dropped goes on as one token."""

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Keep rates around the published ones, 0.5 to 0.9."""
        return (Range("keep_rate", 0.3, 1.0, 0.01),)

    def check(self, depth: int) -> None:
        """Any keep rate suits any depth."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Keep the share of tokens with the highest attention of the class token."""
        prefix = tokens.num_prefix_tokens
        patches = len(tokens) - prefix
        kept = math.ceil(self.keep_rate * patches)
        if layer.number not in acting_blocks(layer.depth) or kept >= patches:
            return Reduced(tokens)
        attention, multiply_adds = cls_attention(layer, tokens.size if self.prop_attn else None)
        order = by_importance(attention, prefix)
        staying, leaving = order[:, :kept].sort(dim=1).values, order[:, kept:]
        reduced = keep(tokens, staying, dropped_to=prefix + kept if self.fuse else -1)
        if self.fuse:
            weights = attention.gather(1, leaving)[:, None]  # [batch, 1, dropped]
            fused = (weights @ rows(tokens.x, leaving).float()).to(tokens.x.dtype)
            reduced = replace(reduced, x=torch.cat([reduced.x, fused], dim=1))
        return Reduced(reduced, multiply_adds)
