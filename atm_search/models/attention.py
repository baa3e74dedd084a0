"""Attention composed of a timm module's own parts, fused or spelt out.

Its forward gives neither keys nor probabilities away, and recomputing the keys would cost a third
of the projection.
"""

import math

import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor

from atm_search.models.cpu import missing_rows


def attend(
    attn: Attention, x: Tensor, bias: Tensor | None, *, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the first `wanted` tokens gather from all, their queries, and the keys of all.

    Queries and keys are normalised, where the module does so.

    Args:
        attn: of a block.
        x: normalised tokens, [batch, tokens, dim].
        bias: to add to the logits, [batch, 1, 1, tokens].
        wanted: tokens that are to go on.
    """
    batch, count, _ = x.shape
    rows, bias = _in_whole_tiles(attn, x, bias)
    qkv = attn.qkv(rows).reshape(batch, -1, 3, attn.num_heads, attn.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, tokens, head_dim]
    q, k = attn.q_norm(q[:, :, :wanted]), attn.k_norm(k)
    return project(attn, _weigh(attn, q, k, v, bias), x[:, :wanted]), q, k[:, :, :count]


def queries_and_keys(attn: Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of normalised tokens [batch, tokens, dim], without their values.

    Normalised, where the module does so; each [batch, heads, tokens, head_dim].
    """
    batch, count, _ = x.shape
    both = _part(attn, x, slice(0, 2 * attn.attn_dim))
    both = both.reshape(batch, count, 2, attn.num_heads, attn.head_dim)
    q, k = both.permute(2, 0, 3, 1, 4).unbind(0)
    queries: Tensor = attn.q_norm(q)
    keys: Tensor = attn.k_norm(k)
    return queries, keys


def probabilities(attn: Attention, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """What every query attends to, [batch, heads, queries, keys], float32: ranks come of it."""
    scores: Tensor = (q * attn.scale) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    return scores.float().softmax(dim=-1)


def values(attn: Attention, x: Tensor) -> Tensor:
    """Values of normalised tokens [batch, tokens, dim], [batch, heads, tokens, head_dim]."""
    v = _part(attn, x, slice(2 * attn.attn_dim, None))
    batch, count, _ = x.shape
    heads: Tensor = v.reshape(batch, count, attn.num_heads, attn.head_dim).transpose(1, 2)
    return heads


def project(attn: Attention, gathered: Tensor, x: Tensor) -> Tensor:
    """The branch that is added to tokens, [batch, tokens, dim].

    Args:
        attn: of a block.
        gathered: what they gathered, [batch, heads, tokens, head_dim].
        x: the tokens, normalised; gates look at them.
    """
    out = attn.norm(gathered.transpose(1, 2).flatten(2))
    if attn.gate is not None:
        out = out * attn.gate(x).sigmoid()
    branch: Tensor = attn.proj_drop(attn.proj(out))
    return branch


def _part(attn: Attention, x: Tensor, rows: slice) -> Tensor:
    """Some of queries, keys and values, by their rows in the common projection."""
    bias: Tensor | None = attn.qkv.bias
    part: Tensor = F.linear(x, attn.qkv.weight[rows], None if bias is None else bias[rows])
    return part


def _in_whole_tiles(
    attn: Attention, x: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Tokens with rows of zeros after them that make the kernel faster, hidden by the bias."""
    missing = missing_rows(x) if attn.fused_attn else 0
    if missing == 0:
        return x, bias
    bias = x.new_zeros(1, 1, 1, x.shape[1]) if bias is None else bias
    return F.pad(x, (0, 0, 0, missing)), F.pad(bias, (0, missing), value=-math.inf)


def _weigh(attn: Attention, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """The attention itself, [batch, heads, queries, head_dim], fused or not as timm is told to.

    timm's switch (TIMM_FUSED_ATTN=0) counts: in bfloat16 on an AVX-512 CPU without AMX the fused
    kernel takes 1.4 times as long as the products spelt out, in float32 half as long.
    """
    if attn.fused_attn:
        dropout = attn.attn_drop.p if attn.training else 0.0
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, dropout_p=dropout, scale=attn.scale
        )
    scores = (q * attn.scale) @ k.transpose(-2, -1)
    if bias is not None:
        scores += bias
    weighed: Tensor = attn.attn_drop(scores.softmax(dim=-1)) @ v
    return weighed
