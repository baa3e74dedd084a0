"""Bipartite matching: which tokens may go, and where each would go.

Both splits leave prefix tokens out, so no token can merge into or out of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atm_search.merging.tokens import rows


@dataclass(frozen=True)
class Matching:
    """Every source token with its best edge, in the order in which the sources stay if unmerged."""

    sources: Tensor
    """Positions of the tokens that may go, int64 [batch, S]."""
    destinations: Tensor
    """Positions of the tokens that may receive, int64 [batch, D]."""
    score: Tensor
    """Similarity of each source's best edge, float32 [batch, S]."""
    target: Tensor
    """Index into `destinations` of each source's best edge, int64 [batch, S]."""
    multiply_adds: int
    """What finding the edges cost, per image."""

    def largest_r(self) -> int:
        """Most tokens that one step may remove: half of those that are not prefix tokens."""
        sources, destinations = self.sources.shape[1], self.destinations.shape[1]
        return min(sources, (sources + destinations) // 2)


def key_metric(keys: Tensor) -> Tensor:
    """Unit vectors to compare tokens by: the mean of the keys over heads.

    Always float32: below 1.0 bfloat16 steps by 0.004, as coarse as the search grid.

    Args:
        keys: [batch, heads, tokens, head_dim], any float dtype, after key normalisation.

    Returns:
        float32 [batch, tokens, head_dim].
    """
    # Head by head: a reduction over a middle dimension takes twice as long.
    total = sum(keys.unbind(1)[1:], start=keys[:, 0].float())
    return F.normalize(total / keys.shape[1], dim=-1, eps=1e-6)


def alternate_split(
    count: int, num_prefix_tokens: int, *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sources at even and destinations at odd positions of the whole sequence, [S] and [D].

    Source: arXiv 2210.09461, section 3.
    """
    positions = torch.arange(num_prefix_tokens, count, device=device)
    # By slices: a mask has as many elements as its values say, which makes a GPU wait for them
    # and an exporter give up.
    first = num_prefix_tokens % 2
    return positions[first::2], positions[1 - first :: 2]


def size_split(size: Tensor, num_prefix_tokens: int) -> tuple[Tensor, Tensor]:
    """Sources: the small half of the tokens, [batch, S]; destinations: the large half, [batch, D].

    Two large tokens are thereby never joined. Stable, because sizes are mostly ties: an unstable
    sort would make the split arbitrary and different between devices.

    Args:
        size: float32 [batch, tokens].
        num_prefix_tokens: leading tokens that take no part.

    Source: arXiv 2505.15160, size-distinctive token matching.
    """
    order = size[:, num_prefix_tokens:].argsort(dim=1, stable=True) + num_prefix_tokens
    half = order.shape[1] // 2
    return order[:, :half], order[:, half:]


def match(metric: Tensor, sources: Tensor, destinations: Tensor) -> Matching:
    """The best edge of every source: the destination with the largest cosine.

    Args:
        metric: unit vectors, float32 [batch, tokens, d].
        sources: int64, [S] where all images share the split, else [batch, S].
        destinations: int64, [D] or [batch, D].
    """
    batch, _, dim = metric.shape
    if sources.dim() == 1:
        a, b = metric.index_select(1, sources), metric.index_select(1, destinations)
        sources, destinations = sources.expand(batch, -1), destinations.expand(batch, -1)
    else:
        a, b = rows(metric, sources), rows(metric, destinations)
    # Rounding can lift the cosine of equal tokens above 1.
    score, target = (a @ b.transpose(1, 2)).clamp_(-1.0, 1.0).max(dim=2)
    multiply_adds = sources.shape[1] * destinations.shape[1] * dim
    return Matching(sources, destinations, score, target, multiply_adds)
