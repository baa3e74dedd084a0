"""Agglomerative Token Clustering (arXiv 2409.11923)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atm_search.errors import ParameterError
from atm_search.merging.matching import key_metric
from atm_search.merging.merge import join
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.schedule import acting_blocks, check_keep_rate
from atm_search.merging.tokens import Tokens

LINKAGES = ("average", "complete", "single")


@dataclass(frozen=True, kw_only=True)
class Atc(Method):
    """Cluster the tokens by their keys in three blocks, bottom up, and merge every cluster.

    The blocks stand after one, two and three quarters of the depth. Clustering takes one step per
    token that goes, each over all pairs: slow, and for some hundreds of tokens at most.

    Source: arXiv 2409.11923.
    """

    name: ClassVar[str] = "atc"

    keep_rate: float
    """Share of the tokens that are left after each of the three blocks, rounded down;
    0 < keep_rate <= 1. Counts are those of the paper or one less, for it rounds only once."""
    linkage: str = "average"
    """How far apart two clusters are: as their members on average, the farthest two (complete), or
    the nearest two (single)."""

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)
        if self.linkage not in LINKAGES:
            raise ParameterError(f"No linkage '{self.linkage}'. Known: {', '.join(LINKAGES)}.")

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Around the published rates, 0.25 to 0.9."""
        return (Range("keep_rate", 0.25, 1.0, 0.01),)

    def check(self, depth: int) -> None:
        """Any keep rate suits any depth."""

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Merge the tokens of every cluster."""
        prefix = tokens.num_prefix_tokens
        patches = len(tokens) - prefix
        clusters = max(int(self.keep_rate * patches), 1)
        if layer.number not in acting_blocks(layer.depth) or clusters >= patches:
            return Reduced(tokens)
        metric = key_metric(layer.keys)[:, prefix:]
        holder = cluster(metric, clusters, linkage=self.linkage)
        cost = patches**2 * metric.shape[2]
        return Reduced(_merge_clusters(tokens, holder, clusters), cost)


def cluster(metric: Tensor, clusters: int, *, linkage: str) -> Tensor:
    """The first member of every token's cluster, int64 [batch, tokens].

    All images at once, on their device: nearest clusters join until as many are left as wanted.

    Args:
        metric: unit vectors, float32 [batch, tokens, d].
        clusters: 1 to tokens.
        linkage: one of `LINKAGES`.

    Source: Lance and Williams, 1967, for the distances of a joined cluster.
    """
    batch, count, _ = metric.shape
    distance = 1.0 - metric @ metric.transpose(1, 2)
    diagonal = torch.arange(count, device=metric.device)
    distance[:, diagonal, diagonal] = torch.inf
    holder = diagonal.repeat(batch, 1)
    members = torch.ones(batch, count, device=metric.device)
    image = torch.arange(batch, device=metric.device)
    for _ in range(count - clusters):
        nearest = distance.flatten(1).argmin(dim=1)
        pair = torch.stack([nearest // count, nearest % count])
        first, second = pair.amin(dim=0), pair.amax(dim=0)
        a, b = distance[image, first], distance[image, second]
        if linkage == "single":
            joined = torch.minimum(a, b)
        elif linkage == "complete":
            joined = torch.maximum(a, b)
        else:
            m, n = members[image, first, None], members[image, second, None]
            joined = (a * m + b * n) / (m + n)
        joined[image, first] = torch.inf
        distance[image, first] = joined
        distance[image, :, first] = joined
        distance[image, second] = torch.inf
        distance[image, :, second] = torch.inf
        members[image, first] += members[image, second]
        holder = torch.where(holder == second[:, None], first[:, None], holder)
    return holder


def _merge_clusters(tokens: Tokens, holder: Tensor, clusters: int) -> Tokens:
    """The prefix tokens, then a token per cluster, in the order of their first members."""
    prefix, batch = tokens.num_prefix_tokens, len(holder)
    here = torch.arange(holder.shape[1], device=holder.device)
    order = (holder != here).int().argsort(dim=1, stable=True)  # holders first
    staying, leaving = order[:, :clusters], order[:, clusters:]
    place = torch.empty_like(holder).scatter_(1, staying, here[:clusters].expand(batch, -1))
    joined = place.gather(1, holder.gather(1, leaving))
    untouched = torch.arange(prefix, device=holder.device).expand(batch, -1)
    return join(tokens, untouched, staying + prefix, leaving + prefix, joined)
