"""Where a new search begins: published configurations, or the frontier of another study."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from atm_search.merging.atm import Atm
from atm_search.merging.layerwise import AtmLayerwise
from atm_search.search.frontier import frontier
from atm_search.search.identity import Identity
from atm_search.search.space import Space
from atm_search.search.start_points import StartPoints
from atm_search.search.study import Study
from atm_search.search.study_file import DenseSection, PublishedPoint, PublishedSection
from atm_search.search.warm_start import WarmStart, warm_start
from atm_search.search.worker import run

Begin = Callable[..., Study]
ON_GRID = {"tau0": 0.98, "alpha": 0.035, "tau_min": 0.93, "split_depth": 9}
OFF_GRID = {"tau0": 0.98, "alpha": 0.037, "tau_min": 0.93, "split_depth": 8}
OUTSIDE = {"tau0": 0.98, "alpha": 0.035, "tau_min": 0.7, "split_depth": 9}


def published(*params: dict[str, float], method: str = "atm") -> PublishedSection:
    return PublishedSection(
        source="a paper",
        method=method,
        dense=DenseSection(gflops=1.25, top1=72.1),
        points=[PublishedPoint(params=point, gflops=1.0, top1=72.0) for point in params],
    )


def known(study: Study, section: PublishedSection | None) -> WarmStart:
    found = warm_start(study, section)
    assert found is not None
    return found


def free(stub: ModuleType, **changes: Any) -> Identity:
    """A search with free thresholds, as the stand-in is searched otherwise."""
    wanted = {"method": "atm-layerwise", "space": Space(AtmLayerwise.space(12)), "depth": 12}
    identity: Identity = stub.identity(**{**wanted, **changes})
    return identity


def test_published_points_are_moved_to_the_grid_or_left_out(begin: Begin, stub: ModuleType) -> None:
    study = begin(identity=stub.identity(depth=12))
    found = known(study, published(ON_GRID, OFF_GRID, OUTSIDE, ON_GRID))
    assert list(found.points) == [ON_GRID, OFF_GRID | {"alpha": 0.035}]
    assert (found.moved, found.outside, found.source) == (1, 1, "published in a paper")


def test_nothing_is_known_of_another_method_or_without_a_publication(
    begin: Begin, stub: ModuleType
) -> None:
    study = begin(identity=stub.identity(depth=12))
    assert warm_start(study, None) is None
    assert warm_start(study, published({"r": 8}, method="tome")) is None


def test_a_search_begins_with_a_third_of_its_trials_at_most_evenly_spread() -> None:
    start = WarmStart([{"r": float(number)} for number in range(13)], "here")
    chosen = {budget: [p["r"] for p in start.within(budget)] for budget in (1, 3, 6, 15, 39, 200)}
    assert chosen[1] == []
    assert chosen[3] == [0]
    assert chosen[6] == [0, 12]
    assert chosen[15] == [0, 3, 6, 9, 12]
    assert chosen[39] == chosen[200] == list(range(13))


def test_free_thresholds_begin_at_the_frontier_of_eq1_in_the_same_store(
    begin: Begin, stub: ModuleType
) -> None:
    eq1 = begin("eq1", identity=stub.identity(depth=12), budget=12)
    run(eq1, stub.measure, environment=stub.ENVIRONMENT)
    best = frontier(eq1.records(), eq1.dense)
    study = begin("free", identity=free(stub))
    found = known(study, published(ON_GRID))
    assert found.source == "from the frontier of study 'eq1'"
    assert len(found.points) == len(best) > 1
    for params, point in zip(found.points, best, strict=True):
        own = study.identity.configured(params)
        assert stub.measure(own) == point.measurement
        assert {name: params[name] for name in ON_GRID} == {n: point.params[n] for n in ON_GRID}
        assert params["drop_2"] == params["drop_12"] == 0.0


def test_figures_of_other_images_are_no_place_to_begin(begin: Begin, stub: ModuleType) -> None:
    eq1 = begin("eq1", identity=stub.identity(depth=12, shard_digest="90ab" * 16), budget=5)
    run(eq1, stub.measure, environment=stub.ENVIRONMENT)
    found = known(begin("free", identity=free(stub)), published(ON_GRID))
    assert found.source == "published in a paper"
    assert [point["alpha"] for point in found.points] == [0.035]


def test_start_points_of_free_thresholds_may_leave_drops_out(
    tmp_path: Path, stub: ModuleType
) -> None:
    path = tmp_path / "first.yaml"
    path.write_text(
        "- {tau0: 0.98, alpha: 0.035, tau_min: 0.93, split_depth: 9}\n"
        "- {tau0: 0.98, alpha: 0, tau_min: 0.93, split_depth: 9, drop_7: 0.015}\n"
    )
    first, second = StartPoints.read(path).checked(free(stub))
    assert {name for name, value in first.items() if not value} == {
        f"drop_{number}" for number in range(2, 13)
    }
    assert (second["alpha"], second["drop_7"], second["drop_8"]) == (0, 0.015, 0)


def test_published_points_suit_every_method_that_has_eq1(begin: Begin, stub: ModuleType) -> None:
    spaces = {"atm": Atm.space(12), "atm-layerwise": AtmLayerwise.space(12)}
    for method, ranges in spaces.items():
        study = begin(method, identity=stub.identity(method=method, space=Space(ranges), depth=12))
        (point,) = known(study, published(ON_GRID)).points
        assert study.identity.configured(point)
