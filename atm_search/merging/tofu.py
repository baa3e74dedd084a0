"""Token Fusion (arXiv 2312.01026): prune early, merge late without shrinking features."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from atm_search.merging.matching import Matching, alternate_split, key_metric, match
from atm_search.merging.merge import merge
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.pruning import keep
from atm_search.merging.schedule import check_keep_rate, rate_count
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class ToFu(Method):
    """ToMe's matching; in the first half of the blocks sources are dropped, in the second merged.

    A merged token has the mean's direction and the length of its longest member. Sizes are not
    kept, so attention is never proportional.

    Source: arXiv 2312.01026, in the reading of a third-party port; not confirmed by the authors'.
    """

    name: ClassVar[str] = "tofu"

    keep_rate: float
    """Share of its tokens that every block keeps; 0 < keep_rate <= 1, at least half is kept."""

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """The rates of PiToMe."""
        return (Range("keep_rate", 0.8, 1.0, 0.005),)

    def check(self, depth: int) -> None:
        """Any keep rate suits any depth."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Drop or merge the share of tokens that the block does not keep."""
        prefix = tokens.num_prefix_tokens
        r = rate_count(self.keep_rate, len(tokens) - prefix)
        if r == 0:
            return Reduced(tokens)
        metric = key_metric(layer.keys)
        split = alternate_split(len(tokens), prefix, device=metric.device)
        matching = match(metric, *split)
        r = min(r, matching.largest_r())
        order = matching.score.argsort(dim=1, descending=True, stable=True)
        if layer.number - 1 <= layer.depth / 2:
            unmerged = order[:, r:].sort(dim=1).values
            staying = [matching.sources.gather(1, unmerged), matching.destinations]
            reduced = keep(tokens, torch.cat(staying, dim=1))
        else:
            reduced = _merge_keeping_norm(tokens, matching, order[:, :r])
        return Reduced(reduced, matching.multiply_adds)


def _merge_keeping_norm(tokens: Tokens, matching: Matching, merged: Tensor) -> Tokens:
    """The tokens after the sources `merged` [batch, r] have joined their best destinations."""
    norm = tokens.x.float().norm(dim=2)
    longest = norm.gather(1, matching.destinations).scatter_reduce(
        1,
        matching.target.gather(1, merged),
        norm.gather(1, matching.sources.gather(1, merged)),
        "amax",
    )
    averaged = merge(replace(tokens, size=None), matching, merged.shape[1])
    count = longest.shape[1]  # destinations stand last
    mean = averaged.x[:, -count:].float()
    factor = longest / mean.norm(dim=2).clamp(min=1e-6)
    rescaled = (mean * factor[:, :, None]).to(tokens.x.dtype)
    x = torch.cat([averaged.x[:, :-count], rescaled], dim=1)
    return replace(averaged, x=x, size=None)
