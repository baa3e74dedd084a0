"""Count multiply-adds from the tokens that were really there.

Counted as in the papers: patch embedding, projections, both attention products, MLP, head; each
multiply-add once. Not counted: norms, softmax, activations, biases. What public counters say for
the same DeiT-Ti differs by up to a factor of two for want of this sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from atm_search.measure.measurement import Measurement
from atm_search.merging.tokens import Count
from atm_search.models.forward_pass import BlockTokens, ForwardPass
from atm_search.models.mixed import MixedReadOut
from atm_search.models.reduction import reads_prefix_only

GIGA = 1e9


@dataclass(frozen=True)
class CostModel:
    """Multiply-adds of a model as a function of its token counts."""

    fixed: int
    """Patch embedding and head, per image."""
    query_key_weights: tuple[int, ...]
    """Per block, multiply-adds per token of its query and its key."""
    value_weights: tuple[int, ...]
    """Per block, multiply-adds per token of its value."""
    output_weights: tuple[int, ...]
    """Per block, multiply-adds per token of what follows the attention products."""
    attention_dim: tuple[int, ...]
    """Per block, width of queries and of values over all heads."""
    mlp_weights: tuple[int, ...]
    """Per block, multiply-adds per token of the MLP."""
    patch_head_weights: int = 0
    """Multiply-adds per patch token of a head that reads every one."""
    num_prefix_tokens: int = 1
    """Tokens that such a head leaves out."""

    @property
    def projection_weights(self) -> tuple[int, ...]:
        """Per block, multiply-adds per token of all of its attention but the two products."""
        parts = (self.query_key_weights, self.value_weights, self.output_weights)
        return tuple(map(sum, zip(*parts, strict=True)))

    @classmethod
    def of(cls, model: VisionTransformer, image_size: tuple[int, int, int]) -> "CostModel":
        """The cost model of a VisionTransformer for images of [channels, height, width]."""
        heads = [model.head, getattr(model, "head_dist", None)]
        patch_head = model.token_head if isinstance(model, MixedReadOut) else None
        qkv = [_linear_weights(block.attn.qkv) for block in model.blocks]
        return cls(
            fixed=_embedding_multiply_adds(model, image_size)
            + sum(_linear_weights(head) for head in heads if head is not None),
            query_key_weights=tuple(weights * 2 // 3 for weights in qkv),
            value_weights=tuple(weights // 3 for weights in qkv),
            output_weights=tuple(
                _linear_weights(block.attn) - weights
                for block, weights in zip(model.blocks, qkv, strict=True)
            ),
            attention_dim=tuple(block.attn.attn_dim for block in model.blocks),
            mlp_weights=tuple(_linear_weights(block.mlp) for block in model.blocks),
            patch_head_weights=0 if patch_head is None else _linear_weights(patch_head),
            num_prefix_tokens=model.num_prefix_tokens,
        )

    def multiply_adds(self, attention_tokens: Sequence[int], mlp_tokens: Sequence[int]) -> int:
        """Per image, for the tokens that entered each block's attention and MLP."""
        counts = zip(attention_tokens, mlp_tokens, strict=True)
        return self._total([BlockTokens(n, n, n, mlp) for n, mlp in counts])

    def of_pass(self, forward: ForwardPass, *, padded: bool = False) -> int:
        """Multiply-adds per image of a batch, the mean where images differ, rounded.

        Args:
            forward: what `reduction.run` gave.
            padded: count padding as well: what was computed, not what was needed.

        Raises:
            ValueError: the pass does not say on how many tokens its steps worked.
        """
        blocks = forward.padded if padded else forward.blocks
        if blocks is None:
            raise ValueError("the pass has no tokens step by step")
        return self._total(blocks)

    def _total(self, blocks: Sequence[BlockTokens]) -> int:
        total: Count = self.fixed + (blocks[-1].mlp - self.num_prefix_tokens) * (
            self.patch_head_weights
        )
        for block, query_key, value, output, dim, mlp in zip(
            blocks,
            self.query_key_weights,
            self.value_weights,
            self.output_weights,
            self.attention_dim,
            self.mlp_weights,
            strict=True,
        ):
            total = total + block.entering * query_key + block.entering**2 * dim
            total = total + block.values * value + block.outputs * block.values * dim
            total = total + block.outputs * output + block.mlp * mlp
        return total if isinstance(total, int) else round(float(total.double().mean()))


@dataclass(frozen=True)
class LastBlock:
    """What the last block's MLP costs in a model whose head reads prefix tokens alone.

    There it need not see any other token, which changes no answer and saves some 5 %: methods are
    compared either all with it or all without.
    """

    gflops_per_token: float
    num_prefix_tokens: int

    @classmethod
    def of(cls, model: VisionTransformer) -> "LastBlock | None":
        """That of a model; None if its head reads more, so that there is no choice."""
        if not reads_prefix_only(model):
            return None
        return cls(_linear_weights(model.blocks[-1].mlp) / GIGA, model.num_prefix_tokens)

    def gflops(self, measured: Measurement, *, was: bool, prefix_only: bool) -> float:
        """What a measured configuration costs with, or without, prefix tokens alone in that MLP.

        Exact but for one case: of what was measured with prefix tokens alone, nobody knows what
        the last block would have merged. Without, it counts as if that were nothing.

        Args:
            measured: the measurement.
            was: whether it was measured with prefix tokens alone.
            prefix_only: whether to count with prefix tokens alone.
        """
        if was == prefix_only:
            return measured.gflops
        tokens = measured.tokens_per_layer[-2 if was else -1]
        saved = (tokens - self.num_prefix_tokens) * self.gflops_per_token
        return measured.gflops - saved if prefix_only else measured.gflops + saved


def _linear_weights(module: nn.Module) -> int:
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def _embedding_multiply_adds(model: VisionTransformer, image_size: tuple[int, int, int]) -> int:
    """By torch's counter, since stems are of many kinds; it counts two per multiply-add."""
    parameter = next(model.parameters())
    image = torch.zeros(1, *image_size, dtype=parameter.dtype, device=parameter.device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.patch_embed(image)
    return int(counter.get_total_flops()) // 2
