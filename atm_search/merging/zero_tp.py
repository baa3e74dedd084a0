"""Zero-TPrune (arXiv 2305.17328)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atm_search.errors import ParameterError
from atm_search.merging.matching import key_metric, match
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.pruning import by_importance, keep
from atm_search.merging.schedule import check_keep_rate
from atm_search.merging.tokens import Tokens

OF_TWELVE = (1, 3, 6, 9, 11)
"""Blocks of a model of twelve after which tokens are dropped."""


@dataclass(frozen=True, kw_only=True)
class ZeroTP(Method):
    """Drop tokens after five blocks: such as have a likeness, then such as matter little.

    Importance is a weighted PageRank of the block's attention, head by head: a token matters if
    tokens that matter attend to it. Heads whose scores vary too little or too much are left out.

    Source: summaries of arXiv 2305.17328; no official code was found. Not confirmed, and ours: the
    blocks (1, 3, 6, 9 and 11 of 12), one rate and one count for all of them, and that the limits on
    the variance are of scores with mean 1.
    """

    name: ClassVar[str] = "zero-tp"

    keep_rate: float
    """Share of the tokens that each of the five blocks keeps for their importance, rounded up;
    0 < keep_rate <= 1."""
    r_similar: int = 10
    """Tokens that each of the five blocks drops before, for having a likeness; >= 0."""
    least_variance: float = 0.01
    """Heads whose scores, scaled to mean 1, vary less are left out."""
    largest_variance: float = 0.7
    """Heads whose scores vary more are left out; if none would be left, none is left out."""

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)
        if self.r_similar < 0:
            raise ParameterError(
                f"r_similar={self.r_similar} is negative: it counts the tokens dropped in a block."
            )
        if not 0.0 <= self.least_variance <= self.largest_variance:
            raise ParameterError(
                f"least_variance={self.least_variance} and largest_variance="
                f"{self.largest_variance} leave no head: use 0 <= least <= largest."
            )

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Both ways of dropping, each from none to most."""
        return Range("keep_rate", 0.5, 1.0, 0.01), Range("r_similar", 0, 30, 1)

    def check(self, depth: int) -> None:
        """Any rate suits any depth."""

    def needs_probabilities(self, number: int, depth: int) -> bool:
        """In the blocks after which tokens are dropped."""
        nothing = self.keep_rate == 1.0 and self.r_similar == 0
        return not nothing and number in {max(1, of * depth // 12) for of in OF_TWELVE}

    def after_block(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Drop what has a likeness among more important tokens, then what matters least."""
        if not self.needs_probabilities(layer.number, layer.depth) or (
            len(tokens) - tokens.num_prefix_tokens < 2
        ):
            return Reduced(tokens)
        probabilities, _ = layer.spelt_out()
        positions, cost = self._unlike(tokens, layer, probabilities)
        patches = positions.shape[1]
        kept = math.ceil(self.keep_rate * patches)
        if kept < patches:
            prefix = torch.arange(tokens.num_prefix_tokens, device=positions.device)
            among = torch.cat([prefix.expand(len(positions), -1), positions], dim=1)
            iterations = _iterations(layer)
            score = self._importance(_restrict(probabilities, among), prefix.numel(), iterations)
            best = by_importance(score, prefix.numel())[:, :kept].sort(dim=1).values
            positions = among.gather(1, best)
            cost += iterations * probabilities.shape[1] * among.shape[1] ** 2
        return Reduced(keep(tokens, positions), cost)

    def _unlike(self, tokens: Tokens, layer: Layer, probabilities: Tensor) -> tuple[Tensor, int]:
        """Positions of the patches that stay, ascending, [batch, n], and what that cost.

        Of the less important half those go that are most like one of the more important.
        """
        prefix = tokens.num_prefix_tokens
        score = self._importance(probabilities, prefix, iterations=1)
        order = by_importance(score, prefix)
        half = order.shape[1] - order.shape[1] // 2
        matching = match(key_metric(layer.keys), order[:, half:], order[:, :half])
        r = min(self.r_similar, matching.largest_r())
        ranked = matching.score.argsort(dim=1, descending=True, stable=True)
        rest = matching.sources.gather(1, ranked[:, r:])
        staying = torch.cat([matching.destinations, rest], dim=1).sort(dim=1).values
        return staying, probabilities[0].numel() + matching.multiply_adds

    def _importance(self, probabilities: Tensor, prefix: int, iterations: int) -> Tensor:
        """Weighted PageRank over all heads that are let in, float32 [batch, tokens].

        The class token starts with more weight than the others, if there is one.
        """
        batch, heads, count, _ = probabilities.shape
        score = torch.ones(batch, heads, 1, count, device=probabilities.device)
        if prefix > 0:
            score[..., 0] = math.sqrt(count)
        score = score / score.sum(dim=3, keepdim=True)
        for _ in range(iterations):
            score = score @ probabilities
        score = score[:, :, 0] * count  # mean 1, [batch, heads, tokens]
        variance = score.var(dim=2, correction=0)
        kept = (variance >= self.least_variance) & (variance <= self.largest_variance)
        kept = kept | ~kept.any(dim=1, keepdim=True)
        weight = kept.float() / kept.sum(dim=1, keepdim=True)
        return (score.square() * weight[:, :, None]).sum(dim=1).sqrt()


def _iterations(layer: Layer) -> int:
    """Steps of the PageRank: many in the first three blocks, one in the last three."""
    if layer.number <= 3:
        return 30
    return 1 if layer.number > layer.depth - 3 else 5


def _restrict(probabilities: Tensor, among: Tensor) -> Tensor:
    """What tokens at positions [batch, n] attend to among themselves, rows summing to 1."""
    _, heads, count, _ = probabilities.shape
    index = among[:, None, :, None]
    some = probabilities.gather(2, index.expand(-1, heads, -1, count))
    some = some.gather(3, among[:, None, None].expand(-1, heads, among.shape[1], -1))
    return some / some.sum(dim=3, keepdim=True).clamp(min=1e-20)
