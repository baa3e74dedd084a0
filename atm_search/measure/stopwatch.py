"""Timing methods: median of repeated runs after a warm-up, on one device.

Caveats first. Timed is the network alone, from normalised images on the device to logits there;
decoding, copying and the service around it come on top. One batch stands for all: the first images
of the shard, as a batch-adaptive method takes longer for others. Whatever else computes on the
device is timed along with it, so a device is for one worker alone.
"""

import time
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from atm_search.data.shard import Shard
from atm_search.errors import MeasurementError, ParameterError
from atm_search.measure.latency import Latency
from atm_search.measure.provenance import device_name
from atm_search.merging.method import Method
from atm_search.models.cpu import choose_attention
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel

WARM_UP_RUNS = 2
"""Before the first that counts: memory is allocated and kernels are chosen."""

FEWEST_RUNS, MOST_RUNS, LEAST_S = 5, 50, 1.0
"""Runs that count, and seconds that they last together unless they are too many."""


class Stopwatch:
    """Times methods on the first batch of a shard."""

    def __init__(self, model: LoadedModel, shard: Shard, *, batch_size: int) -> None:
        """Nothing is timed yet.

        Args:
            model: the dense model.
            shard: whose first images are the batch.
            batch_size: how many.

        Raises:
            ParameterError: the shard does not have so many, or batch_size is below 1.
        """
        if not 1 <= batch_size <= len(shard):
            raise ParameterError(
                f"latency_batch_size={batch_size} cannot be timed: use 1 to {len(shard):,}, as "
                "many as there are images."
            )
        choose_attention(model.network)
        self.model = model
        self.batch_size = batch_size
        pixels, _ = next(iter(shard.batches(batch_size)))
        self._images = model.prepare(pixels)

    @cached_property
    def dense_ms(self) -> float:
        """Median of the untouched model; timed once.

        Raises:
            MeasurementError: the batch does not fit in memory.
        """
        return float(np.median(self._times(self.model.network)))

    def measure(self, method: Method) -> Latency:
        """What a method makes of it.

        Raises:
            ParameterError: the method does not suit the model's depth.
            MeasurementError: the batch does not fit in memory.
        """
        method.check(self.model.depth)
        dense_ms = self.dense_ms
        times = self._times(lambda images: run(self.model.network, method, images).logits)
        low, median, high = np.percentile(times, [25, 50, 75])
        return Latency(
            median_ms=float(median),
            low_ms=float(low),
            high_ms=float(high),
            runs=len(times),
            dense_ms=dense_ms,
            batch_size=self.batch_size,
            device=device_name(self.model.device),
        )

    def _times(self, answer: Callable[[Tensor], Tensor]) -> list[float]:
        """Milliseconds of every run that counts."""
        times: list[float] = []
        try:
            with torch.inference_mode():
                for _ in range(WARM_UP_RUNS):
                    answer(self._images)
                self._finish()
                while len(times) < FEWEST_RUNS or (
                    len(times) < MOST_RUNS and sum(times) < 1000.0 * LEAST_S
                ):
                    started = time.perf_counter()
                    answer(self._images)
                    self._finish()
                    times.append(1000.0 * (time.perf_counter() - started))
        except torch.OutOfMemoryError as error:
            raise MeasurementError(
                f"A batch of {self.batch_size} images, which latency is timed with, does not fit "
                f"in the memory of {self.model.device}: use a smaller --latency-batch-size."
            ) from error
        return times

    def _finish(self) -> None:
        """Wait until the device has done what it was told, which a GPU does in its own time."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        elif self.model.device.type == "mps":
            torch.mps.synchronize()
