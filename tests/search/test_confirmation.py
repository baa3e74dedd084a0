"""Confirmation of a stand-in's frontier: what is written, resumed and averaged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from optuna.storages import RDBStorage

from atm_search.errors import MeasurementError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.confirmation import Bias, ConfirmedPoint, confirm, still_best
from atm_search.search.frontier import frontier
from atm_search.search.study import Study, load
from atm_search.search.trials import CONFIRMED
from atm_search.search.worker import run


@pytest.fixture(name="searched")
def _searched(begin: Callable[..., Study], stub: ModuleType) -> Study:
    study = begin(budget=8)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    return study


class Elsewhere:
    """Measures on other images: 7 of them more are lost; fails at the third point if told to."""

    def __init__(self, stub: ModuleType, *, fails: bool = False) -> None:
        self.stub, self.fails, self.measured = stub, fails, 0

    def __call__(self, method: Method) -> Measurement:
        if self.fails and self.measured == 2:
            raise MeasurementError("interrupted")
        self.measured += 1
        found: Measurement = self.stub.measure(method)
        return replace(found, top1_hits=found.top1_hits - 7, lost=found.lost + 7)


def confirmed(
    study: Study, stub: ModuleType, measure: Callable[[Method], Measurement], shard: str = "ab"
) -> list[ConfirmedPoint]:
    return confirm(
        study, measure, shard_digest=shard, source="elsewhere", environment=stub.ENVIRONMENT
    )


def test_every_point_of_the_frontier_is_measured_again_and_the_bias_is_the_mean(
    searched: Study, stub: ModuleType
) -> None:
    points = confirmed(searched, stub, Elsewhere(stub))
    best = frontier(searched.records(), searched.dense)
    assert [item.point for item in points] == best
    assert all(item.bias == pytest.approx(0.7) for item in points)
    bias = Bias.of(points)
    assert (bias.mean, bias.gflops) == pytest.approx((0.7, 0.0))
    widths = [item.bias_half_width for item in points]
    assert min(widths) <= bias.half_width <= max(widths)
    low, high = points[0].point.measurement.delta_ci95
    assert points[0].bias_half_width > (high - low) / 2
    assert still_best(points) == {point.number for point in best}


def test_an_interrupted_confirmation_goes_on_where_it_was(
    searched: Study, stub: ModuleType, opened: Callable[..., RDBStorage], tmp_path: Path
) -> None:
    count = len(frontier(searched.records(), searched.dense))
    assert count >= 3
    with pytest.raises(MeasurementError):
        confirmed(searched, stub, Elsewhere(stub, fails=True))
    again = load(opened(str(tmp_path / "atm.db"), create=False), "s")
    rest = Elsewhere(stub)
    points = confirmed(again, stub, rest)
    assert rest.measured == count - 2
    assert confirmed(load(again.storage, "s"), stub, Elsewhere(stub, fails=True)) == points
    other = Elsewhere(stub)
    confirmed(load(again.storage, "s"), stub, other, shard="other images")
    assert other.measured == count


def test_a_confirmation_changes_nothing_else_of_a_study(
    searched: Study, stub: ModuleType, opened: Callable[..., RDBStorage], tmp_path: Path
) -> None:
    before = searched.records()
    confirmed(searched, stub, Elsewhere(stub))
    study = load(opened(str(tmp_path / "atm.db"), create=False), "s")
    assert study.records() == before
    kept = [trial.user_attrs.get(CONFIRMED) for trial in study.optuna.get_trials()]
    assert sum(value is not None for value in kept) == len(frontier(before, study.dense))
    run(study, stub.measure, environment=stub.ENVIRONMENT)  # a search goes on as if it were not


def test_a_confirmation_of_another_version_is_measured_again(
    searched: Study, stub: ModuleType
) -> None:
    for point in frontier(searched.records(), searched.dense):
        trial = searched.optuna.get_trials()[point.number]
        searched.storage.annotate(trial._trial_id, CONFIRMED, {"shard_digest": "ab"})
    elsewhere = Elsewhere(stub)
    points = confirmed(load(searched.storage, "s"), stub, elsewhere)
    assert elsewhere.measured == len(points)
