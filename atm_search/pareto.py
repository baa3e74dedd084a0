"""Dominance, front and hypervolume of plain arrays.

Throughout, `points` is [n, k], one row per point and one column per objective, and `maximize` says
of every objective whether more is better. Values are finite.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

CELLS = 1_000_000
"""Comparisons that are held in memory at once."""


def is_dominated(points: ArrayLike, *, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """Whether some other point is at least as good in every objective and better in one, [n].

    Raises:
        ValueError: the points are not [n, k] finite values for k objectives.
    """
    gains = _gains(points, maximize)
    dominated = np.zeros(len(gains), dtype=bool)
    rows = max(1, CELLS // max(gains.size, 1))
    for start in range(0, len(gains), rows):
        these = gains[start : start + rows, None]  # [rows, 1, k] against [n, k]
        beaten = np.all(gains >= these, axis=2) & np.any(gains > these, axis=2)
        dominated[start : start + rows] = np.any(beaten, axis=1)
    return dominated


def front(points: ArrayLike, *, maximize: Sequence[bool]) -> NDArray[np.intp]:
    """Indices of the points that none dominates, in their order; of equal points the first.

    Raises:
        ValueError: the points are not [n, k] finite values for k objectives.
    """
    gains = _gains(points, maximize)
    if gains.shape[1] == 2:
        return _plane_front(gains)
    _, first = np.unique(gains, axis=0, return_index=True)
    candidates = np.sort(first)
    return candidates[~is_dominated(gains[candidates], maximize=[True] * gains.shape[1])]


def hypervolume(
    points: ArrayLike, reference_point: ArrayLike, *, maximize: Sequence[bool]
) -> float:
    """Volume of what the points dominate, as far as the reference point; exact.

    A point that is not better than the reference point in every objective adds nothing. The time
    grows as n^(k - 1) for n points of the front; meant for two or three objectives.

    Args:
        points: [n, k].
        reference_point: [k], in the points' own units and directions.
        maximize: k directions.

    Returns:
        The product of the objectives' units; 0 for no points.

    Raises:
        ValueError: the points are not [n, k] finite values for k objectives, or the reference
            point is not [k].
    """
    gains = _gains(points, maximize) - _gains(np.asarray(reference_point)[None], maximize)
    gains = gains[(gains > 0.0).all(axis=1)]
    return _volume(gains[front(gains, maximize=[True] * gains.shape[1])])


def _plane_front(gains: Values) -> NDArray[np.intp]:
    """The front of two objectives: from the best in the first down, every record in the second.

    Sorting keeps equal points in their order, so the first of them makes the record.
    """
    order = np.lexsort((-gains[:, 1], -gains[:, 0]))
    seconds = gains[order, 1]
    before = np.maximum.accumulate(np.append(-np.inf, seconds))[:-1]
    return np.sort(order[seconds > before])


def _volume(gains: Values) -> float:
    """Volume of the union of the boxes from the origin to each row of positive `gains`.

    Cuts it across the last objective: between two levels, the cut is the union of those boxes
    that reach the upper one, in one dimension less.
    """
    if gains.shape[1] == 1:
        return float(gains.max(initial=0.0))
    gains = gains[np.argsort(-gains[:, -1], kind="stable")]
    lower = np.append(gains[1:, -1], 0.0)
    if gains.shape[1] == 2:  # every cut is a line, as long as the longest so far
        return float((gains[:, 1] - lower) @ np.maximum.accumulate(gains[:, 0]))
    return sum(
        float(thickness) * _volume(gains[: index + 1, :-1])
        for index, thickness in enumerate(gains[:, -1] - lower)
        if thickness > 0.0
    )


def _gains(points: ArrayLike, maximize: Sequence[bool]) -> Values:
    """The points with every objective turned so that more is better, [n, k]."""
    values = np.asarray(points, dtype=np.float64)
    if values.size == 0:
        values = values.reshape(0, len(maximize))
    if values.ndim != 2 or values.shape[1] != len(maximize):
        raise ValueError(
            f"Points of shape {list(values.shape)} are not [n, {len(maximize)}]: one row per "
            "point, one column per direction."
        )
    if not np.isfinite(values).all():
        raise ValueError("A point is NaN or infinite: only finite values can be compared.")
    return np.where(np.asarray(maximize), values, -values)
