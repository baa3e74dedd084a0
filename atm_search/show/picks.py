"""The configurations of a frontier that most people want."""

from collections.abc import Sequence
from contextlib import suppress

from atm_search.errors import StudyError
from atm_search.search.frontier import FrontierPoint
from atm_search.search.judged import judged
from atm_search.search.objectives import TOP1, Objectives
from atm_search.search.picks import TOLERANCE, Rule, pick

NAMES = {
    "lossless": f"the cheapest without a significant loss, {TOLERANCE:g} points at most",
    "knee": "where the frontier bends most",
    "within_1_point": "the cheapest that loses at most 1 point",
}
"""Every pick, and what it is, in words."""

RULES = {"lossless": "lossless", "knee": "knee", "within_1_point": "drop:1"}
"""The rule of `export --pick` behind each."""


def picks(
    points: Sequence[FrontierPoint], objectives: Objectives = TOP1
) -> dict[str, FrontierPoint]:
    """The picks by name, as far as a frontier has them, judged as `export` judges them.

    Without labels nobody knows what is lost, so only the knee is there.

    Args:
        points: the frontier, from the fewest GFLOPs to the most.
        objectives: of the study.
    """
    candidates = judged(points, objectives).points
    by_number = {point.number: point for point in points}
    found = {}
    for name, rule in RULES.items():
        with suppress(StudyError):  # none fits
            chosen = pick(Rule.parse(rule), candidates, objectives=objectives)[0].point
            found[name] = by_number[chosen.number]
    return found
