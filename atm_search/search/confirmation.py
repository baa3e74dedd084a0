"""The frontier measured again, on images that it was not chosen by.

A frontier point is there because it looked good on the search's images, by luck too: its figures
flatter it. On other images they do not, and the mean difference says by how much.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.merging.registry import build
from atm_search.search.frontier import FrontierPoint, frontier
from atm_search.search.objectives import Objectives
from atm_search.search.scores import Score, known
from atm_search.search.study import Study
from atm_search.search.trials import CONFIRMED, Confirmation, Environment


@dataclass(frozen=True)
class ConfirmedPoint:
    """A point of the frontier beside its confirmation."""

    point: FrontierPoint
    confirmation: Confirmation

    @property
    def score(self) -> Score:
        """What both are compared by: top-1 if both have labels, else the distance from dense."""
        return known(self.point.measurement, self.confirmation.measurement)

    @property
    def bias(self) -> float:
        """By how much the search flatters it: points of top-1, or distance from the dense model."""
        searched = self.score.change(self.point.measurement)
        change = searched - self.score.change(self.confirmation.measurement)
        return change if self.score.maximize else -change

    @property
    def bias_half_width(self) -> float:
        """Half of its 95 % interval: both changes are uncertain, on images of their own."""
        measured = self.point.measurement, self.confirmation.measurement
        intervals = (self.score.change_ci95(measurement) for measurement in measured)
        return math.hypot(*((high - low) / 2 for low, high in intervals))


@dataclass(frozen=True)
class Bias:
    """How much better a frontier looked to its search than on other images, on average."""

    mean: float
    """Of the score's change, in its unit; above 0 the search was flattered."""
    half_width: float
    """Half of its 95 % interval, at most: points share their images, so it is no narrower than
    theirs on average."""
    gflops: float
    """By how much more the other images cost, in percent of GFLOPs per image."""

    @classmethod
    def of(cls, points: Sequence[ConfirmedPoint]) -> "Bias":
        """The mean over the points, one at least."""
        costs = [
            item.confirmation.measurement.gflops / item.point.measurement.gflops for item in points
        ]
        return cls(
            mean=sum(item.bias for item in points) / len(points),
            half_width=sum(item.bias_half_width for item in points) / len(points),
            gflops=100.0 * (sum(costs) / len(costs) - 1.0),
        )


OnPoint = Callable[[int, int], None]
"""Told after every point: points confirmed, points in all."""


def confirm(
    study: Study,
    measure: Callable[[Method], Measurement],
    *,
    shard_digest: str,
    source: str,
    environment: Environment,
    after: int = 0,
    on_point: OnPoint | None = None,
) -> list[ConfirmedPoint]:
    """The frontier of a study with every point confirmed, from the fewest GFLOPs to the most.

    Each confirmation is written to its trial as soon as it is measured, so an interrupted call
    continues where it was; what is confirmed on the same images is not measured again. A trial
    keeps its latest confirmation.

    Args:
        study: from `load`.
        measure: measures one configuration on other images than the study's.
        shard_digest: identity of those images.
        source: where they come from, in words.
        environment: where it measures.
        after: images of the source, in its order, that were left out before these.
        on_point: told of progress.

    Raises:
        MeasurementError, StoreError: as `measure` and the store do.
    """
    ids = {trial.number: trial._trial_id for trial in study.optuna.get_trials(deepcopy=False)}
    points = frontier(study.records(), study.dense, study.objectives)
    confirmed = []
    for done, point in enumerate(points, start=1):
        known = point.confirmation
        if known is None or known.shard_digest != shard_digest:
            known = Confirmation(
                shard_digest=shard_digest,
                source=source,
                after=after,
                measurement=measure(build(point.method, point.params)),
                environment=environment,
            )
            study.storage.annotate(ids[point.number], CONFIRMED, known.to_dict())
            # Whoever keeps the trials that it has read sees here that there is more to read.
            study.optuna.set_user_attr(CONFIRMED, f"{shard_digest[:16]}, {done}")
        confirmed.append(ConfirmedPoint(point, known))
        if on_point is not None:
            on_point(done, len(points))
    return confirmed


def still_best(points: Sequence[ConfirmedPoint], *, latency: bool = False) -> set[int]:
    """Trials that no other confirmed point beats in score and GFLOPs on the new images.

    With latency as an objective of the search, in that of the search too.
    """
    measured = [
        replace(item.confirmation.measurement, latency=item.point.measurement.latency)
        for item in points
    ]
    score = points[0].score.name
    front = Objectives(score, score, latency=latency).front(measured)
    return {points[index].point.number for index in front}
