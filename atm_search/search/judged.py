"""By which figures a rule chooses from a frontier: confirmed ones, where there are any."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from atm_search.search.frontier import FrontierPoint
from atm_search.search.objectives import Objectives


@dataclass(frozen=True)
class Judged:
    """Candidates for a choice."""

    points: list[FrontierPoint]
    """Their measurements are what a rule goes by; from the fewest GFLOPs to the most."""
    on: str
    """What that is, in words."""


def judged(frontier: Sequence[FrontierPoint], objectives: Objectives) -> Judged:
    """The frontier as a rule should see it.

    A search's own figures flatter what it chose by them, and the cheapest "lossless" point most of
    all. So as soon as points are confirmed, on the images that most of them are confirmed on, only
    these count, by their confirmed figures: beside them an unconfirmed point would win by luck. Of
    those, only the ones that no other beats on the new images are left.

    Args:
        frontier: from the fewest GFLOPs to the most.
        objectives: of the study.
    """
    shards = Counter(p.confirmation.shard_digest for p in frontier if p.confirmation is not None)
    if not shards:
        words = (
            "the search's own figures, which flatter what it chose by them: "
            "`atm-search confirm` takes others"
        )
        return Judged(list(frontier), words)
    [(shard, count)] = shards.most_common(1)
    confirmed = [
        replace(point, measurement=figures)
        for point in frontier
        if (found := point.confirmation) is not None
        and found.shard_digest == shard
        and (figures := point.confirmed) is not None
    ]
    images = confirmed[0].measurement.images
    words = f"confirmed figures, of {images:,} images that the search did not use"
    if missing := len(frontier) - count:
        words += (
            f"; {missing} of the frontier's {len(frontier)} configurations, not confirmed on them, "
            "were left out"
        )
    best = objectives.front([point.measurement for point in confirmed])
    points = [confirmed[index] for index in best]
    return Judged(sorted(points, key=lambda point: point.measurement.gflops), words)
