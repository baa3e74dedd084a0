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
    # Stable: equal tokens, of a flat background for instance, then merge in the same order on
    # every device.
    order = matching.score.argsort(dim=1, descending=True, stable=True)
    merged, unmerged = order[:, :r], order[:, r:].sort(dim=1).values
    leaving = matching.sources.gather(1, merged)  # [batch, r]
    joined = matching.target.gather(1, merged)  # index into destinations, [batch, r]
    prefix = torch.arange(tokens.num_prefix_tokens, device=order.device)
    untouched = torch.cat(
        [prefix.expand(len(order), -1), matching.sources.gather(1, unmerged)], dim=1
    )
    staying = torch.cat([untouched, matching.destinations], dim=1)
    size = tokens.sizes()
    leaving_size = size.gather(1, leaving)
    size_after = size.gather(1, staying)
    size_before = size_after[:, untouched.shape[1] :].clone()
    receiving = size_after[:, untouched.shape[1] :].scatter_add_(1, joined, leaving_size)

    # float32 for the sums: half precision would round each of many small additions. Tokens that
    # nobody joins are weighed too, as published: among equal tokens that rounding decides ties.
    x = _rows(tokens.x, staying)
    held = x[:, untouched.shape[1] :]
    total = held * size_before[:, :, None]
    arriving = _rows(tokens.x, leaving) * leaving_size[:, :, None]
    total.flatten(0, 1).index_add_(0, _flat(joined, total.shape[1]), arriving.flatten(0, 1))
    held.copy_(total.div_(receiving[:, :, None]))
    source = tokens.source
    if source is not None:
        source = _follow(source, staying, leaving, joined + untouched.shape[1])
    return replace(tokens, x=x, size=size_after, source=source)


def _rows(x: Tensor, positions: Tensor) -> Tensor:
    """x at positions [batch, n] of its tokens, [batch, n, dim].

    Whole rows by their flat index: a gather with the index expanded over dim takes several times
    as long.
    """
    rows = x.flatten(0, 1).index_select(0, _flat(positions, x.shape[1]))
    return rows.view(*positions.shape, x.shape[2])


def _flat(positions: Tensor, count: int) -> Tensor:
    """Positions [batch, n] among the rows of all images, [batch * n]."""
    start = torch.arange(len(positions), device=positions.device)[:, None] * count
    return (positions + start).flatten()


def _follow(source: Tensor, staying: Tensor, leaving: Tensor, joined: Tensor) -> Tensor:
    """The source map after the step: every original token at its holder's new position."""
    new_position = source.new_empty(len(source), staying.shape[1] + leaving.shape[1])
    here = torch.arange(staying.shape[1], device=source.device)
    new_position.scatter_(1, staying, here.expand_as(staying))
    new_position.scatter_(1, leaving, joined)
    moved = new_position.gather(1, source.clamp(min=0))
    return moved.where(source >= 0, source)
