"""Token mergence of "Multi-Scale And Token Mergence" (arXiv 2306.04897), the part that needs no
training."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from atm_search.merging.matching import key_metric, match
from atm_search.merging.merge import join
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.pruning import by_importance, cls_attention
from atm_search.merging.schedule import acting_blocks, check_keep_rate
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Mergence(Method):
    """Keep what the class token attends to most, in three blocks; merge the rest into its likes.

    The paper's other half, features of several scales that are fused before tokens go, needs
    weights that a pretrained model does not have: it has to be trained and is absent here. The
    paper's accuracies are of the trained whole.

    Source: our reading of the abstract of arXiv 2306.04897: which blocks act (after one, two and
    three quarters of the depth), the score (attention of the class token) and the similarity
    (cosine of keys) are ours.
    """

    name: ClassVar[str] = "mergence"
    needs_class_token: ClassVar[bool] = True

    keep_rate: float
    """Share of the tokens that each of the three blocks keeps, rounded up; 0 < keep_rate <= 1."""

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """The rates of EViT."""
        return (Range("keep_rate", 0.3, 1.0, 0.01),)

    def check(self, depth: int) -> None:
        """Any keep rate suits any depth."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge every token that is not kept into the kept one most like it."""
        prefix = tokens.num_prefix_tokens
        patches = len(tokens) - prefix
        kept = math.ceil(self.keep_rate * patches)
        if layer.number not in acting_blocks(layer.depth) or kept >= patches:
            return Reduced(tokens)
        attention, multiply_adds = cls_attention(layer, tokens.size if self.prop_attn else None)
        order = by_importance(attention, prefix)
        staying, leaving = order[:, :kept].sort(dim=1).values, order[:, kept:]
        edges = match(key_metric(layer.keys), leaving, staying)
        untouched = torch.arange(prefix, device=order.device).expand(len(order), -1)
        reduced = join(tokens, untouched, staying, leaving, edges.target)
        return Reduced(reduced, multiply_adds + edges.multiply_adds)
