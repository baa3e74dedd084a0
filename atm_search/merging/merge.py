"""Merge matched tokens: size-weighted average, sizes, source map."""

from dataclasses import replace

import torch
from torch import Tensor

from atm_search.merging.matching import Matching
from atm_search.merging.tokens import Tokens


def merge(tokens: Tokens, matching: Matching, r: int) -> Tokens:
    """The tokens after the r most similar pairs of every image have merged.

    A merged token is the average of its members weighted by merging size, and its size their sum;
    several sources may join one destination. Order: prefix tokens, sources that stay, destinations.
    r = 0 returns `tokens` itself.

    Args:
        tokens: x [batch, tokens, dim].
        matching: best edges of these tokens.
        r: tokens to remove from every image, 0 <= r <= matching.largest_r().

    Raises:
        ValueError: r is outside that range (a method must cap its count).

    Source: arXiv 2210.09461, section 3.
    """
    if not 0 <= r <= matching.largest_r():
        raise ValueError(f"r={r} is outside 0..{matching.largest_r()}")
    if r == 0:
        return tokens
    batch, count, _ = tokens.x.shape
    prefix = tokens.num_prefix_tokens
    # Stable: equal tokens, of a flat background for instance, then merge in the same order on
    # every device.
    order = matching.score.argsort(dim=1, descending=True, stable=True)
    merged, unmerged = order[:, :r], order[:, r:].sort(dim=1).values
    leaving = matching.sources.gather(1, merged)  # [batch, r]
    staying = torch.cat(
        [
            torch.arange(prefix, device=order.device).expand(batch, prefix),
            matching.sources.gather(1, unmerged),
            matching.destinations,
        ],
        dim=1,
    )  # [batch, count - r]
    joined = prefix + unmerged.shape[1] + matching.target.gather(1, merged)  # new positions, [batch, r]

    size = tokens.sizes()
    new_size = size.gather(1, staying).scatter_add_(1, joined, size.gather(1, leaving))
    new_x = _weighted_sum(tokens.x, size, staying=staying, leaving=leaving, joined=joined)
    new_x = new_x.div_(new_size[:, :, None]).to(tokens.x.dtype)
    source = tokens.source
    if source is not None:
        source = _follow(source, count, staying=staying, leaving=leaving, joined=joined)
    return replace(tokens, x=new_x, size=new_size, source=source)


def _weighted_sum(x: Tensor, size: Tensor, *, staying: Tensor, leaving: Tensor, joined: Tensor) -> Tensor:
    """Sums of size * x over every new token's members, float32 [batch, staying, dim].

    Whole rows are copied and added by their flat index: gathers with an index expanded over `dim`
    take several times as long.
    """
    batch, count, dim = x.shape
    start = torch.arange(batch, device=x.device)[:, None]
    rows = x.reshape(batch * count, dim)
    weights = size.reshape(batch * count, 1)
    stay, leave = (staying + start * count).flatten(), (leaving + start * count).flatten()
    join = (joined + start * staying.shape[1]).flatten()
    # float32 throughout: half precision would round each of many small additions.
    total = rows.index_select(0, stay).float().mul_(weights.index_select(0, stay))
    total.index_add_(
        0, join, rows.index_select(0, leave).float().mul_(weights.index_select(0, leave))
    )
    return total.view(batch, staying.shape[1], dim)


def _follow(source: Tensor, count: int, *, staying: Tensor, leaving: Tensor, joined: Tensor) -> Tensor:
    """The source map after the step: every original token at its holder's new position."""
    new_position = source.new_empty(source.shape[0], count)
    here = torch.arange(staying.shape[1], device=source.device).expand_as(staying)
    new_position.scatter_(1, staying, here)
    new_position.scatter_(1, leaving, joined)
    moved = new_position.gather(1, source.clamp(min=0))
    return moved.where(source >= 0, source)
