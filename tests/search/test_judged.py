"""Which figures decide a choice: confirmed ones as soon as there are some, and the words for it."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from atm_search.search.frontier import FrontierPoint
from atm_search.search.judged import judged
from atm_search.search.objectives import TOP1
from atm_search.search.picks import Rule, pick
from atm_search.search.trials import Confirmation

Point = Callable[..., FrontierPoint]


@pytest.fixture(name="point")
def _point(stub: ModuleType) -> Point:
    def make(
        number: int, gflops: float, hits: int, confirmed: int | None = None, shard: str = "a"
    ) -> FrontierPoint:
        """A point, confirmed with so many hits among 500 other images, if any."""
        found = None
        if confirmed is not None:
            measured = stub.measurement(gflops, confirmed, images=500)
            measured = replace(measured, dense_top1_hits=390, lost=max(0, 390 - confirmed))
            found = Confirmation(
                shard_digest=shard,
                source="elsewhere",
                after=0,
                measurement=measured,
                environment=stub.ENVIRONMENT,
            )
        measured = stub.measurement(gflops, hits)
        return FrontierPoint(number, "atm", {}, measured, confirmation=found)

    return make


def test_without_confirmation_the_search_judges_and_says_that_it_flatters(point: Point) -> None:
    points = [point(0, 0.7, 780), point(1, 0.9, 787)]
    found = judged(points, TOP1)
    assert found.points == points
    assert "search's own figures, which flatter" in found.on


def test_a_lucky_point_is_not_lossless_once_it_is_confirmed(point: Point) -> None:
    points = [point(0, 0.7, 787, confirmed=370), point(1, 0.9, 788, confirmed=390)]
    assert pick(Rule("lossless"), points)[0].point.number == 0
    candidates = judged(points, TOP1)
    assert pick(Rule("lossless"), candidates.points)[0].point.number == 1
    assert candidates.on == "confirmed figures, of 500 images that the search did not use"


def test_beside_confirmed_points_unconfirmed_ones_do_not_count(point: Point) -> None:
    points = [
        point(0, 0.6, 786),
        point(1, 0.7, 787, confirmed=380, shard="b"),
        point(2, 0.8, 788, confirmed=380),
        point(3, 0.9, 789, confirmed=385),
    ]
    found = judged(points, TOP1)
    assert [item.number for item in found.points] == [2, 3]
    assert found.points[0].measurement.top1 == pytest.approx(76.0)
    assert "2 of the frontier's 4 configurations, not confirmed on them, were left out" in found.on


def test_what_another_point_beats_on_the_new_images_is_no_candidate(point: Point) -> None:
    points = [point(0, 0.7, 780, confirmed=385), point(1, 0.9, 787, confirmed=384)]
    assert [item.number for item in judged(points, TOP1).points] == [0]
