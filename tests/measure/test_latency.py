"""Latency as it is timed here: sane, of the right batch and device; how fast is no matter."""

from dataclasses import asdict, replace

import pytest

from atm_search.data.shard import Shard
from atm_search.errors import MeasurementError, ParameterError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.latency import Latency
from atm_search.measure.measurement import Measurement
from atm_search.measure.provenance import device_name
from atm_search.measure.stopwatch import FEWEST_RUNS, MOST_RUNS, Stopwatch
from atm_search.merging.atm import Atm
from atm_search.models.zoo import LoadedModel

METHOD = Atm(tau0=0.95, alpha=0.05, tau_min=0.6, split_depth=3)


def test_a_batch_is_timed_after_a_warm_up_beside_the_dense_model(
    tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    watch = Stopwatch(tiny_model, tiny_shard, batch_size=4)
    found = watch.measure(METHOD)
    assert 0.0 < found.low_ms <= found.median_ms <= found.high_ms
    assert FEWEST_RUNS <= found.runs <= MOST_RUNS
    assert (found.batch_size, found.device) == (4, device_name(tiny_model.device))
    assert watch.measure(METHOD).dense_ms == found.dense_ms  # timed once
    assert f"for a batch of 4 on {found.device}" in found.in_words()


def test_more_images_take_longer(tiny_model: LoadedModel, tiny_shard: Shard) -> None:
    one, all_of_them = (Stopwatch(tiny_model, tiny_shard, batch_size=n).dense_ms for n in (1, 50))
    assert one < all_of_them


@pytest.mark.parametrize("batch_size", [0, -1, 51])
def test_a_batch_that_the_images_do_not_fill_is_refused(
    tiny_model: LoadedModel, tiny_shard: Shard, batch_size: int
) -> None:
    with pytest.raises(ParameterError, match=f"latency_batch_size={batch_size} .* use 1 to 50"):
        Stopwatch(tiny_model, tiny_shard, batch_size=batch_size)


def test_a_latency_is_kept_with_its_measurement(tiny_model: LoadedModel, tiny_shard: Shard) -> None:
    latency = Latency(4.0, 3.9, 4.2, 9, 5.0, 8, "a CPU")
    plain = Evaluator(tiny_model, tiny_shard.first(10), batch_size=10).measure(METHOD)
    assert "latency" not in plain.to_dict()  # as files and trials of before have it
    timed = replace(plain, latency=latency)
    again = Measurement.from_dict(timed.to_dict())
    assert again.latency == latency
    assert again.latency_ms == 4.0
    assert again.figures()["latency"] == asdict(latency)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(value: float) -> None:
    with pytest.raises(MeasurementError, match=f"median_ms={value} is no time"):
        Latency(value, 1.0, 1.0, 5, 1.0, 1, "a CPU")
