"""Merge matched tokens: size-weighted average, sizes, source map."""

from dataclasses import replace

import torch
from torch import Tensor

from atm_search.merging.matching import Matching
from atm_search.merging.tokens import Tokens, flat, rows


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
    return join(tokens, untouched, matching.destinations, leaving, joined)


def join(
    tokens: Tokens, untouched: Tensor, destinations: Tensor, leaving: Tensor, joined: Tensor
) -> Tokens:
    """The tokens after those that leave have merged into destinations, by size.

    Order: untouched, destinations. Every token is in one of the first three arguments.

    Args:
        tokens: x [batch, tokens, dim].
        untouched: positions of tokens that stay as they are, prefix tokens first, int64 [batch, u].
        destinations: positions of tokens that may receive, int64 [batch, D].
        leaving: positions of tokens that merge, int64 [batch, r].
        joined: index into `destinations` of each one's group, int64 [batch, r].
    """
    staying = torch.cat([untouched, destinations], dim=1)
    size = tokens.sizes()
    leaving_size = size.gather(1, leaving)
    size_after = size.gather(1, staying)
    size_before = size_after[:, untouched.shape[1] :].clone()
    receiving = size_after[:, untouched.shape[1] :].scatter_add_(1, joined, leaving_size)

    # float32 for the sums: half precision would round each of many small additions. Tokens that
    # nobody joins are weighed too, as published: among equal tokens that rounding decides ties.
    x = rows(tokens.x, staying)
    held = x[:, untouched.shape[1] :]
    total = held * size_before[:, :, None]
    arriving = rows(tokens.x, leaving) * leaving_size[:, :, None]
    total.flatten(0, 1).index_add_(0, flat(joined, total.shape[1]), arriving.flatten(0, 1))
    held.copy_(total.div_(receiving[:, :, None]))
    source = tokens.source
    if source is not None:
        source = follow(source, staying, leaving, joined + untouched.shape[1])
    return replace(tokens, x=x, size=size_after, source=source)


def follow(source: Tensor, staying: Tensor, leaving: Tensor, joined: Tensor) -> Tensor:
    """The source map after the step: every original token at its holder's new position."""
    new_position = source.new_empty(len(source), staying.shape[1] + leaving.shape[1])
    here = torch.arange(staying.shape[1], device=source.device)
    new_position.scatter_(1, staying, here.expand_as(staying))
    new_position.scatter_(1, leaving, joined)
    moved = new_position.gather(1, source.clamp(min=0))
    return moved.where(source >= 0, source)
