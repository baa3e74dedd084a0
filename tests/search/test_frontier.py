"""The frontier: full measurements only, each configuration once, by GFLOPs."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from atm_search.search.frontier import (
    frontier,
    hypervolume,
    hypervolume_history,
    measured_points,
    reference_point,
)
from atm_search.search.trials import TrialRecord


def record(stub: ModuleType, number: int, gflops: float, hits: int, **facts: object) -> TrialRecord:
    common = {
        "number": number,
        "state": TrialState.COMPLETE,
        "method": "atm",
        "params": {"tau0": number},
        "measurement": stub.measurement(gflops, hits),
    }
    return TrialRecord(**(common | facts))


def test_the_frontier_is_sorted_and_without_dominated_or_repeated_points(stub: ModuleType) -> None:
    records = [
        record(stub, 0, 1.1, 780),
        record(stub, 1, 0.9, 770),
        record(stub, 2, 1.0, 760),  # dominated by 1
        record(stub, 3, 0.9, 770),  # equal to 1
        record(stub, 4, 0.9, 770, reused_from=1),
        record(stub, 5, 0.5, 700),
    ]
    points = frontier(records, stub.DENSE)
    assert [point.number for point in points] == [5, 1, 0]
    assert points[0].params == {"tau0": 5}
    assert points[0].measurement.gflops == 0.5


def test_only_complete_full_measurements_count(stub: ModuleType) -> None:
    records = [
        record(stub, 0, 0.9, 770),
        record(stub, 1, 0.1, 99, measurement=stub.measurement(0.1, 99, images=100)),
        record(stub, 2, 0.2, 780, state=TrialState.FAIL),
        record(stub, 3, 0.3, 780, measurement=None, method=None),
    ]
    assert [point.number for point in frontier(records, stub.DENSE)] == [0]
    assert frontier([], stub.DENSE) == []


def test_hypervolume_is_measured_from_ten_points_below_dense_at_dense_cost(
    stub: ModuleType,
) -> None:
    top1, gflops = reference_point(stub.DENSE)
    assert (round(top1, 9), gflops) == (68.7, 1.254)
    points = frontier([record(stub, 0, 1.0, 787), record(stub, 1, 0.1, 600)], stub.DENSE)
    assert len(points) == 2
    assert round(hypervolume(points, stub.DENSE), 9) == round(10 * 0.254, 9)
    assert hypervolume([], stub.DENSE) == 0.0


def test_a_point_that_breaks_a_constraint_is_measured_but_not_on_the_frontier(
    stub: ModuleType,
) -> None:
    records = [
        record(stub, 0, 0.9, 770, feasible=True),
        record(stub, 1, 0.5, 700, feasible=False),
        record(stub, 2, 1.0, 760, feasible=True),  # dominated by 0
        record(stub, 3, 0.9, 770, feasible=True, reused_from=0),
        record(stub, 4, 0.3, 700, state=TrialState.FAIL),
    ]
    assert [point.number for point in frontier(records, stub.DENSE)] == [0]
    listed = measured_points(records, stub.DENSE)
    assert [(point.number, point.feasible) for point in listed] == [
        (1, False),
        (0, True),
        (2, True),
    ]


@given(st.lists(st.tuples(st.integers(1, 130), st.integers(680, 800), st.booleans())))
def test_the_history_has_the_hypervolume_of_the_trials_so_far(
    stub: ModuleType, values: list[tuple[int, int, bool]]
) -> None:
    records = [
        record(stub, number, hundredths / 100, hits, feasible=feasible)
        for number, (hundredths, hits, feasible) in enumerate(values)
    ]
    expected = [
        hypervolume(frontier(records[: done + 1], stub.DENSE), stub.DENSE)
        for done in range(len(records))
    ]
    assert hypervolume_history(records, stub.DENSE) == pytest.approx(expected)


def test_trials_that_failed_have_no_place_in_the_history_and_reused_ones_add_nothing(
    stub: ModuleType,
) -> None:
    records = [
        record(stub, 0, 1.0, 787),
        record(stub, 1, 0.5, 787, state=TrialState.FAIL, measurement=None),
        record(stub, 2, 1.0, 787, reused_from=0),
    ]
    first, second = hypervolume_history(records, stub.DENSE)
    assert first == second > 0
    assert hypervolume_history([], stub.DENSE) == []
