"""Run a timm VisionTransformer block by block around a token-reduction method.

The model's own modules are called, in their order: LayerScale, q/k norm, gates, drop path and
registers keep working. Nothing is planted on the model, so one loaded model serves many
configurations and many threads.
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from atm_search.errors import ModelError
from atm_search.merging.method import Layer, Method
from atm_search.merging.tokens import Tokens
from atm_search.models.mixed import MIXED, MixedReadOut


@dataclass(frozen=True)
class ForwardPass:
    """What one batch gave, and what it cost."""

    logits: Tensor
    """[batch, classes]."""
    attention_tokens: tuple[int, ...]
    """Tokens per image that entered each block's attention."""
    mlp_tokens: tuple[int, ...]
    """Tokens per image that entered each block's MLP."""
    matching_multiply_adds: int
    """What deciding what to merge cost, per image."""
    sources: tuple[Tensor, ...] | None = None
    """After each block, the token that holds each original one, int64 [batch, original tokens];
    None unless asked for. A block that keeps prefix tokens only is left out."""


def require_vit(model: nn.Module) -> VisionTransformer:
    """The model itself, if a method can run in it.

    Raises:
        ModelError: it is no timm VisionTransformer, has blocks without a place between attention
            and MLP, or a head that reads its tokens in a way that merging would change.
    """
    if not isinstance(model, VisionTransformer) or (
        type(model).forward_features is not VisionTransformer.forward_features
    ):
        raise ModelError(
            f"{type(model).__name__} is no timm VisionTransformer: token reduction needs one, "
            "for instance deit_small_patch16_224."
        )
    for block in model.blocks:
        if type(block).forward is not Block.forward or (
            type(block.attn).forward is not Attention.forward
        ):
            raise ModelError(
                f"Blocks of type {type(block).__name__} with {type(block.attn).__name__} are not "
                "supported: attention and MLP have to follow each other, each with its own "
                "residual sum."
            )
    own_head = isinstance(model, MixedReadOut) and model.global_pool == MIXED
    if model.attn_pool is not None or not (own_head or model.global_pool in ("token", "avg")):
        pool = "map" if model.attn_pool is not None else model.global_pool
        raise ModelError(
            f"A head that pools by '{pool}' is not supported: merging would change what it reads. "
            "Supported: 'token' and 'avg'."
        )
    return model


def reads_prefix_only(model: VisionTransformer) -> bool:
    """Whether the head reads the class (and distillation) token alone."""
    return bool(model.global_pool == "token")


def run(
    model: VisionTransformer, method: Method, images: Tensor, *, track_sources: bool = False
) -> ForwardPass:
    """Logits of a batch with a method at work in every block, and the tokens it left.

    Args:
        model: one that `require_vit` accepts; it is not changed.
        method: parameters that suit the model's depth (`method.check`).
        images: normalised, [batch, channels, height, width], of the model's dtype and device.
        track_sources: also return which token holds which patch, for pictures.
    """
    depth = len(model.blocks)
    tokens = Tokens(_embed(model, images), model.num_prefix_tokens)
    if track_sources:
        tokens = tokens.with_source()
    attention_tokens, mlp_tokens, sources, matching = [], [], [], 0
    for number, block in enumerate(model.blocks, start=1):
        attention_tokens.append(len(tokens))
        bias = _size_bias(tokens) if method.prop_attn else None
        normed = block.norm1(tokens.x)
        ends = number == depth and method.cls_only_last_block and reads_prefix_only(model)
        if ends:
            tokens = tokens.prefix_only()
        branch, queries, keys = _attend(block.attn, normed, bias, wanted=len(tokens))
        tokens = replace(tokens, x=tokens.x + block.drop_path1(block.ls1(branch)))
        if not ends:
            layer = Layer(number, depth, keys, queries, block.attn.scale)
            tokens, multiply_adds = method.reduce(tokens, layer)
            matching += multiply_adds
        mlp_tokens.append(len(tokens))
        branch = block.mlp(block.norm2(tokens.x))
        tokens = replace(tokens, x=tokens.x + block.drop_path2(block.ls2(branch)))
        if tokens.source is not None:
            sources.append(tokens.source)
    return ForwardPass(
        logits=_read_out(model, tokens),
        attention_tokens=tuple(attention_tokens),
        mlp_tokens=tuple(mlp_tokens),
        matching_multiply_adds=matching,
        sources=tuple(sources) if track_sources else None,
    )


def _embed(model: VisionTransformer, images: Tensor) -> Tensor:
    """Patch embedding with prefix tokens and positions, [batch, tokens, dim]."""
    x: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    return x


def _size_bias(tokens: Tokens) -> Tensor | None:
    """Logarithm of the sizes as an attention bias, [batch, 1, 1, tokens].

    A mask over keys alone costs the fused kernel 0 to 3 % on a CPU. The same bias as one more
    channel of queries and keys makes the head 72 wide and the kernel two to three times as slow.
    """
    if tokens.size is None:
        return None
    return tokens.size.log()[:, None, None, :].to(tokens.x.dtype)


def _attend(
    attn: Attention, x: Tensor, bias: Tensor | None, *, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the first `wanted` tokens gather from all, their queries, and the keys of all.

    Queries and keys are normalised, where the module does so.

    Composed of the module's own parts: its forward does not give the keys away, and recomputing
    them would cost a third of the projection.
    """
    batch, count, _ = x.shape
    qkv = attn.qkv(x).reshape(batch, count, 3, attn.num_heads, attn.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, tokens, head_dim]
    q, k = attn.q_norm(q[:, :, :wanted]), attn.k_norm(k)
    out = _weigh(attn, q, k, v, bias)
    out = attn.norm(out.transpose(1, 2).reshape(batch, wanted, attn.attn_dim))
    if attn.gate is not None:
        out = out * attn.gate(x[:, :wanted]).sigmoid()
    return attn.proj_drop(attn.proj(out)), q, k


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


def _read_out(model: VisionTransformer, tokens: Tokens) -> Tensor:
    """Logits of the last block's tokens, [batch, classes].

    An average over tokens becomes the average over the patches they hold: the plain mean would
    weigh a merged token as one patch.
    """
    x = model.norm(tokens.x)
    logits: Tensor
    if isinstance(model, MixedReadOut) and model.global_pool == MIXED:
        logits = model.read_out(x, tokens.size)
    elif reads_prefix_only(model) or tokens.size is None:
        logits = model.forward_head(x)
    else:
        first = 0 if model.pool_include_prefix else tokens.num_prefix_tokens
        weights = tokens.size[:, first:, None]
        pooled = (x[:, first:].float() * weights).sum(dim=1) / weights.sum(dim=1)
        logits = model.head(model.head_drop(model.fc_norm(pooled.to(x.dtype))))
    return logits
