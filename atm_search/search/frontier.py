"""The frontier of a study: its best trades of accuracy for compute."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from atm_search import pareto
from atm_search.measure.measurement import Measurement
from atm_search.search.dense import Dense
from atm_search.search.objectives import Objectives, usual
from atm_search.search.trials import Confirmation, TrialRecord


@dataclass(frozen=True)
class FrontierPoint:
    """A measured configuration; on the frontier, no other beats it in every objective."""

    number: int
    """Of the trial that measured it."""
    method: str
    params: Mapping[str, Any]
    measurement: Measurement
    feasible: bool | None = None
    """Whether it keeps the study's constraints; None if there are none."""
    confirmation: Confirmation | None = field(default=None, compare=False, repr=False)
    """The same on other images."""

    @property
    def confirmed(self) -> Measurement | None:
        """Its figures on other images, with the latency that the search timed; None without."""
        if self.confirmation is None:
            return None
        return replace(self.confirmation.measurement, latency=self.measurement.latency)


def frontier(
    records: Iterable[TrialRecord], dense: Dense, objectives: Objectives | None = None
) -> list[FrontierPoint]:
    """The frontier, from the fewest GFLOPs to the most.

    Only measurements on all of the study's images count, and only those that keep its constraints.
    Of equal points, and of trials with the same configuration, the first stays. Without objectives
    it is of top-1 if there are labels, else of KL; so it is below.
    """
    points = [
        point
        for record in records
        if record.feasible is not False and (point := _point(record, dense)) is not None
    ]
    return _by_gflops([points[index] for index in _front(points, objectives or usual(dense))])


def measured_points(records: Iterable[TrialRecord], dense: Dense) -> list[FrontierPoint]:
    """Every measured configuration once, on the frontier or not, from the fewest GFLOPs up."""
    points = (_point(record, dense) for record in records)
    return _by_gflops([point for point in points if point is not None])


def partial_points(records: Iterable[TrialRecord], dense: Dense) -> list[FrontierPoint]:
    """Configurations that were measured on some of the images only, from the fewest GFLOPs up."""
    return _by_gflops(
        [
            FrontierPoint(r.number, r.method, r.params, r.measurement, r.feasible)
            for r in records
            if r.measured and r.reused_from is None and r.method is not None and r.measurement
            if r.measurement.images < dense.images
        ]
    )


def reference_point(dense: Dense, objectives: Objectives | None = None) -> tuple[float, ...]:
    """What hypervolume is measured from, by the objectives' axes: far from dense, at dense cost."""
    return (objectives or usual(dense)).reference_point(dense)


def hypervolume(
    points: Sequence[FrontierPoint], dense: Dense, objectives: Objectives | None = None
) -> float:
    """Volume that the points dominate, as far as the reference point.

    In percentage points x GFLOPs, or nats x GFLOPs; where latency is an objective, x ms.
    """
    of = objectives or usual(dense)
    return pareto.hypervolume(
        [of.point(point.measurement) for point in points],
        of.reference_point(dense),
        maximize=of.maximize,
    )


def hypervolume_history(
    records: Iterable[TrialRecord], dense: Dense, objectives: Objectives | None = None
) -> list[float]:
    """Hypervolume of the frontier after every finished trial, by number.

    It never falls, unless another score chooses the frontier.
    """
    of = objectives or usual(dense)
    history: list[float] = []
    best: list[FrontierPoint] = []
    area = 0.0
    for record in records:
        if not record.measured:
            continue
        point = _point(record, dense)
        if point is not None and point.feasible is not False:
            best.append(point)
            kept = _front(best, of)
            if len(best) - 1 in kept:
                best = [best[index] for index in kept]
                area = hypervolume(best, dense, of)
            else:
                best.pop()
        history.append(area)
    return history


def _point(record: TrialRecord, dense: Dense) -> FrontierPoint | None:
    """A trial's own measurement on all images; None if it has none."""
    measured = record.measurement
    if not record.measured or record.reused_from is not None or record.method is None:
        return None
    if measured is None or measured.images != dense.images:
        return None
    return FrontierPoint(
        record.number,
        record.method,
        record.params,
        measured,
        record.feasible,
        record.confirmation,
    )


def _front(points: Sequence[FrontierPoint], of: Objectives) -> list[int]:
    return of.front([point.measurement for point in points])


def _by_gflops(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    return sorted(points, key=lambda point: point.measurement.gflops)
