"""The configurations of a frontier that most people want."""

from collections.abc import Sequence
from contextlib import suppress

from atm_search.errors import StudyError
from atm_search.search.frontier import FrontierPoint
from atm_search.search.picks import TOLERANCE, Rule, pick
from atm_search.search.scores import TOP1, Score

NAMES = {
    "lossless": f"the cheapest without a significant loss, {TOLERANCE:g} points at most",
    "knee": "where the frontier bends most",
    "within_1_point": "the cheapest that loses at most 1 point",
}
"""Every pick, and what it is, in words."""

RULES = {"lossless": "lossless", "knee": "knee", "within_1_point": "drop:1"}
"""The rule of `export --pick` behind each."""


def picks(points: Sequence[FrontierPoint], score: Score = TOP1) -> dict[str, FrontierPoint]:
    """The picks by name, as far as a frontier has them; from the fewest GFLOPs to the most.

    Without labels nobody knows what is lost, so only the knee is there.
    """
    found = {}
    for name, rule in RULES.items():
        with suppress(StudyError):  # none fits
            found[name] = pick(Rule.parse(rule), points, score=score)[0].point
    return found
