"""How KL divergence from the dense model foretells the change of top-1, on one model and shard."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atm_search.measure.measurement import Measurement

FEWEST = 10
"""Configurations from which a relation is worked out."""

RESAMPLES = 1000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Relation:
    """Of KL (nats) and the change of top-1 (percentage points) over configurations.

    Intervals are 95 %, from configurations drawn again with replacement (bootstrap). All were
    measured on the same images, so how these differ from others is not in them.
    """

    configurations: int
    rank_correlation: float
    """Spearman's; -1 if more KL always means less top-1."""
    rank_ci95: tuple[float, float]
    slope: float
    """Points of top-1 per nat, least squares through the dense model."""
    slope_ci95: tuple[float, float]

    @property
    def is_weak(self) -> bool:
        """Whether it may be no relation at all: then KL says little of top-1 here."""
        return self.rank_ci95[1] >= 0.0 or self.slope_ci95[1] >= 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {
            "rank_ci95": list(self.rank_ci95),
            "slope_ci95": list(self.slope_ci95),
            "is_weak": self.is_weak,
        }

    def in_words(self) -> str:
        """One or two sentences, for people."""
        low, high = self.slope_ci95
        text = (
            f"Over {self.configurations} configurations the rank correlation of KL and top-1 is "
            f"{self.rank_correlation:+.2f} ({self.rank_ci95[0]:+.2f} to {self.rank_ci95[1]:+.2f}); "
            f"0.01 nats change top-1 by {self.slope / 100:+.2f} points "
            f"({low / 100:+.2f} to {high / 100:+.2f})."
        )
        return f"{text} Too weak to tell top-1 from KL here." if self.is_weak else text


def relation(measurements: Iterable[Measurement]) -> Relation | None:
    """The relation over configurations; None without labels, or if they are too few or all alike.

    Repeatable: the resampling is seeded.
    """
    pairs = [(m.kl, m.delta_top1) for m in measurements if m.has_labels]
    if len(pairs) < FEWEST:
        return None
    kl, change = np.array(pairs, dtype=np.float64).T
    if kl.std() == 0.0 or change.std() == 0.0:
        return None
    drawn = list(_resampled(kl, change))
    ranks = [spearman(a, b) for a, b in drawn]
    slopes = [_slope(a, b) for a, b in drawn]
    return Relation(
        len(pairs), spearman(kl, change), _middle95(ranks), _slope(kl, change), _middle95(slopes)
    )


def spearman(a: Values, b: Values) -> float:
    """Rank correlation of two [n] arrays, ties sharing their mean rank; 0 if one is constant."""
    first, second = _ranks(a), _ranks(b)
    if min(first.std(), second.std()) == 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Values) -> Values:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    shared: Values = (ends - counts + ends - 1) / 2.0
    return shared[inverse]


def _slope(kl: Values, change: Values) -> float:
    return float(kl @ change / (kl @ kl)) if kl.any() else 0.0


def _resampled(kl: Values, change: Values) -> Iterator[tuple[Values, Values]]:
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        rows = rng.integers(len(kl), size=len(kl))
        yield kl[rows], change[rows]


def _middle95(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
