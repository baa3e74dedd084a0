"""Which precision to measure in, if nobody says: the fastest that is as good as float32."""

import torch

from atm_search.data.cache import Cache
from atm_search.data.shard import Shard
from atm_search.errors import MeasurementError
from atm_search.measure.evaluator import Evaluator, OnBatch
from atm_search.measure.statistics import paired_change, paired_interval95
from atm_search.models.zoo import LoadedModel

AUTO = "auto"
"""The dtype that stands for `automatic`."""

CHECKED_IMAGES = 1000
"""On so many of the first images bfloat16 is compared with float32."""


def automatic(
    model: LoadedModel,
    shard: Shard,
    *,
    batch_size: int,
    cache: Cache | None = None,
    on_batch: OnBatch | None = None,
) -> tuple[LoadedModel, str]:
    """The model in bfloat16 if the hardware computes in it and the answers stay as good.

    As good means that the 95 % interval of the paired change of dense top-1, on the first
    `CHECKED_IMAGES` images, holds zero. Without labels that cannot be known: float32 stays. With a
    cache the comparison is made once.

    Args:
        model: in float32.
        shard: what will be measured on.
        batch_size: as it will be measured.
        cache: where the dense answers are kept.
        on_batch: told of the images done, for each of the two in turn.

    Returns:
        The model to measure, and why, for people.

    Raises:
        MeasurementError: the float32 model's outputs are not finite, or do not fit in memory.
    """
    if not has_bfloat16(model.device):
        return model, "float32, because this device is not made for bfloat16"
    if shard.labels is None or not model.has_head:
        return model, "float32, because without labels nobody can check bfloat16's accuracy"
    head = shard.first(CHECKED_IMAGES)
    candidate = model.in_dtype("bfloat16")
    reference = Evaluator(model, head, batch_size=batch_size, cache=cache).dense(on_batch)
    try:
        answers = Evaluator(candidate, head, batch_size=batch_size, cache=cache).dense(on_batch)
    except MeasurementError:
        return model, "float32, because outputs in bfloat16 are not finite"
    right, hit = reference.hits(), answers.hits()
    lost, gained = int((right & ~hit).sum()), int((hit & ~right).sum())
    low, high = paired_interval95(lost, gained, len(head))
    change = (
        f"dense top-1 changes by {paired_change(lost, gained, len(head)):+.2f} points "
        f"({low:+.2f} to {high:+.2f}) on {len(head):,} images"
    )
    if low <= 0.0 <= high:
        return candidate, f"bfloat16, because {change}"
    return model, f"float32, because in bfloat16 {change}"


def loaded_as(dtype: str) -> str:
    """The dtype to load a model in: `automatic` begins in float32."""
    return "float32" if dtype == AUTO else dtype


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16, rather than emulating it.

    CPUs have instructions for it in AMX or AVX-512; others only convert, which costs time.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Not of the public interface, which the oldest torch that we support lacks.
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
