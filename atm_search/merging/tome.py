"""Token Merging (arXiv 2210.09461), the constant-count method that ATM builds on."""

from dataclasses import dataclass
from typing import ClassVar

from atm_search.merging.matching import alternate_split, key_metric, match
from atm_search.merging.merge import merge
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.schedule import count_schedule
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Tome(Method):
    """Merge the r most similar pairs in every block, at most half of the tokens.

    Source: arXiv 2210.09461.
    """

    name: ClassVar[str] = "tome"

    r: int
    """Tokens removed in a block, in the mean over blocks; >= 0."""
    inflection: float = 0.0
    """Slope of r over depth, -1 to 1; 0 removes r in every block."""

    def __post_init__(self) -> None:
        count_schedule(self.r, inflection=self.inflection, depth=1)

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """r = 0 to 25: at 25 a model of 12 blocks and 197 tokens has merged all but a few."""
        return (Range("r", 0, 25, 1),)

    def check(self, depth: int) -> None:
        """Any r suits any depth: the count is capped where too few tokens are left."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge r pairs, or half of the tokens where that is less."""
        r = count_schedule(self.r, inflection=self.inflection, depth=layer.depth)[layer.number - 1]
        if r == 0 or len(tokens) - tokens.num_prefix_tokens < 2:
            return Reduced(tokens)
        metric = key_metric(layer.keys)
        matching = match(
            metric,
            *alternate_split(len(tokens), tokens.num_prefix_tokens, device=metric.device),
        )
        return Reduced(
            merge(tokens, matching, min(r, matching.largest_r())), matching.multiply_adds
        )
