"""Where a new search begins: configurations that are known to be good."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from atm_search.errors import ParameterError, StudyError
from atm_search.merging.method import Range
from atm_search.merging.registry import method_class
from atm_search.search.frontier import frontier
from atm_search.search.identity import Identity
from atm_search.search.space import METHOD, Point
from atm_search.search.steady import SteadyStorage
from atm_search.search.study import Study, load, names
from atm_search.search.study_file import PublishedSection

SHARE = 3
"""At most one trial in so many begins where others have been: the rest is the search's own."""


@dataclass(frozen=True)
class WarmStart:
    """Configurations of a study's space to measure first."""

    points: Sequence[Point]
    source: str
    """Where they come from, in words."""
    moved: int = 0
    """How many were not on the grid, and stand at its nearest point."""
    outside: int = 0
    """How many were left out because the space ends before them, or the method refuses them."""

    def within(self, budget: int) -> Sequence[Point]:
        """As many of the points as a search of so many trials can afford, evenly spread."""
        count = min(len(self.points), budget // SHARE)
        last = max(count - 1, 1)
        return [self.points[round(i * (len(self.points) - 1) / last)] for i in range(count)]


def warm_start(study: Study, published: PublishedSection | None) -> WarmStart | None:
    """Where a study's search may begin; None if nothing is known.

    A method that generalises another begins at the frontier of the other's search, if the same
    store has one on the same images: ATM with free thresholds at the best of Eq. 1. Else a search
    begins at what was published of the model.

    Args:
        study: the new one.
        published: what study files say of its model.
    """
    found = _from_other(study.storage, study.identity)
    if found is None and published is not None:
        found = _from_published(published, study.identity)
    return found


def _from_other(storage: SteadyStorage, identity: Identity) -> WarmStart | None:
    """The longest frontier of other methods that this one can take over."""
    best: WarmStart | None = None
    for name in names(storage):
        try:
            other = load(storage, name)
        except StudyError:  # of another program
            continue
        if set(other.identity.methods) == set(identity.methods) or not _alike(
            other.identity, identity
        ):
            continue
        points = [
            (point.method, point.params)
            for point in frontier(other.records(), other.dense, other.objectives)
        ]
        found = _collected(identity, points, f"from the frontier of study '{name}'")
        if found.points and (best is None or len(found.points) > len(best.points)):
            best = found
    return best


def _from_published(published: PublishedSection, identity: Identity) -> WarmStart | None:
    points = [(published.method, point.params) for point in published.points]
    found = _collected(identity, points, f"published in {published.source}")
    return found if found.points or found.outside else None


def _alike(ours: Identity, other: Identity) -> bool:
    """Whether figures of two studies would agree."""
    mine, theirs = (
        (item.model, item.weights_digest, item.shard_digest, item.protocol)
        for item in (ours, other)
    )
    return mine == theirs


def _collected(
    identity: Identity, points: Iterable[tuple[str, Mapping[str, Any]]], source: str
) -> WarmStart:
    """Those points that the study's method can take over, as configurations of its space."""
    kept: list[Point] = []
    moved = outside = 0
    for (name, params), method in product(points, identity.methods):
        if identity.depth is None:
            break
        own = method_class(method).taken_over(name, params, identity.depth)
        if own is None:
            continue
        placed = _placed(identity, method, own)
        if placed is None:
            outside += 1
        elif placed not in kept:
            kept.append(placed)
            moved += not identity.space.has(_point(identity, method, own))
    return WarmStart(kept, source, moved, outside)


def _point(identity: Identity, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A method's parameters as the space names them."""
    return {METHOD: method, **identity.space.named(method, params)}


def _placed(identity: Identity, method: str, params: Mapping[str, Any]) -> Point | None:
    """The nearest point of the space; None if a value lies beyond its range, or is another's."""
    ranges = identity.space.own(method, {item.name: item for item in identity.space.ranges})
    fixed = identity.space.own(method, identity.fixed_params)
    for name, value in params.items():
        if name in ranges:
            if not _spans(ranges[name], value):
                return None
        elif value != fixed.get(name):
            return None
    if not ranges.keys() <= params.keys():
        return None
    nearest = {name: item.nearest(params[name]) for name, item in ranges.items()}
    try:
        placed = identity.space.canonical(_point(identity, method, nearest))
        identity.configured(placed)
    except ParameterError:
        return None
    return placed


def _spans(item: Range, value: float) -> bool:
    slack = item.step * 1e-6
    return math.isfinite(value) and item.low - slack <= value <= item.high + slack
