"""The frontier of a study: its best trades of accuracy for compute."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atm_search import pareto
from atm_search.measure.measurement import Measurement
from atm_search.search.dense import Dense
from atm_search.search.trials import TrialRecord

MAXIMIZE = (True, False)
"""Directions of a point (top1, gflops)."""

TOP1_MARGIN = 10.0
"""Percentage points below the dense model at which a saving is worth nothing."""


@dataclass(frozen=True)
class FrontierPoint:
    """A measured configuration that no other of the study beats in both top-1 and GFLOPs."""

    number: int
    """Of the trial that measured it."""
    method: str
    params: Mapping[str, Any]
    measurement: Measurement


def frontier(records: Iterable[TrialRecord], dense: Dense) -> list[FrontierPoint]:
    """The frontier, from the fewest GFLOPs to the most.

    Only measurements on all of the study's images count. Of equal points, and of trials with the
    same configuration, the first stays.
    """
    points = [
        FrontierPoint(record.number, record.method, record.params, record.measurement)
        for record in records
        if record.measured
        and record.reused_from is None
        and record.method is not None
        and record.measurement is not None
        and record.measurement.images == dense.images
    ]
    best = [points[index] for index in pareto.front(_objectives(points), maximize=MAXIMIZE)]
    return sorted(best, key=lambda point: point.measurement.gflops)


def reference_point(dense: Dense) -> tuple[float, float]:
    """(top1, gflops) that hypervolume is measured from: 10 points below dense, at dense cost.

    Configurations that lose more, or save nothing, are of no use and add nothing.
    """
    return dense.top1 - TOP1_MARGIN, dense.gflops


def hypervolume(points: Sequence[FrontierPoint], dense: Dense) -> float:
    """Area that the points dominate, as far as the reference point; percentage points x GFLOPs."""
    return pareto.hypervolume(_objectives(points), reference_point(dense), maximize=MAXIMIZE)


def _objectives(points: Sequence[FrontierPoint]) -> list[tuple[float, float]]:
    return [(point.measurement.top1, point.measurement.gflops) for point in points]
