"""EViT (arXiv 2202.07800), used without its training."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from atm_search.merging.method import Layer, Reduced
from atm_search.merging.pruning import KeepAttended, keep
from atm_search.merging.tokens import Tokens, rows


@dataclass(frozen=True, kw_only=True)
class Evit(KeepAttended):
    """Keep what the class token attends to most, in three blocks; fuse the rest into one token.

    The fused token is from then on one like any other. The published accuracies are of models
    trained with it; here it runs in models that were not.

    Source: arXiv 2202.07800. The fused token's weights are the attention itself and do not sum to
    1, as in the official code.
    """

    name: ClassVar[str] = "evit"

    fuse: bool = True
    """Whether what is dropped goes on as one token."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Keep the share of tokens with the highest attention of the class token."""
        ranked = self.ranked(tokens, layer)
        if ranked is None:
            return Reduced(tokens)
        last = tokens.num_prefix_tokens + ranked.staying.shape[1]
        reduced = keep(tokens, ranked.staying, dropped_to=last if self.fuse else -1)
        if self.fuse:
            weights = ranked.attention.gather(1, ranked.leaving)[:, None]  # [batch, 1, dropped]
            fused = (weights @ rows(tokens.x, ranked.leaving).float()).to(tokens.x.dtype)
            reduced = replace(reduced, x=torch.cat([reduced.x, fused], dim=1))
        return Reduced(reduced, ranked.multiply_adds)
