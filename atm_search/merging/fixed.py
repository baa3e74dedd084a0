"""A fixed schedule: ATM's matching with counts that no longer depend on the batch."""

from collections.abc import Sequence
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
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Fixed(Method):
    """Merge a given number of pairs in every block, the most similar ones.

    What ATM becomes when its mean counts are frozen. An image's answer does not depend on its
    batch mates, and every shape is known in advance, so a model can be exported.
    """

    name: ClassVar[str] = "fixed"

    r: tuple[int, ...]
    """Tokens removed in every block, first to last; in a file a list. At most half of the tokens
    are removed where fewer are left than that asks for."""
    split_depth: int
    """Last block with alternate matching; later ones match small tokens to large ones."""
    cls_only_last_block: bool = True

    def __post_init__(self) -> None:
        counts = self.r if isinstance(self.r, Sequence) and not isinstance(self.r, str) else None
        if counts is None or not all(type(r) is int and r >= 0 for r in counts):
            raise ParameterError(f"r={self.r!r} is no list of counts: give one, >= 0, per block.")
        object.__setattr__(self, "r", tuple(counts))  # a list, as files have it, has no hash
        if self.split_depth < 0:
            raise ParameterError(f"split_depth={self.split_depth} is negative: use 0 to the depth.")

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """None: a schedule is frozen from what a search has found, not searched."""
        return ()

    def check(self, depth: int) -> None:
        """Raise ParameterError unless there is one count per block."""
        if len(self.r) != depth:
            raise ParameterError(f"r has {len(self.r)} counts, the model has {depth} blocks.")
        if self.split_depth > depth:
            raise ParameterError(f"split_depth={self.split_depth} is beyond the depth {depth}.")

    def params(self) -> dict[str, Any]:
        """Every parameter by name; the counts as a list."""
        return super().params() | {"r": list(self.r)}

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge the block's r pairs, or half of the tokens where that is less."""
        r = self.r[layer.number - 1]
        if r == 0 or len(tokens) - tokens.num_prefix_tokens < 2:
            return Reduced(tokens)
        matching = self._match(tokens, layer)
        merged = self._merge(tokens, matching, min(r, matching.largest_r()))
        return Reduced(merged, matching.multiply_adds)

    def _match(self, tokens: Tokens, layer: Layer) -> Matching:
        metric = key_metric(layer.keys)
        if layer.number <= self.split_depth:
            sources, destinations = alternate_split(
                len(tokens), tokens.num_prefix_tokens, device=metric.device
            )
        else:
            sources, destinations = size_split(tokens.sizes(), tokens.num_prefix_tokens)
        return match(metric, sources, destinations)

    def _merge(self, tokens: Tokens, matching: Matching, r: int) -> Tokens:
        """The step after matching; exporters have one of their own."""
        return merge(tokens, matching, r)
