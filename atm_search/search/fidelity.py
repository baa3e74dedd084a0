"""How KL divergence from the dense model foretells the change of top-1, on one model and shard."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from atm_search.measure.measurement import Measurement

FEWEST = 10
"""Configurations from which a relation is worked out."""

RESAMPLES = 1000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a measurement on all of a study's images would say, foretold from KL on some of them."""

    delta_top1: float
    """Change of top-1 against the dense model, in percentage points."""
    ci95: tuple[float, float]
    """95 % prediction interval."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"delta_top1": self.delta_top1, "ci95": list(self.ci95)}

    def in_words(self) -> str:
        """The change and its interval, for people."""
        low, high = self.ci95
        return f"{self.delta_top1:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"


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
    residual: float
    """Standard deviation of the change around the line, in points."""
    kl_norm: float
    """Root of the sum of squared KL, nats: the further it reaches, the surer the slope."""
    largest_kl: float
    """Of the configurations, nats: beyond it nothing is known."""

    @property
    def is_weak(self) -> bool:
        """Whether it may be no relation at all: then KL says little of top-1 here.

        The rule: the 95 % interval of the rank correlation or of the slope reaches 0.
        """
        return self.rank_ci95[1] >= 0.0 or self.slope_ci95[1] >= 0.0

    def predict(self, measurement: Measurement, images: int) -> Prediction | None:
        """The change of top-1 that a measurement on all images would probably say.

        Least squares: the line's own uncertainty, the scatter around it, and that of a KL measured
        on fewer images (those that are left differ from those that were seen). Its coverage was
        measured (benchmarks/RESULTS.md).

        Args:
            measurement: on the first of the study's images.
            images: that the study has.

        Returns:
            None if the relation is weak, or the KL beyond all that it was worked out from.
        """
        kl, kl_se = measurement.distance, measurement.distance_se
        if self.is_weak or not kl <= self.largest_kl:
            return None
        unseen = max(1.0 - measurement.images / images, 0.0)
        variance = self.residual**2 * (1.0 + (kl / self.kl_norm) ** 2)
        variance += (self.slope * kl_se) ** 2 * unseen
        half = float(stdtrit(self.configurations - 1, 0.975)) * math.sqrt(variance)
        change = self.slope * kl
        return Prediction(change, (change - half, change + half))

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
        if self.is_weak:
            return f"{text} Too weak to tell top-1 from KL here: one of these intervals reaches 0."
        return text


def relation(measurements: Iterable[Measurement]) -> Relation | None:
    """The relation over configurations; None without labels, or if they are too few or all alike.

    Repeatable: the resampling is seeded.
    """
    known = [m for m in measurements if m.has_labels and m.has_head]
    return _fitted(tuple((m.distance, m.delta_top1) for m in known))


@lru_cache(maxsize=8)
def _fitted(pairs: tuple[tuple[float, float], ...]) -> Relation | None:
    """Of KL and the change of top-1; a page asks for it again and again."""
    if len(pairs) < FEWEST:
        return None
    kl, change = np.array(pairs, dtype=np.float64).T
    if kl.std() == 0.0 or change.std() == 0.0:
        return None
    drawn = list(_resampled(kl, change))
    ranks = [spearman(a, b) for a, b in drawn]
    slopes = [_slope(a, b) for a, b in drawn]
    slope = _slope(kl, change)
    return Relation(
        configurations=len(pairs),
        rank_correlation=spearman(kl, change),
        rank_ci95=_middle95(ranks),
        slope=slope,
        slope_ci95=_middle95(slopes),
        residual=float(np.sqrt(np.square(change - slope * kl).sum() / (len(pairs) - 1))),
        kl_norm=float(np.sqrt(kl @ kl)),
        largest_kl=float(kl.max()),
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
