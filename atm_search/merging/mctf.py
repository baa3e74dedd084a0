"""Multi-criteria Token Fusion (arXiv 2403.10030), used without its training."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from atm_search.errors import ParameterError
from atm_search.merging.matching import alternate_split
from atm_search.merging.method import Attended, Layer, Method, Range
from atm_search.merging.tokens import Tokens, flat

FEWEST = 10
"""Tokens that are always left."""


@dataclass(frozen=True, kw_only=True)
class Mctf(Method):
    """Merge r pairs in every block but the first, before its values are made.

    Pairs are chosen by three criteria at once: features that are alike, little attention received,
    and few patches. Half of them merge one way, half the other. The attention of the unmerged
    tokens, looked at one step ahead, is merged along and used again.

    The published accuracies are of models trained with it; here it runs in models that were not.

    Source: arXiv 2403.10030 and its official code.
    """

    name: ClassVar[str] = "mctf"

    r: int
    """Tokens removed in every block but the first; >= 0."""
    tau_sim: float = 1.0
    """Temperature of likeness; the higher, the less it counts. > 0, as the next two."""
    tau_info: float = 20.0
    """Temperature of the attention received."""
    tau_size: float = 40.0
    """Temperature of size."""

    def __post_init__(self) -> None:
        if self.r < 0:
            raise ParameterError(
                f"r={self.r} is negative: it counts the tokens removed in a block."
            )
        for name in ("tau_sim", "tau_info", "tau_size"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name}={getattr(self, name)} is no temperature: use > 0.")

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """r = 0 to 25, as for ToMe; the temperatures stay as published."""
        return (Range("r", 0, 25, 1),)

    def check(self, depth: int) -> None:
        """Any r suits any depth: the count is capped where too few tokens are left."""

    def needs_probabilities(self, number: int, depth: int) -> bool:
        """In every block but the first."""
        return self.r > 0 and number > 1

    def attend(self, tokens: Tokens, layer: Layer) -> Attended:
        """What merged tokens gather with merged attention."""
        count, prefix = len(tokens), tokens.num_prefix_tokens
        r = min(self.r, (count - prefix) // 2, count - FEWEST)
        if r <= 0:
            return super().attend(tokens, layer)
        probabilities, values = layer.spelt_out()
        received = probabilities.mean(dim=(1, 2))  # [batch, tokens]
        split = alternate_split(count, prefix, device=received.device)
        place = _places(self._scores(tokens, received, *split), *split, prefix, r)
        size = tokens.sizes()
        weight = received * size / size.amax(dim=1, keepdim=True)
        merged = _merge(tokens, place, weight, count - r)
        attention = _merge_attention(probabilities, place, weight, count - r)
        v = values(merged.x)
        heads, dim = probabilities.shape[1], tokens.x.shape[2]
        cost = len(split[0]) * len(split[1]) * dim + heads * count * (count - r)
        return Attended(merged, attention.to(v.dtype) @ v, merged, cost)

    def _scores(
        self, tokens: Tokens, received: Tensor, sources: Tensor, destinations: Tensor
    ) -> Tensor:
        """How well every pair suits, 0 to 1, float32 [batch, S, D]."""
        unit = F.normalize(tokens.x.float(), dim=2, eps=1e-6)
        cosine = unit[:, sources] @ unit[:, destinations].transpose(1, 2)
        score = ((cosine.clamp_(-1.0, 1.0) + 1.0) / 2.0) ** (1.0 / self.tau_sim)
        # Of two factors between 0 and 1 each, the least attended and the smallest tokens have 1.
        little = received.amin(dim=1, keepdim=True) / received.clamp(min=1e-20)
        for factor, tau in ((little, self.tau_info), (1.0 / tokens.sizes(), self.tau_size)):
            factor = (factor / factor.amax(dim=1, keepdim=True)) ** (1.0 / tau)
            score = score * factor[:, sources, None] * factor[:, None, destinations]
        return score


def _places(scores: Tensor, sources: Tensor, destinations: Tensor, prefix: int, r: int) -> Tensor:
    """Where every token is after r merges, int64 [batch, tokens].

    Half of the merges, rounded down, take sources into destinations; the others take destinations,
    with what they have received, into sources that are left. Order: prefix tokens, sources,
    destinations from the best merge not made to the worst.
    """
    batch, device = len(scores), scores.device
    best, target = scores.max(dim=2)
    order = best.argsort(dim=1, descending=True, stable=True)
    leaving, rest = order[:, : r // 2], order[:, r // 2 :].sort(dim=1).values
    left = scores.gather(1, rest[:, :, None].expand(-1, -1, scores.shape[2]))
    back, back_target = left.max(dim=1)  # [batch, D], index into `rest`
    back_order = back.argsort(dim=1, descending=True, stable=True)
    more = r - r // 2
    staying = torch.cat([sources[rest], destinations[back_order[:, more:]]], dim=1)
    here = prefix + torch.arange(staying.shape[1], device=device)
    place = rest.new_empty(batch, prefix + scores.shape[1] + scores.shape[2])
    place[:, :prefix] = torch.arange(prefix, device=device)
    place.scatter_(1, staying, here.expand(batch, -1))
    joining = back_order[:, :more]
    place.scatter_(1, destinations[joining], prefix + back_target.gather(1, joining))
    receiver = destinations[target.gather(1, leaving)]
    return place.scatter_(1, sources[leaving], place.gather(1, receiver))


def _merge(tokens: Tokens, place: Tensor, weight: Tensor, count: int) -> Tokens:
    """The tokens after every group has become its weighted mean; sizes are summed."""
    total = _sum_rows(weight[:, :, None], place, count)
    x = _sum_rows(tokens.x.float() * weight[:, :, None], place, count) / total
    size = _sum_rows(tokens.sizes()[:, :, None], place, count)[:, :, 0]
    source = tokens.source
    if source is not None:
        source = place.gather(1, source.clamp(min=0)).where(source >= 0, source)
    return replace(tokens, x=x.to(tokens.x.dtype), size=size, source=source)


def _merge_attention(probabilities: Tensor, place: Tensor, weight: Tensor, count: int) -> Tensor:
    """Probabilities of merged tokens, [batch, heads, count, count].

    A group receives the sum of what its members receive, and attends as they do in weighted mean.
    """
    batch, heads, before, _ = probabilities.shape
    by_key = probabilities.permute(0, 3, 1, 2).flatten(2)
    received = _sum_rows(by_key, place, count).view(batch, count, heads, before)
    by_query = received.permute(0, 3, 2, 1).flatten(2) * weight[:, :, None]
    total = _sum_rows(weight[:, :, None], place, count)
    given = _sum_rows(by_query, place, count) / total
    return given.view(batch, count, heads, count).transpose(1, 2)


def _sum_rows(x: Tensor, place: Tensor, count: int) -> Tensor:
    """Sums of the rows of x [batch, tokens, n] that have the same place, [batch, count, n]."""
    total = x.new_zeros(len(x), count, x.shape[2])
    total.flatten(0, 1).index_add_(0, flat(place, count), x.flatten(0, 1))
    return total
