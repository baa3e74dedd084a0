"""What one batch gave, and how many tokens every step of it worked on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from atm_search.merging.tokens import Count


class BlockTokens(NamedTuple):
    """Tokens per image at the steps of one block; int64 [batch] where images differ."""

    entering: Count
    """Of which queries, keys and their products are made."""
    values: Count
    """Of which values are made."""
    outputs: Count
    """That gather values and are projected."""
    mlp: Count
    """That go through the MLP."""


@dataclass(frozen=True)
class ForwardPass:
    """What one batch gave, and what it cost."""

    logits: Tensor
    """[batch, classes]; of a model without a classifier head its pooled feature, [batch, dim]."""
    attention_tokens: tuple[float, ...]
    """Tokens per image that entered each block's attention, the mean where images differ."""
    mlp_tokens: tuple[float, ...]
    """Tokens per image that entered each block's MLP, likewise."""
    matching_multiply_adds: int
    """What deciding what to merge cost, per image."""
    sources: tuple[Tensor, ...] | None = None
    """After each block, the token that holds each original one, int64 [batch, original tokens];
    None unless asked for. A block that keeps prefix tokens only is left out."""
    blocks: tuple[BlockTokens, ...] | None = None
    """The tokens of every step; None if not known."""
    padded: tuple[BlockTokens, ...] | None = None
    """The same, padding included."""


def mean_counts(counts: Sequence[Count]) -> tuple[float, ...]:
    """Each count as one number, the mean where images differ."""
    return tuple(
        count if isinstance(count, int) else float(count.double().mean()) for count in counts
    )
