"""Token mergence of "Multi-Scale And Token Mergence" (arXiv 2306.04897), the part that needs no
training."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from atm_search.merging.matching import key_metric, match
from atm_search.merging.merge import join
from atm_search.merging.method import Layer, Reduced
from atm_search.merging.pruning import KeepAttended
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Mergence(KeepAttended):
    """Keep what the class token attends to most, in three blocks; merge the rest into its likes.

    The paper's other half, features of several scales that are fused before tokens go, needs
    weights that a pretrained model does not have: it has to be trained and is absent here. The
    paper's accuracies are of the trained whole.

    Source: our reading of the abstract of arXiv 2306.04897: which blocks act (after one, two and
    three quarters of the depth), the score (attention of the class token) and the similarity
    (cosine of keys) are ours.
    """

    name: ClassVar[str] = "mergence"

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge every token that is not kept into the kept one most like it."""
        ranked = self.ranked(tokens, layer)
        if ranked is None:
            return Reduced(tokens)
        edges = match(key_metric(layer.keys), ranked.leaving, ranked.staying)
        prefix = torch.arange(tokens.num_prefix_tokens, device=ranked.staying.device)
        untouched = prefix.expand(len(ranked.staying), -1)
        reduced = join(tokens, untouched, ranked.staying, ranked.leaving, edges.target)
        return Reduced(reduced, ranked.multiply_adds + edges.multiply_adds)
