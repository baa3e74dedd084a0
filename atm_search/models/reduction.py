"""Run a timm VisionTransformer block by block around a token-reduction method.

The model's own modules are called, in their order: LayerScale, q/k norm, gates, drop path and
registers keep working. Nothing is planted on the model, so one loaded model serves many
configurations and many threads.
"""

from dataclasses import replace
from typing import NamedTuple

from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from atm_search.errors import ModelError
from atm_search.merging.method import Layer, Method
from atm_search.merging.tokens import Count, Tokens
from atm_search.models.attention import attend, probabilities, project, queries_and_keys, values
from atm_search.models.forward_pass import BlockTokens, ForwardPass, mean_counts
from atm_search.models.mixed import MIXED, MixedReadOut


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


def require_class_token(model: VisionTransformer, method: Method | type[Method]) -> None:
    """Check that the model has what the method looks at.

    Raises:
        ModelError: the method asks the class token, and the model has none.
    """
    if method.needs_class_token and model.cls_token is None:
        raise ModelError(
            f"{method.name} keeps what the class token attends to, and this model has no class "
            "token. Methods that do without: atm, tome, pitome, tofu, mctf, atc."
        )


def run(
    model: VisionTransformer, method: Method, images: Tensor, *, track_sources: bool = False
) -> ForwardPass:
    """Logits of a batch with a method at work in every block, and the tokens it left.

    Args:
        model: one that `require_vit` accepts; it is not changed.
        method: parameters that suit the model's depth (`method.check`).
        images: normalised, [batch, channels, height, width], of the model's dtype and device.
        track_sources: also return which token holds which patch, for pictures.

    Raises:
        ModelError: the method asks the class token, and the model has none.
    """
    require_class_token(model, method)
    depth = len(model.blocks)
    tokens = Tokens(_embed(model, images), model.num_prefix_tokens)
    if track_sources:
        tokens = tokens.with_source()
    blocks, padded, sources, matching = [], [], [], 0
    for number, block in enumerate(model.blocks, start=1):
        ends = number == depth and method.cls_only_last_block and reads_prefix_only(model)
        step = _spelt_out if method.needs_probabilities(number, depth) else _fused
        taken = step(block, tokens, method, number, depth, ends)
        tokens, layer, cost = taken.tokens, taken.layer, taken.multiply_adds
        if not ends:
            tokens, more = method.reduce(tokens, layer)
            cost += more
        blocks.append(BlockTokens(*taken.counts, tokens.per_image))
        padded.append(BlockTokens(*taken.rows, len(tokens)))
        branch = block.mlp(block.norm2(tokens.x))
        tokens = replace(tokens, x=tokens.x + block.drop_path2(block.ls2(branch)))
        if not ends:
            tokens, more = method.after_block(tokens, layer)
            cost += more
        matching += cost
        if tokens.source is not None:
            sources.append(tokens.source)
    return ForwardPass(
        logits=_read_out(model, tokens),
        attention_tokens=mean_counts([block.entering for block in blocks]),
        mlp_tokens=mean_counts([block.mlp for block in blocks]),
        matching_multiply_adds=matching,
        sources=tuple(sources) if track_sources else None,
        blocks=tuple(blocks),
        padded=tuple(padded),
    )


class _Attended(NamedTuple):
    """Tokens after a block's attention."""

    tokens: Tokens
    layer: Layer
    counts: tuple[Count, Count, Count]
    """Of which queries and keys were made, values, outputs."""
    rows: tuple[int, int, int]
    """The same with padding."""
    multiply_adds: int = 0


def _fused(
    block: Block, tokens: Tokens, method: Method, number: int, depth: int, ends: bool
) -> _Attended:
    """Attention by the module's own kernel; `ends` lets only prefix tokens go on."""
    count, rows = tokens.per_image, len(tokens)
    bias = _bias(tokens, prop_attn=method.prop_attn)
    normed = block.norm1(tokens.x)
    if ends:
        tokens = tokens.prefix_only()
    branch, queries, keys = attend(block.attn, normed, bias, wanted=len(tokens))
    tokens = replace(tokens, x=tokens.x + block.drop_path1(block.ls1(branch)))
    layer = Layer(number, depth, keys, queries, block.attn.scale)
    return _Attended(tokens, layer, (count,) * 3, (rows,) * 3)


def _spelt_out(
    block: Block, tokens: Tokens, method: Method, number: int, depth: int, ends: bool
) -> _Attended:
    """Attention whose probabilities the method sees, and between which it may act."""
    attn, given = block.attn, tokens
    queries, keys = queries_and_keys(attn, block.norm1(tokens.x))
    bias = _bias(tokens, prop_attn=method.prop_attn)
    layer = Layer(
        number,
        depth,
        keys,
        queries,
        attn.scale,
        probabilities=probabilities(attn, queries, keys, bias),
        values=lambda x: values(attn, block.norm1(x)),
    )
    tokens, gathered, of, multiply_adds = method.attend(tokens, layer)
    counts = (given.per_image, of.per_image, tokens.per_image)
    rows = (len(given), len(of), len(tokens))
    if ends:
        tokens = tokens.prefix_only()
        gathered = gathered[:, :, : len(tokens)]
    branch = project(attn, gathered, block.norm1(tokens.x))
    tokens = replace(tokens, x=tokens.x + block.drop_path1(block.ls1(branch)))
    return _Attended(tokens, layer, counts, rows, multiply_adds)


def _embed(model: VisionTransformer, images: Tensor) -> Tensor:
    """Patch embedding with prefix tokens and positions, [batch, tokens, dim]."""
    x: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    return x


def _bias(tokens: Tokens, *, prop_attn: bool) -> Tensor | None:
    """Logarithm of the sizes as an attention bias, [batch, 1, 1, tokens]; hides padding.

    A mask over keys alone costs the fused kernel 0 to 3 % on a CPU. The same bias as one more
    channel of queries and keys makes the head 72 wide and the kernel two to three times as slow.
    """
    if tokens.count is None and (tokens.size is None or not prop_attn):
        return None
    return tokens.sizes().log()[:, None, None, :].to(tokens.x.dtype)


def _read_out(model: VisionTransformer, tokens: Tokens) -> Tensor:
    """Logits of the last block's tokens, [batch, classes].

    An average over tokens becomes the average over the patches they hold: the plain mean would
    weigh a merged token as one patch.
    """
    x = model.norm(tokens.x)
    size = tokens.size if tokens.count is None else tokens.sizes()
    logits: Tensor
    if isinstance(model, MixedReadOut) and model.global_pool == MIXED:
        logits = model.read_out(x, size)
    elif reads_prefix_only(model) or size is None:
        logits = model.forward_head(x)
    else:
        first = 0 if model.pool_include_prefix else tokens.num_prefix_tokens
        weights = size[:, first:, None]
        pooled = (x[:, first:].float() * weights).sum(dim=1) / weights.sum(dim=1)
        logits = model.head(model.head_drop(model.fc_norm(pooled.to(x.dtype))))
    return logits
