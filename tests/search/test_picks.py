"""Rules that choose from a frontier, on points whose figures are written out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.errors import ParameterError, StudyError
from atm_search.measure.measurement import Measurement
from atm_search.search.frontier import FrontierPoint
from atm_search.search.picks import RULES, Rule, is_lossless, pick

DENSE_HITS, DENSE_GFLOPS = 7000, 4.0


def point(number: int, gflops: float, *, lost: int, gained: int) -> FrontierPoint:
    """A point measured on 10,000 images; the dense model has 7,000 of them right."""
    hits = DENSE_HITS - lost + gained
    measurement = Measurement(
        images=10_000,
        top1_hits=hits,
        top5_hits=9000,
        dense_top1_hits=DENSE_HITS,
        dense_top5_hits=9000,
        lost=lost,
        gained=gained,
        agreements=9500,
        kl=0.01,
        kl_se=0.001,
        gflops=gflops,
        dense_gflops=DENSE_GFLOPS,
        matching_gflops=0.01,
        tokens_per_layer=(100.0, 90.0),
        seconds=1.0,
    )
    return FrontierPoint(number, "atm", {"tau0": 0.9}, measurement)


FRONTIER = [
    point(1, 1.0, lost=900, gained=100),  # -8.00
    point(2, 2.0, lost=200, gained=100),  # -1.00, the bend
    point(3, 2.5, lost=60, gained=20),  # -0.40, significant
    point(4, 3.0, lost=115, gained=100),  # -0.15, not significant
    point(5, 3.5, lost=50, gained=50),
]


def chosen(text: str, **options: float) -> int:
    [found] = pick(Rule.parse(text), FRONTIER, measured=FRONTIER[::-1], **options)
    assert found.reason
    assert str(found.rule) == text
    return found.point.number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("lossless", 4),
        ("knee", 2),
        ("budget:2.9", 3),
        ("budget:3", 4),
        ("drop:1", 2),
        ("drop:0.5", 3),
        ("drop:0", 5),
        ("trial:1", 1),
    ],
)
def test_a_rule_picks_the_point_that_it_describes(text: str, number: int) -> None:
    assert chosen(text) == number


def test_lossless_needs_both_no_significance_and_the_tolerance() -> None:
    assert chosen("lossless", tolerance=0.1) == 5
    assert chosen("lossless", tolerance=5.0) == 4  # the loss of 3 is significant all the same
    assert not is_lossless(FRONTIER[2], tolerance=5.0)
    assert is_lossless(FRONTIER[3], tolerance=0.15)


def test_the_whole_frontier_is_picked_in_its_order() -> None:
    found = pick(Rule.parse("frontier"), FRONTIER)
    assert [choice.point.number for choice in found] == [1, 2, 3, 4, 5]


@given(st.integers(1, 10), st.floats(0.0, 100.0))
def test_the_knee_does_not_depend_on_units(scale: int, offset: float) -> None:
    """The reference: the largest distance to the chord, in units of the chord's box."""
    points = [
        point(n, offset / 100 + 0.3 * n, lost=scale * (7 - n) ** 3, gained=0) for n in range(1, 7)
    ]
    [found] = pick(Rule.parse("knee"), points)
    first = points[0].measurement

    def gain(candidate: FrontierPoint) -> float:
        m = candidate.measurement
        x = (m.gflops - first.gflops) / (DENSE_GFLOPS - first.gflops)
        return (m.top1 - first.top1) / (m.dense_top1 - first.top1) - x

    assert gain(found.point) == pytest.approx(max(map(gain, points)))


def test_a_frontier_of_one_point_has_its_knee_there() -> None:
    [found] = pick(Rule("knee"), FRONTIER[-1:])
    assert found.point.number == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budget:0.5", "No configuration costs 0.5 GFLOPs or less: the cheapest, trial 1, .* 1.0"),
        ("drop:0", r"loses 0 points of top-1 or less: the best, trial 3, changes it by -0.40"),
        ("lossless", r"best one, trial 3, changes top-1 by -0.40 points \(95 % interval -0.5"),
        ("trial:9", "Trial 9 has no measurement"),
    ],
)
def test_where_no_point_fits_the_nearest_is_named(text: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        pick(Rule.parse(text), FRONTIER[:3], measured=FRONTIER[:3])


def test_nothing_is_picked_from_nothing() -> None:
    with pytest.raises(StudyError, match="no finished trial"):
        pick(Rule.parse("knee"), [])


@pytest.mark.parametrize("text", ["lossles", "budget", "budget:", "budget:x", "drop:-1", "knee:1"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"rule"):
        Rule.parse(text)


@pytest.mark.parametrize("text", ["trial:1.5", "budget:nan", "budget:inf"])
def test_a_number_that_is_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ParameterError, match=r"write (trial:N|budget:G) with a number"):
        Rule.parse(text)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ParameterError, match="tolerance=-1"):
        pick(Rule.parse("lossless"), FRONTIER, tolerance=-1)


def test_every_rule_that_help_lists_can_be_given() -> None:
    for form in RULES:
        assert Rule.parse(re.sub(":[A-Z]$", ":1", form))
