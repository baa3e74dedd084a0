"""Adaptive Token Merging (arXiv 2505.15160)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from atm_search.errors import ParameterError
from atm_search.merging.matching import (
    Matching,
    alternate_split,
    key_metric,
    match,
    size_split,
)
from atm_search.merging.merge import merge
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.schedule import threshold_schedule
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Atm(Method):
    """Merge pairs more similar than a threshold that falls with depth.

    Batch-adaptive: in every block the number of pairs above the threshold is averaged over the
    batch, and that many pairs, the most similar ones, merge in every image. What an image gets
    therefore depends on its batch mates; a measurement states its batch size and order.

    Source: arXiv 2505.15160; where the paper is silent, rounding is down (it reproduces the
    GFLOPs of its Table A2 best) and the keys are averaged over heads (as in ToMe).
    """

    name: ClassVar[str] = "atm"

    tau0: float
    """Similarity that block 1 asks for; 0 < tau0 <= 1."""
    alpha: float
    """How fast the threshold falls with depth, Eq. 1; 0 <= alpha <= 1."""
    tau_min: float
    """Least similarity that any block asks for; 0 < tau_min <= tau0."""
    split_depth: int
    """Last block with alternate matching; later ones match small tokens to large ones."""
    cls_only_last_block: bool = True

    def __post_init__(self) -> None:
        threshold_schedule(self.tau0, self.alpha, self.tau_min, depth=1)
        if self.split_depth < 0:
            raise ParameterError(f"split_depth={self.split_depth} is negative: use 0 to the depth.")

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """The published sweep: 12 x 8 x 30 thresholds, and every split depth."""
        return (
            Range("tau0", 0.945, 1.0, 0.005),
            Range("alpha", 0.015, 0.05, 0.005),
            Range("tau_min", 0.8, 0.945, 0.005),
            Range("split_depth", 0, depth, 1),
        )

    def check(self, depth: int) -> None:
        """Raise ParameterError if the split lies beyond the last block."""
        if self.split_depth > depth:
            raise ParameterError(
                f"split_depth={self.split_depth} is beyond the model's {depth} blocks: "
                f"use 0 to {depth}."
            )

    def thresholds(self, depth: int) -> tuple[float, ...]:
        """Similarity threshold of every block, first to last (Eq. 1)."""
        return threshold_schedule(self.tau0, self.alpha, self.tau_min, depth=depth)

    def effective_key(self, depth: int, *, prefix_only_head: bool) -> tuple[Any, ...]:
        """The thresholds and matchings of those blocks in which it acts.

        A tau_min that no block reaches changes nothing, nor does alpha where block 2 is there
        already; after the last block there may be no patch left to merge.
        """
        last = depth - 1 if self.cls_only_last_block and prefix_only_head else depth
        thresholds = self.thresholds(depth)[:last]
        split_depth = min(self.split_depth, last)
        return thresholds, split_depth, self.prop_attn, self.cls_only_last_block

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge as many pairs as lie above the block's threshold in the mean over the batch."""
        if len(tokens) - tokens.num_prefix_tokens < 2:
            return Reduced(tokens)
        matching = self._match(tokens, layer)
        threshold = self.thresholds(layer.depth)[layer.number - 1]
        above = int((matching.score >= threshold).sum())  # over the batch, an exact integer
        r = min(above // len(tokens.x), matching.largest_r())
        return Reduced(merge(tokens, matching, r), matching.multiply_adds)

    def _match(self, tokens: Tokens, layer: Layer) -> Matching:
        metric = key_metric(layer.keys)
        if layer.number <= self.split_depth:
            sources, destinations = alternate_split(
                len(tokens), tokens.num_prefix_tokens, device=metric.device
            )
        else:
            sources, destinations = size_split(tokens.sizes(), tokens.num_prefix_tokens)
        return match(metric, sources, destinations)
