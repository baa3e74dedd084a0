"""Which tokens matter to the class token, and dropping the others."""

from dataclasses import replace

import torch
from torch import Tensor

from atm_search.merging.method import Layer
from atm_search.merging.tokens import Tokens, rows


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
