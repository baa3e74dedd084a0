"""What ATM's paper compares its schedule with: one threshold for all blocks, and fixed counts."""

from dataclasses import dataclass
from typing import ClassVar

from atm_search.errors import ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.matching import alternate_split, key_metric, match
from atm_search.merging.merge import merge
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class ConstantThreshold(Method):
    """ATM with the same threshold in every block, and alternate matching in all.

    Source: arXiv 2505.15160, ablation of the layer-dependent threshold.
    """

    name: ClassVar[str] = "constant-threshold"

    threshold: float
    """Similarity that every block asks for; 0 < threshold <= 1."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ParameterError(
                f"threshold={self.threshold} is not a usable cosine similarity: "
                "use 0 < threshold <= 1."
            )

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """From the least tau_min of ATM's sweep to its greatest tau0."""
        return (Range("threshold", 0.8, 1.0, 0.005),)

    def check(self, depth: int) -> None:
        """Any threshold suits any depth."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge as many pairs as lie above the threshold in the mean over the batch."""
        level = Atm(tau0=self.threshold, alpha=0.0, tau_min=self.threshold, split_depth=layer.depth)
        return level.reduce(tokens, layer)


@dataclass(frozen=True, kw_only=True)
class TopR(Method):
    """Merge the most similar pairs in every block: a count that is constant, rises or falls by one.

    ToMe's merging, with the schedules of ATM's paper.

    Source: arXiv 2505.15160, ablation of the merging schedule.
    """

    name: ClassVar[str] = "top-r"

    r_first: int
    """Tokens removed in the first block; >= 0."""
    step: int = 0
    """What each block adds to the count of the one before: 0 constant, 1 increasing, -1
    decreasing. Counts end at 0."""

    def __post_init__(self) -> None:
        if self.r_first < 0:
            raise ParameterError(
                f"r_first={self.r_first} is negative: it counts the tokens removed in a block."
            )
        if self.step not in (-1, 0, 1):
            raise ParameterError(
                f"step={self.step} is no schedule: use 0 (constant), 1 (increasing) or "
                "-1 (decreasing)."
            )

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """All three schedules."""
        return Range("r_first", 0, 25, 1), Range("step", -1, 1, 1)

    def check(self, depth: int) -> None:
        """Any r suits any depth: the count is capped where too few tokens are left."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge the block's count of pairs, or half of the tokens where that is less."""
        r = self.r_first + self.step * (layer.number - 1)
        if r <= 0 or len(tokens) - tokens.num_prefix_tokens < 2:
            return Reduced(tokens)
        metric = key_metric(layer.keys)
        split = alternate_split(len(tokens), tokens.num_prefix_tokens, device=metric.device)
        matching = match(metric, *split)
        r = min(r, matching.largest_r())
        return Reduced(merge(tokens, matching, r), matching.multiply_adds)
