"""Racing: a configuration that is dominated for certain, or almost, is not measured to the end.

Why it may look after every image. Let x_i be the score of a new configuration minus its rival's on
image i of a shard of N, and let the null hypothesis be that the new one is at least as good over
the whole shard: x_1 + ... + x_N >= c. The images come in random order and without replacement, so
under the null the next x has a mean of at least m_i = (c - sum so far) / (N - images so far). A
gambler who stakes lambda_i >= 0, fixed before image i is seen, multiplies a wealth of 1 by
1 + lambda_i (m_i - x_i): never negative, and under the null not growing in the mean, whatever the
stakes. That is a non-negative supermartingale, and by Ville's inequality the probability that it
*ever* reaches 1 / delta is at most delta. It holds for all looks at once, so none has to be paid
for. The stakes (aGRAPA) follow the mean and variance seen so far and decide only how fast a bad
configuration is found out.

What it rests on. The rival is chosen by cost, after the first batch, before any score is compared;
it has to be clearly cheaper there, and no dearer on any later batch, on the very same images. Cost
varies little and pairs vary together, so that is taken for granted and is no part of delta. The
order of a shard is random by classes: every prefix has each class about equally often. With one
image per class that is a random order, and the bound is exact; with more, differences between
classes cancel sooner, so sums vary less than in a random order, not more (argued, not proved).

Sources: Ville 1939; Waudby-Smith and Ramdas, "Confidence sequences for sampling without
replacement", NeurIPS 2020, and "Estimating means of bounded random variables by betting", JRSS B
86 (2024) 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atm_search.errors import ParameterError
from atm_search.measure.outcomes import NONE, Outcomes

DISTANCES = ("kl", "feature")
"""Scores that say how far an output is from the dense model's."""

SCORES = ("top1", *DISTANCES, "off")
CLIP = 4.0
"""A distance counts up to this many times its rival's mean: few images have most of it."""

CHEAPER = 0.005
"""Share by which a rival costs less in the first batch: the difference between two configurations
varies by some 0.4 % of the cost from batch to batch."""

PRIOR_IMAGES, PRIOR_MEAN, PRIOR_VARIANCE = 50, -0.01, 0.02
"""What the gambler has seen before the first image; neighbours differ in 2 % of hits."""

LARGEST_LOSS = 0.75
"""Share of the wealth that one image may cost."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class RaceRules:
    """When a measurement may end early.

    Raises:
        ParameterError: there is no such score, or delta is no small probability.
    """

    on: str = "top1"
    """top1: a point is beaten in accuracy. kl: in KL divergence from the dense model, clipped for
    each image at CLIP times the rival's mean; a stand-in for accuracy that tells configurations
    apart with far fewer images. feature: the same of the cosine distance of a model without a
    head. off: everything is measured in full."""
    delta: float = 0.05
    """Largest probability that a configuration which its rival does not dominate is stopped."""
    margin: float = 0.0
    """Advantage over the rival up to which a full measurement is not worth it: points of top-1, or
    percent of the rival's clipped distance. 0 stops only what is dominated."""

    def __post_init__(self) -> None:
        if self.on not in SCORES:
            raise ParameterError(f"No race on '{self.on}'. Known: {', '.join(SCORES)}.")
        if not 0.0 < self.delta <= 0.5:
            raise ParameterError(
                f"delta={self.delta} is no small probability: use 0 < delta <= 0.5."
            )
        if not 0.0 <= self.margin < 100.0:
            raise ParameterError(
                f"margin={self.margin} is no advantage: use points of top-1, or percent of KL, "
                "0 or more."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Rival:
    """A point that was measured in full, and may stop others."""

    number: int
    """Of its trial."""
    outcomes: Outcomes
    latency_ms: float = math.nan
    """Where latency is an objective too."""


class Race:
    """One configuration against the best of the points that cost no more.

    The rival is dominating if it has no more GFLOPs and at least as many hits (or is no further
    from the dense model): of equal points a frontier keeps the first.
    """

    def __init__(self, rivals: Sequence[Rival] = (), rules: RaceRules | None = None) -> None:
        """A race against one of `rivals`; without any, or rules, it goes to the end."""
        self.outcomes: Outcomes = NONE
        self.stopped_by: int | None = None
        self.rules = rules or RaceRules()
        self._rivals = [] if self.rules.on == "off" else list(rivals)
        self._duel: _Duel | None = None

    def require_latency(self, latency_ms: float) -> None:
        """Before the first batch: only rivals that answer as fast as this may stop it."""
        self._rivals = [rival for rival in self._rivals if rival.latency_ms <= latency_ms]

    def add(self, hits: ArrayLike | None, distances: ArrayLike, gflops: float) -> bool:
        """Take one batch: hits [batch] (None without labels), distances [batch], GFLOPs per image.

        Returns:
            Whether to go on.
        """
        batch = Outcomes.of(hits, distances, [gflops])
        if len(self.outcomes) == 0:
            self._duel = self._chosen(gflops)
        start, self.outcomes = len(self.outcomes), self.outcomes.followed_by(batch)
        if self._duel is None:
            return True
        self._duel.add(batch, start)
        if self._duel.is_lost(self.outcomes):
            self.stopped_by = self._duel.rival.number
        return self.stopped_by is None

    def _chosen(self, gflops: float) -> "_Duel | None":
        """A duel with the best of those that cost less in the first batch, by enough to last."""
        limit = gflops * (1.0 - CHEAPER)
        cheaper = [rival for rival in self._rivals if rival.outcomes.gflops[0] <= limit]
        if not cheaper:
            return None
        if self.rules.on in DISTANCES:
            best = min(cheaper, key=lambda rival: _mean_distance(rival.outcomes))
        else:
            best = max(cheaper, key=lambda rival: int(known_hits(rival.outcomes).sum()))
        return _Duel(best, self.rules)


class _Duel:
    """The scores of a configuration, 0 to 1, against those of its rival."""

    def __init__(self, rival: Rival, rules: RaceRules) -> None:
        self.rival = rival
        self._rules = rules
        self._clip = max(CLIP * _mean_distance(rival.outcomes), 1e-6)
        self._theirs = self._scores(rival.outcomes)
        self._within_reach = float((1.0 - self._theirs).sum())
        least = rules.margin / 100.0 * self._within_reach
        if rules.on == "top1":  # hits are whole: as many as the rival's are not enough
            least = math.floor(rules.margin / 100.0 * len(rival.outcomes) + 1e-9) + 1.0
        self._bet = Bet(len(rival.outcomes), least=least)

    def add(self, batch: Outcomes, start: int) -> None:
        theirs = self._theirs[start : start + len(batch)]
        self._bet.add(self._scores(batch) - theirs)
        self._within_reach -= float((1.0 - theirs).sum())

    def is_lost(self, ours: Outcomes) -> bool:
        """Whether the rival is better for no more cost; never once all images are measured."""
        theirs = self.rival.outcomes
        if len(ours) >= len(theirs) or (theirs.gflops[: len(ours.gflops)] > ours.gflops).any():
            return False
        # Certain: the rest could all be right, or like the dense model's, and it would not do.
        certain = self._bet.total + self._within_reach < self._bet.least - 1e-9
        return certain or self._bet.peak >= 1.0 / self._rules.delta

    def _scores(self, outcomes: Outcomes) -> Scores:
        if self._rules.on == "top1":
            return known_hits(outcomes).astype(np.float64)
        distances = outcomes.distances.astype(np.float64)
        return 1.0 - np.minimum(distances, self._clip) / self._clip


class Bet:
    """Evidence that numbers in [-1, 1], drawn without replacement, sum up to less than `least`."""

    def __init__(self, images: int, *, least: float) -> None:
        """A bet on a population of `images` numbers."""
        self.least = least
        self.total = 0.0
        """Sum of the numbers seen."""
        self.peak = 1.0
        """Largest wealth so far; the chance that it ever reaches w is at most 1 / w if the sum is
        `least` or more."""
        self._images = images
        self._seen = 0
        self._squares = 0.0
        self._wealth = 1.0

    def add(self, numbers: Scores) -> None:
        """Bet on the next numbers, in their order; each stake is fixed before its number is seen.

        Raises:
            ValueError: there are more numbers than the population has.
        """
        seen = self._seen + np.arange(len(numbers))
        if len(numbers) and seen[-1] >= self._images:
            raise ValueError(f"More numbers than the {self._images} of the population.")
        totals = self.total + _before(numbers)
        squares = self._squares + _before(numbers**2)
        null_mean = (self.least - totals) / (self._images - seen)
        stake = _stakes(null_mean, totals, squares, seen)
        with np.errstate(over="ignore"):
            wealth = self._wealth * np.cumprod(1.0 + stake * (null_mean - numbers))
        # A null mean above the largest number cannot be: the null is refuted, not just unlikely.
        wealth = np.where(np.maximum.accumulate(null_mean > 1.0), np.inf, wealth)
        self.peak = max(self.peak, float(wealth.max(initial=0.0)))
        self._wealth = float(wealth[-1]) if len(wealth) else self._wealth
        self.total += float(numbers.sum())
        self._squares += float((numbers**2).sum())
        self._seen += len(numbers)


def known_hits(outcomes: Outcomes) -> NDArray[np.bool_]:
    """The hits, which a race on top-1 cannot do without.

    Raises:
        ParameterError: there are none, for want of labels.
    """
    if outcomes.hits is None:
        raise ParameterError("A race on top1 needs labels, and these images have none: race on kl.")
    return outcomes.hits


def _mean_distance(outcomes: Outcomes) -> float:
    return float(outcomes.distances.mean(dtype=np.float64))


def _stakes(null_mean: Scores, totals: Scores, squares: Scores, seen: NDArray[Any]) -> Scores:
    """aGRAPA: what would have grown fastest so far, within what can be lost."""
    weight = PRIOR_IMAGES + seen
    mean = (PRIOR_IMAGES * PRIOR_MEAN + totals) / weight
    second = PRIOR_IMAGES * (PRIOR_VARIANCE + PRIOR_MEAN**2) + squares
    variance = np.maximum(second / weight - mean**2, 1e-6)
    edge = null_mean - mean
    largest = LARGEST_LOSS / np.maximum(1.0 - null_mean, 1e-9)
    stakes: Scores = np.clip(edge / (variance + edge**2), 0.0, largest)
    return stakes


def _before(numbers: Scores) -> Scores:
    """Sum of the numbers before each one."""
    return np.cumsum(numbers) - numbers
