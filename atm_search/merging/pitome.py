"""PiToMe (arXiv 2405.16148): protect what stands alone, merge what has many like it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from atm_search.merging.matching import Matching, key_metric, match
from atm_search.merging.merge import merge
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.schedule import check_keep_rate, rate_count
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class PiToMe(Method):
    """Merge tokens of high energy: those that many others resemble.

    In the first half of the blocks the energy orders the tokens and the most similar pairs merge;
    in the second only the tokens of highest energy may.

    Source: arXiv 2405.16148 and its official code, whose attention is not proportional.
    """

    name: ClassVar[str] = "pitome"

    keep_rate: float
    """Share of its tokens that every block keeps; 0 < keep_rate <= 1, at least half is kept."""
    prop_attn: bool = False

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Around the published rates, 0.9 to 0.975."""
        return (Range("keep_rate", 0.8, 1.0, 0.005),)

    def check(self, depth: int) -> None:
        """Any keep rate suits any depth."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge the share of tokens that the block does not keep."""
        prefix = tokens.num_prefix_tokens
        patches = len(tokens) - prefix
        r = rate_count(self.keep_rate, patches)
        if r == 0:
            return Reduced(tokens)
        metric = key_metric(layer.keys)
        margin = 0.75 - 0.75 * (layer.number - 1) / layer.depth
        order = _by_energy(metric[:, prefix:], margin) + prefix
        if layer.number <= layer.depth / 2:
            matching = match(metric, order[:, ::2], order[:, 1::2])
        else:
            matching = _match_first(metric, order, r)
        cost = patches**2 * metric.shape[2] + matching.multiply_adds
        return Reduced(merge(tokens, matching, r), cost)


def _by_energy(metric: Tensor, margin: float) -> Tensor:
    """Positions from the highest energy to the lowest, int64 [batch, patches].

    Args:
        metric: unit vectors, float32 [batch, patches, d].
        margin: cosine below which another token hardly counts as like it.
    """
    energy = F.elu(metric @ metric.transpose(1, 2) - margin).mean(dim=2)
    return energy.argsort(dim=1, descending=True, stable=True)


def _match_first(metric: Tensor, order: Tensor, r: int) -> Matching:
    """A matching whose r best edges lead from the first 2r tokens of the order to among them.

    The others are protected: sources, so that they stay, with edges that are never the best.
    """
    found = match(metric, order[:, : 2 * r : 2], order[:, 1 : 2 * r : 2])
    protected = order[:, 2 * r :]
    return Matching(
        sources=torch.cat([found.sources, protected], dim=1),
        destinations=found.destinations,
        score=torch.cat([found.score, torch.full_like(protected, -2, dtype=torch.float32)], dim=1),
        target=torch.cat([found.target, torch.zeros_like(protected)], dim=1),
        multiply_adds=found.multiply_adds,
    )
