"""From batch-adaptive merging to a fixed schedule of the same cost."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from atm_search.deploy.configuration import Configuration
from atm_search.deploy.sections import (
    DataSection,
    FrozenSection,
    MethodSection,
    ProtocolSection,
)
from atm_search.errors import ConfigurationError, MeasurementError
from atm_search.measure.evaluator import Evaluator, OnBatch
from atm_search.measure.flops import CostModel
from atm_search.measure.provenance import device_name, versions
from atm_search.measure.statistics import paired_change, paired_interval95
from atm_search.merging.atm import Atm
from atm_search.merging.fixed import Fixed
from atm_search.merging.method import Method
from atm_search.models.reduction import reads_prefix_only, run


def freeze(
    configuration: Configuration, evaluator: Evaluator, on_batch: OnBatch | None = None
) -> Configuration:
    """The configuration with ATM's mean counts as a fixed schedule, measured.

    Every block then removes the same number of tokens from every batch: the cost is known in
    advance, an answer does not depend on batch mates, and the model can be exported.

    Args:
        configuration: of ATM; its tokens per layer are what is frozen.
        evaluator: its model, and the images to measure both on; its figures become the file's.
        on_batch: told about the progress of comparing both.

    Raises:
        ConfigurationError: the configuration is not one of ATM.
    """
    method = configuration.build_method()
    if not isinstance(method, Atm):
        raise ConfigurationError(
            f"Nothing to freeze: method '{method.name}' does not take its counts from the batch. "
            "Only atm does."
        )
    model, shard = evaluator.model, evaluator.shard
    fixed = fixed_schedule(
        method,
        configuration.measurement.tokens_per_layer,
        initial_tokens=model.network.patch_embed.num_patches + model.network.num_prefix_tokens,
        num_prefix_tokens=model.network.num_prefix_tokens,
        keeps_last=not (method.cls_only_last_block and reads_prefix_only(model.network)),
        cost=CostModel.of(model.network, model.preprocessing.input_size),
    )
    lost, gained = _compare(evaluator, method, fixed, on_batch)
    return Configuration(
        pick=configuration.pick,
        model=configuration.model.model_copy(
            update={
                "weights_sha256": model.weights_digest,
                "weights_source": model.weights_source,
            }
        ),
        method=MethodSection(name=fixed.name, params=fixed.params()),
        protocol=ProtocolSection(
            batch_size=evaluator.batch_size,
            dtype=model.dtype_name,
            device=device_name(model.device),
        ),
        data=DataSection(sha256=shard.digest, source=shard.source, images=len(shard)),
        measurement=evaluator.measure(fixed),
        frozen_from=FrozenSection(
            method=configuration.method,
            gflops=configuration.measurement.gflops,
            images=len(shard),
            lost=lost,
            gained=gained,
            delta_top1=round(paired_change(lost, gained, len(shard)), 4),
            delta_ci95=_rounded(paired_interval95(lost, gained, len(shard))),
        ),
        versions=versions(),
        study=configuration.study,
    )


def fixed_schedule(
    method: Atm,
    tokens: Sequence[float],
    *,
    initial_tokens: int,
    num_prefix_tokens: int,
    keeps_last: bool,
    cost: CostModel,
) -> Fixed:
    """Whole counts whose cost stays as near as possible to that of the mean ones.

    Errors diffuse: block by block the count is the one that brings the cost so far closest to what
    the mean counts have cost so far. The last block's rounding is all that remains.

    Args:
        method: whose counts they are.
        tokens: mean tokens that enter each block's MLP, [depth].
        initial_tokens: tokens that enter the first block.
        num_prefix_tokens: those that are never merged.
        keeps_last: whether the last block keeps more than the prefix tokens.
        cost: of the model.
    """
    depth = len(tokens)
    merging_blocks = depth if keeps_last else depth - 1
    removed, before, owed = [0] * depth, initial_tokens, 0.0
    for block in range(merging_blocks):
        owed += _block_cost(cost, block, tokens[block])
        fewest = before - (before - num_prefix_tokens) // 2
        prices = {count: _block_cost(cost, block, count) for count in range(fewest, before + 1)}
        after = _nearest(prices, owed)
        owed -= prices[after]
        removed[block], before = before - after, after
    return Fixed(
        r=tuple(removed),
        split_depth=method.split_depth,
        prop_attn=method.prop_attn,
        cls_only_last_block=method.cls_only_last_block,
    )


def _nearest(prices: Mapping[int, float], budget: float) -> int:
    """The count whose price is nearest to the budget."""
    return min(prices, key=lambda count: abs(prices[count] - budget))


def _block_cost(cost: CostModel, block: int, tokens: float) -> float:
    """Multiply-adds that depend on the tokens which a block leaves: its MLP, the next attention."""
    total = tokens * cost.mlp_weights[block]
    if block + 1 < len(cost.mlp_weights):
        total += tokens * cost.projection_weights[block + 1]
        total += 2 * tokens**2 * cost.attention_dim[block + 1]
    return total


def _compare(
    evaluator: Evaluator, first: Method, second: Method, on_batch: OnBatch | None
) -> tuple[int, int]:
    """Images that only the first method has right, and that only the second has."""
    model, lost, gained, done = evaluator.model, 0, 0, 0
    for pixels, labels in evaluator.shard.batches(evaluator.batch_size):
        if labels is None:
            raise MeasurementError(
                "What freezing changes is counted in right answers: it takes images with labels "
                "and a model with its classifier head."
            )
        right = _right(evaluator, pixels, labels.to(model.device))
        before, after = right(first), right(second)
        lost += int((before & ~after).sum())
        gained += int((after & ~before).sum())
        done += len(pixels)
        if on_batch is not None:
            on_batch(done, len(evaluator.shard))
    return lost, gained


def _right(evaluator: Evaluator, pixels: Tensor, labels: Tensor) -> Callable[[Method], Tensor]:
    """Which images of a batch a method has right, bool [batch]."""
    images = evaluator.model.prepare(pixels)

    def right(method: Method) -> Tensor:
        with torch.inference_mode():
            return run(evaluator.model.network, method, images).logits.argmax(dim=1) == labels

    return right


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return round(low, 4), round(high, 4)
