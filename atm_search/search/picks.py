"""Which configurations of a frontier to deploy: rules by name, each with its reason in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from atm_search.errors import ParameterError, StudyError
from atm_search.search.frontier import FrontierPoint
from atm_search.search.objectives import TOP1, Objectives
from atm_search.search.scores import Score

TOLERANCE = 0.2
"""Points of top-1 that `lossless` lets the mean lose: what remains unseen in the interval of a few
thousand images should not be lost on purpose."""

RULES = {
    "lossless": "least GFLOPs without a significant loss of top-1",
    "knee": "where the frontier bends most",
    "budget:G": "best top-1 at G GFLOPs or less",
    "latency:L": "best top-1 at L ms or less, where latency is an objective",
    "drop:D": "least GFLOPs at D points of top-1 below the dense model or less",
    "trial:N": "that trial, on the frontier or not",
    "frontier": "every point of the frontier",
}
"""What may be asked for, and what it gives."""


@dataclass(frozen=True)
class Rule:
    """A way to choose, such as `knee`, or `budget` with its number."""

    name: str
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """The rule as people write it: `knee`, `budget:3.0`.

        Raises:
            ParameterError: there is no such rule, or its number is missing or none.
        """
        name, _, number = text.partition(":")
        wants_number = any(rule.startswith(f"{name}:") for rule in RULES)
        if not wants_number and text not in RULES:
            raise ParameterError(f"No rule '{text}' to pick by. Known: {', '.join(RULES)}.")
        if not wants_number:
            return cls(name)
        try:
            value = float(int(number)) if name == "trial" else float(number)
        except ValueError:
            value = -1.0
        if not 0.0 <= value < float("inf"):
            form = next(rule for rule in RULES if rule.startswith(f"{name}:"))
            raise ParameterError(f"'{text}' is no rule: write {form} with a number, 0 or more.")
        return cls(name, value)

    @property
    def is_choice(self) -> bool:
        """Whether it compares figures, so that it matters which."""
        return self.name not in ("trial", "frontier")

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value:g}"


@dataclass(frozen=True)
class Pick:
    """A chosen point."""

    point: FrontierPoint
    rule: Rule
    reason: str
    """The rule in words, with the numbers that it was applied with."""


def pick(
    rule: Rule,
    frontier: Sequence[FrontierPoint],
    *,
    measured: Sequence[FrontierPoint] = (),
    tolerance: float = TOLERANCE,
    objectives: Objectives = TOP1,
) -> list[Pick]:
    """The points that a rule chooses; several only for the whole frontier.

    Args:
        rule: how to choose.
        frontier: from the fewest GFLOPs to the most.
        measured: every measured point, for `trial`.
        tolerance: for `lossless`, points of top-1 that the mean may lose, >= 0.
        objectives: what the frontier trades for GFLOPs, and which costs it has beside them.

    Raises:
        StudyError: no point fits; it says which comes nearest. Or the rule is of top-1, and there
            are no labels.
        ParameterError: the tolerance is negative.
    """
    if not tolerance >= 0.0:
        raise ParameterError(f"tolerance={tolerance} is negative: points of top-1 to lose, >= 0.")
    if rule.name == "trial":
        return [_trial(rule, measured)]
    if not frontier:
        raise StudyError("There is no finished trial to pick from yet.")
    if rule.name == "frontier":
        cost = "fewer GFLOPs, less latency" if objectives.latency else "fewer GFLOPs"
        reason = f"on the frontier: no other trial has {cost} and as good a {_score(objectives)}"
        return [Pick(point, rule, reason) for point in frontier]
    if rule.name == "budget":
        assert rule.value is not None
        return [_budget(rule, rule.value, frontier, objectives)]
    if rule.name == "latency":
        assert rule.value is not None
        return [_latency(rule, rule.value, frontier, objectives)]
    if rule.name == "knee":
        return [_knee(rule, frontier, objectives.score)]
    if not frontier[0].measurement.has_labels:
        raise StudyError(
            f"{rule} is about top-1, which is unknown without labels: pick by knee, budget:G or "
            "trial:N."
        )
    if rule.name == "lossless":
        return [_lossless(rule, frontier, tolerance)]
    assert rule.value is not None
    return [_drop(rule, rule.value, frontier)]


def is_lossless(point: FrontierPoint, tolerance: float = TOLERANCE) -> bool:
    """Whether a loss of top-1 is neither significant at 95 % nor above the tolerance, in points."""
    change, (_, high) = point.measurement.delta_top1, point.measurement.delta_ci95
    return high >= 0.0 and change >= -tolerance


def _lossless(rule: Rule, frontier: Sequence[FrontierPoint], tolerance: float) -> Pick:
    found = next((point for point in frontier if is_lossless(point, tolerance)), None)
    if found is None:
        best = _most_accurate(frontier)
        low, high = best.measurement.delta_ci95
        raise StudyError(
            f"No configuration is lossless within {tolerance:g} points: the best one, "
            f"trial {best.number}, changes top-1 by {best.measurement.delta_top1:+.2f} points "
            f"(95 % interval {low:+.2f} to {high:+.2f}). Search on, or pick by drop:D."
        )
    return Pick(
        found,
        rule,
        "least GFLOPs on the frontier whose loss of top-1 is not significant (the 95 % interval "
        f"of the change reaches 0) and at most {tolerance:g} points",
    )


def _score(objectives: Objectives) -> str:
    return objectives.score.title


def _most_accurate(points: Sequence[FrontierPoint]) -> FrontierPoint:
    """Of equals the cheapest."""
    return max(points, key=lambda point: point.measurement.top1)


def _budget(
    rule: Rule, limit: float, frontier: Sequence[FrontierPoint], objectives: Objectives
) -> Pick:
    within = [point for point in frontier if point.measurement.gflops <= limit]
    if not within:
        raise StudyError(
            f"No configuration costs {limit:g} GFLOPs or less: the cheapest, trial "
            f"{frontier[0].number}, costs {frontier[0].measurement.gflops:.4f}."
        )
    found = within[objectives.best([point.measurement for point in within])]
    reason = f"best {_score(objectives)} on the frontier at {limit:g} GFLOPs or less"
    return Pick(found, rule, reason)


def _latency(
    rule: Rule, limit: float, frontier: Sequence[FrontierPoint], objectives: Objectives
) -> Pick:
    fastest = min(frontier, key=lambda point: point.measurement.latency_ms)
    timed = fastest.measurement.latency
    if timed is None:
        raise StudyError(
            f"{rule} needs latencies, which this search did not time: it was not begun with "
            f"--objectives {objectives},latency."
        )
    within = [point for point in frontier if point.measurement.latency_ms <= limit]
    if not within:
        raise StudyError(
            f"No configuration answers a batch of {timed.batch_size} in {limit:g} ms: the fastest, "
            f"trial {fastest.number}, takes {timed.median_ms:.2f} ms."
        )
    found = within[objectives.best([point.measurement for point in within])]
    reason = (
        f"best {_score(objectives)} on the frontier at {limit:g} ms or less for a batch of "
        f"{timed.batch_size}"
    )
    return Pick(found, rule, reason)


def _drop(rule: Rule, limit: float, frontier: Sequence[FrontierPoint]) -> Pick:
    found = next((point for point in frontier if point.measurement.delta_top1 >= -limit), None)
    if found is None:
        best = _most_accurate(frontier)
        raise StudyError(
            f"No configuration loses {limit:g} points of top-1 or less: the best, trial "
            f"{best.number}, changes it by {best.measurement.delta_top1:+.2f}."
        )
    return Pick(
        found,
        rule,
        f"least GFLOPs on the frontier whose top-1 is {limit:g} points below the dense model's or "
        "less",
    )


def _knee(rule: Rule, frontier: Sequence[FrontierPoint], score: Score) -> Pick:
    """The point furthest above the chord from the cheapest point to the dense model.

    Both axes are scaled to the chord's box, so units do not matter; the distance is then the gain
    in the score over the chord. A cheapest point that is no worse than dense has no chord to be
    above: it is the knee itself.
    """
    first = frontier[0].measurement
    cost = first.dense_gflops - first.gflops
    sign = 1.0 if score.maximize else -1.0
    rise = -sign * score.change(first)
    above = [
        sign * (score.of(here) - score.of(first)) * cost - (here.gflops - first.gflops) * rise
        for here in (point.measurement for point in frontier)
    ]
    best = max(range(len(frontier)), key=above.__getitem__) if rise > 0.0 and cost > 0.0 else 0
    return Pick(
        frontier[best],
        rule,
        "furthest above the straight line from the frontier's cheapest point to the dense model",
    )


def _trial(rule: Rule, measured: Sequence[FrontierPoint]) -> Pick:
    found = next((point for point in measured if point.number == rule.value), None)
    if found is None:
        raise StudyError(
            f"Trial {rule.value:g} has no measurement of its own on all of the study's images: "
            "nothing to export. `frontier --with-dominated` lists those that have."
        )
    return Pick(found, rule, "asked for by its number")
