"""The frontier: full measurements only, each configuration once, by GFLOPs."""

from types import ModuleType

from optuna.trial import TrialState

from atm_search.search.frontier import frontier, hypervolume, reference_point
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
