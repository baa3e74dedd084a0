"""Which tokens matter to the class token, and dropping the others."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from atm_search.merging.method import Layer, Method, Range
from atm_search.merging.schedule import acting_blocks, check_keep_rate
from atm_search.merging.tokens import Tokens, rows


class Ranked(NamedTuple):
    """Tokens by what the class token attends to, prefix tokens apart."""

    staying: Tensor
    """Positions in ascending order, int64 [batch, kept]."""
    leaving: Tensor
    """Positions, most important first, int64 [batch, others]."""
    attention: Tensor
    """Of the class token, the mean over heads, float32 [batch, tokens]."""
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class KeepAttended(Method):
    """Keep what the class token attends to most, in three blocks; what becomes of the rest differs.

    The blocks stand after one, two and three quarters of the depth: 4, 7 and 10 of 12.
    """

    needs_class_token: ClassVar[bool] = True

    keep_rate: float
    """Share of the tokens that each of the three blocks keeps, rounded up; 0 < keep_rate <= 1."""

    def __post_init__(self) -> None:
        check_keep_rate(self.keep_rate)

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Keep rates around those that EViT publishes, 0.5 to 0.9."""
        return (Range("keep_rate", 0.3, 1.0, 0.01),)

    def check(self, depth: int) -> None:
        """Any keep rate suits any depth."""

    def ranked(self, tokens: Tokens, layer: Layer) -> Ranked | None:
        """Which tokens stay in a block and which leave; None where all stay."""
        prefix = tokens.num_prefix_tokens
        patches = len(tokens) - prefix
        kept = math.ceil(self.keep_rate * patches)
        if layer.number not in acting_blocks(layer.depth) or kept >= patches:
            return None
        attention, multiply_adds = cls_attention(layer, tokens.size if self.prop_attn else None)
        order = by_importance(attention, prefix)
        staying = order[:, :kept].sort(dim=1).values
        return Ranked(staying, order[:, kept:], attention, multiply_adds)


def cls_attention(layer: Layer, size: Tensor | None) -> tuple[Tensor, int]:
    """What the class token attends to, and what working it out cost.

    Computed beside the fused kernel, which does not give its probabilities away.

    Args:
        layer: with the queries of its attention.
        size: patches behind each token, float32 [batch, tokens], if attention is proportional.

    Returns:
        Probabilities, the mean over heads, float32 [batch, tokens]; multiply-adds per image.

    Raises:
        ValueError: the layer has no queries.
    """
    if layer.queries is None:
        raise ValueError("the layer has no queries")
    _, heads, count, head_dim = layer.keys.shape
    query = layer.queries[:, :, :1].float() * layer.scale
    logits = (query @ layer.keys.float().transpose(2, 3))[:, :, 0]  # [batch, heads, tokens]
    if size is not None:
        logits = logits + size.log()[:, None]
    return logits.softmax(dim=2).mean(dim=1), heads * count * head_dim


def by_importance(importance: Tensor, num_prefix_tokens: int) -> Tensor:
    """Positions of the tokens that are not prefix tokens, most important first, int64 [batch, n].

    Args:
        importance: [batch, tokens]; that of prefix tokens is ignored.
        num_prefix_tokens: leading tokens to leave out.
    """
    patches = importance[:, num_prefix_tokens:]
    return patches.argsort(dim=1, descending=True, stable=True) + num_prefix_tokens


def keep(tokens: Tokens, positions: Tensor, *, dropped_to: int = -1) -> Tokens:
    """The prefix tokens and those at `positions`, in this order.

    Args:
        tokens: x [batch, tokens, dim].
        positions: of tokens that are not prefix tokens, int64 [batch, kept].
        dropped_to: position that the source map gives to what is dropped; -1 for none.
    """
    batch, count, _ = tokens.x.shape
    prefix = torch.arange(tokens.num_prefix_tokens, device=positions.device)
    staying = torch.cat([prefix.expand(batch, -1), positions], dim=1)
    source = tokens.source
    if source is not None:
        new_position = source.new_full((batch, count), dropped_to)
        here = torch.arange(staying.shape[1], device=source.device)
        new_position.scatter_(1, staying, here.expand_as(staying))
        source = new_position.gather(1, source.clamp(min=0)).where(source >= 0, source)
    return replace(
        tokens,
        x=rows(tokens.x, staying),
        size=None if tokens.size is None else tokens.size.gather(1, staying),
        source=source,
    )
