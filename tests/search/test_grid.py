"""The sweep: its sub-grid, in order, each point once, however many workers there are."""

import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from optuna.storages import RDBStorage

from atm_search.errors import MeasurementError, ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.history import MAX_FAILURES
from atm_search.search.study import Study, load
from atm_search.search.worker import Outcome, run

Begin = Callable[..., Study]


@pytest.fixture
def sweep(begin: Begin, stub: ModuleType) -> Callable[..., Study]:
    """Begins or resumes a grid over r = 0 to 10."""

    def create(**changes: Any) -> Study:
        return begin(**({"identity": stub.tome_identity(10), "sampler": "grid"} | changes))

    return create


def measured(study: Study) -> list[int]:
    return [record.params["r"] for record in study.records() if record.measured]


def test_a_grid_is_measured_in_order_and_ends_when_it_is_done(
    sweep: Begin, stub: ModuleType
) -> None:
    study = sweep(step=3, budget=50)
    assert run(study, stub.measure, environment=stub.ENVIRONMENT) == Outcome(4, 50, exhausted=True)
    assert measured(study) == [0, 3, 6, 9]
    assert len(study.records()) == 4  # no trial was asked for in vain


def test_a_resumed_grid_goes_on_where_it_was_and_a_finer_one_adds_what_is_new(
    sweep: Begin, stub: ModuleType
) -> None:
    for budget in (2, 4):
        run(sweep(step=3, budget=budget), stub.measure, environment=stub.ENVIRONMENT)
    assert measured(sweep(budget=4)) == [0, 3, 6, 9]
    study = sweep(step=1, budget=7)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    assert measured(study)[4:] == [1, 2, 4]
    assert sweep(budget=7).plan.step == 1  # kept where it is not given


def test_a_grid_leaves_out_what_another_sampler_has_measured(
    sweep: Begin, stub: ModuleType
) -> None:
    run(sweep(sampler="random", budget=5), stub.measure, environment=stub.ENVIRONMENT)
    study = sweep(budget=11)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    assert sorted(measured(study)) == list(range(11))


def test_a_point_that_fails_is_tried_again_and_then_left_out(
    sweep: Begin, stub: ModuleType
) -> None:
    tried: Counter[int] = Counter()

    def measure(method: Method, race: object = None) -> Measurement:
        r = method.params()["r"]
        tried[r] += 1
        if r == 3 or (r == 6 and tried[6] == 1):
            raise MeasurementError("not finite")
        return stub.measure(method)  # type: ignore[no-any-return]

    study = sweep(step=3, budget=4)
    outcome = run(study, measure, environment=stub.ENVIRONMENT)
    assert outcome == Outcome(3, 4, exhausted=True)
    assert tried == {0: 1, 3: MAX_FAILURES, 6: 2, 9: 1}


def test_queued_points_come_first_and_are_not_swept_again(sweep: Begin, stub: ModuleType) -> None:
    study = sweep(step=3, budget=6)
    study.optuna.enqueue_trial({"r": 6})
    study.optuna.enqueue_trial({"r": 7})
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    assert measured(study) == [6, 7, 0, 3, 9]


@pytest.mark.parametrize("step", [0, -1])
def test_a_step_that_leads_nowhere_is_refused(sweep: Begin, step: int) -> None:
    with pytest.raises(ParameterError, match=f"A step of {step} leads nowhere: use 1 or more"):
        sweep(step=step)


def test_three_workers_measure_every_point_once(
    store_url: str, start_worker: Callable[..., Any], opened: Callable[..., RDBStorage]
) -> None:
    storage = opened(store_url)
    group = start_worker(
        storage=store_url, processes=3, budget=100, seconds=0.005, sampler="grid", step=7
    )
    out, _ = group.communicate(timeout=120)
    assert group.returncode == 0, out
    study = load(storage, "s")
    records = study.records()
    space = study.identity.space
    counts = Counter(space.key(record.params) for record in records if record.measured)
    assert sorted(counts) == sorted(map(space.key, space.thinned(7)))
    assert set(counts.values()) == {1}
    assert all(record.reused_from is None for record in records)
    assert {record.state.name for record in records} <= {"COMPLETE", "FAIL"}
    assert out.count("measuring") == len(counts) == 40


def test_a_grid_of_thousands_of_points_is_handed_out_quickly(
    begin: Begin, stub: ModuleType
) -> None:
    study = begin(sampler="grid", budget=5)
    started = time.perf_counter()
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    assert time.perf_counter() - started < 5.0
    first = [study.identity.space.at(index)["split_depth"] for index in range(5)]
    assert [record.params["split_depth"] for record in study.records()] == first
