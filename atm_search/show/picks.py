"""The configurations of a frontier that most people want."""

from collections.abc import Sequence

from atm_search.search.frontier import FrontierPoint

NAMES = {
    "lossless": "the cheapest that loses no top-1",
    "knee": "where a further saving begins to cost more",
    "within_1_point": "the cheapest that loses at most 1 point",
}
"""Every pick, and what it is, in words."""


def picks(points: Sequence[FrontierPoint]) -> dict[str, FrontierPoint]:
    """The picks by name, as far as a frontier has them; from the fewest GFLOPs to the most."""
    found = {
        "lossless": _cheapest(points, max_drop=0.0),
        "knee": _knee(points),
        "within_1_point": _cheapest(points, max_drop=1.0),
    }
    return {name: point for name, point in found.items() if point is not None}


def _cheapest(points: Sequence[FrontierPoint], *, max_drop: float) -> FrontierPoint | None:
    kept = [
        point
        for point in points
        # From counts: as a difference of percentages, a drop of just 1.0 would be above 1.0.
        if 100 * (point.measurement.lost - point.measurement.gained)
        <= max_drop * point.measurement.images
    ]
    return min(kept, key=lambda point: point.measurement.gflops, default=None)


def _knee(points: Sequence[FrontierPoint]) -> FrontierPoint | None:
    """The point farthest above the line between the frontier's ends; None of fewer than three."""
    if len(points) < 3:
        return None
    ordered = sorted(points, key=lambda point: point.measurement.gflops)
    first, last = ordered[0].measurement, ordered[-1].measurement
    slope = (last.top1 - first.top1) / (last.gflops - first.gflops)
    return max(
        ordered[1:-1],
        key=lambda point: (
            point.measurement.top1 - first.top1 - slope * (point.measurement.gflops - first.gflops)
        ),
    )
