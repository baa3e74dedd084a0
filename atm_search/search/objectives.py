"""What a search optimises, and what its frontier is of: a score, GFLOPs and perhaps latency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from atm_search import pareto
from atm_search.errors import ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.search.dense import Dense

DIRECTIONS: Mapping[str, str] = MappingProxyType({"top1": "maximize", "kl": "minimize"})
"""Scores, each with its direction."""

TOP1_MARGIN = 10.0
"""Percentage points below the dense model at which a saving is worth nothing."""

KL_MARGIN = 0.25
"""Nats from the dense model at which a saving is worth nothing: DeiT-T has lost 7 points there."""


@dataclass(frozen=True)
class Objectives:
    """One score to search by and one to report, each traded for GFLOPs.

    Searching by KL divergence from the dense model needs no labels and fewer images: every image
    says how far an output moved, where top-1 sees only the few answers that flip.

    Raises:
        ParameterError: a score is unknown, or labels would decide what needs none.
    """

    searched: str = "top1"
    """Score that the sampler is told, that races judge by and that chooses the frontier."""
    reported: str = "top1"
    """Score that the frontier's hypervolume is of; top1 needs labels."""
    latency: bool = False
    """Whether the time of a batch is a third objective, beside GFLOPs."""

    def __post_init__(self) -> None:
        if (self.searched, self.reported) not in NAMES:
            raise ParameterError(
                f"Searching by {self.searched} for a frontier of {self.reported} is not offered. "
                f"Known: {', '.join(NAMES.values())}."
            )

    @classmethod
    def parse(cls, text: str) -> "Objectives":
        """The objectives as people write them: `top1,gflops`, `kl,gflops` or `guided`.

        Each may be followed by `,latency`.

        Raises:
            ParameterError: there are no such objectives.
        """
        given = text.replace(" ", "")
        for scores, name in NAMES.items():
            if given in (name, name + LATENCY):
                return cls(*scores, latency=given != name)
        raise ParameterError(
            f"No objectives '{text}'. Known: {', '.join(NAMES.values())}; and each with {LATENCY}."
        )

    def __str__(self) -> str:
        return NAMES[self.searched, self.reported] + (LATENCY if self.latency else "")

    def in_words(self) -> str:
        """What is optimised, for people."""
        words = WORDS[NAMES[self.searched, self.reported]]
        return f"{words}; and the median latency of a batch" if self.latency else words

    @property
    def needs_labels(self) -> bool:
        """Whether images without labels will not do."""
        return self.reported == "top1"

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of what is minimised for the score."""
        return ("gflops", "latency_ms") if self.latency else ("gflops",)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Names and directions of what the sampler is told."""
        score = (self.searched, DIRECTIONS[self.searched])
        return score, *((cost, "minimize") for cost in self.costs)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what hypervolume is of."""
        return self.reported, *self.costs

    @property
    def maximize(self) -> tuple[bool, ...]:
        """Directions of such a point."""
        return DIRECTIONS[self.reported] == "maximize", *(False for _ in self.costs)

    def point(self, measurement: Measurement) -> tuple[float, ...]:
        """(score, gflops) or (score, gflops, latency_ms), as hypervolume takes them."""
        return float(getattr(measurement, self.reported)), *self.cost_of(measurement)

    def cost_of(self, measurement: Measurement) -> tuple[float, ...]:
        """What is minimised for the score."""
        return tuple(float(getattr(measurement, cost)) for cost in self.costs)

    def costs_no_more(self, measurement: Measurement, other: Measurement) -> bool:
        """Whether a measurement is no dearer than another in every cost."""
        pairs = zip(self.cost_of(measurement), self.cost_of(other), strict=True)
        return all(ours <= theirs for ours, theirs in pairs)

    def front(self, measurements: Sequence[Measurement]) -> list[int]:
        """Indices of the measurements on the frontier, in their order; of equal ones the first.

        The score that is searched by chooses, also where another is reported: the best top-1 of
        all that was measured would mostly be the luckiest (benchmarks/RESULTS.md, fidelity).
        """
        values = [
            (getattr(measured, self.searched), *self.cost_of(measured)) for measured in measurements
        ]
        maximize = [direction == "maximize" for _, direction in self.directions]
        return [int(index) for index in pareto.front(values, maximize=maximize)]

    def best(self, measurements: Sequence[Measurement]) -> int:
        """Index of the best in the score that is searched by, whatever it costs; one at least."""
        scores = [float(getattr(measured, self.searched)) for measured in measurements]
        maximize = DIRECTIONS[self.searched] == "maximize"
        return scores.index(max(scores) if maximize else min(scores))

    def told(self, measurement: Measurement, dense: Dense) -> tuple[float, ...]:
        """What the sampler is told: the score, of a partial measurement as an estimate, and costs.

        Its images may be easier or harder than the rest; for top-1 the dense model says by how
        much. Divergence is measured from the dense model as it is.
        """
        score = float(getattr(measurement, self.searched))
        if self.searched == "top1" and measurement.images != dense.images:
            score = dense.top1 + measurement.delta_top1
        return score, *self.cost_of(measurement)

    def reference_point(self, dense: Dense) -> tuple[float, ...]:
        """What hypervolume is measured from, by `axes`: far from dense, at dense cost.

        Configurations that lose more, or save nothing, are of no use and add nothing.
        """
        score = KL_MARGIN if self.reported == "kl" else dense.top1 - TOP1_MARGIN
        return score, *(float(getattr(dense, cost)) for cost in self.costs)


LATENCY = ",latency"
"""Follows the objectives that it is searched beside."""

NAMES = {
    ("top1", "top1"): "top1,gflops",
    ("kl", "kl"): "kl,gflops",
    ("kl", "top1"): "guided",
}
"""Of (searched, reported), as people write them."""

WORDS = {
    "top1,gflops": "top-1 and GFLOPs",
    "kl,gflops": "KL divergence from the dense model and GFLOPs; needs no labels",
    "guided": "KL divergence from the dense model and GFLOPs (guided); top-1 is reported beside it",
}

TOP1, KL, GUIDED = Objectives(), Objectives("kl", "kl"), Objectives("kl", "top1")


def usual(dense: Dense) -> Objectives:
    """The objectives of a frontier that nobody says more of: top-1, if there are labels."""
    return TOP1 if dense.has_labels else KL
