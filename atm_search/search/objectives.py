"""What a search optimises beside GFLOPs, and what its frontier is of."""

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

    def __post_init__(self) -> None:
        if (self.searched, self.reported) not in NAMES:
            raise ParameterError(
                f"Searching by {self.searched} for a frontier of {self.reported} is not offered. "
                f"Known: {', '.join(NAMES.values())}."
            )

    @classmethod
    def parse(cls, text: str) -> "Objectives":
        """The objectives as people write them: `top1,gflops`, `kl,gflops` or `guided`.

        Raises:
            ParameterError: there are no such objectives.
        """
        for scores, name in NAMES.items():
            if text.replace(" ", "") == name:
                return cls(*scores)
        raise ParameterError(f"No objectives '{text}'. Known: {', '.join(NAMES.values())}.")

    def __str__(self) -> str:
        return NAMES[self.searched, self.reported]

    def in_words(self) -> str:
        """What is optimised, for people."""
        return WORDS[str(self)]

    @property
    def needs_labels(self) -> bool:
        """Whether images without labels will not do."""
        return self.reported == "top1"

    @property
    def directions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Names and directions of what the sampler is told."""
        return (self.searched, DIRECTIONS[self.searched]), ("gflops", "minimize")

    @property
    def maximize(self) -> tuple[bool, bool]:
        """Directions of such a point."""
        return DIRECTIONS[self.reported] == "maximize", False

    def point(self, measurement: Measurement) -> tuple[float, float]:
        """(score, gflops) as hypervolume takes them."""
        return float(getattr(measurement, self.reported)), measurement.gflops

    def front(self, measurements: Sequence[Measurement]) -> list[int]:
        """Indices of the measurements on the frontier, in their order; of equal ones the first.

        The score that is searched by chooses, also where another is reported: the best top-1 of
        all that was measured would mostly be the luckiest (benchmarks/RESULTS.md, fidelity).
        """
        values = [(getattr(measured, self.searched), measured.gflops) for measured in measurements]
        maximize = DIRECTIONS[self.searched] == "maximize", False
        return [int(index) for index in pareto.front(values, maximize=maximize)]

    def told(self, measurement: Measurement, dense: Dense) -> tuple[float, float]:
        """What the sampler is told: the score, of a partial measurement as an estimate, and GFLOPs.

        Its images may be easier or harder than the rest; for top-1 the dense model says by how
        much. Divergence is measured from the dense model as it is.
        """
        if self.searched == "kl":
            return measurement.kl, measurement.gflops
        if measurement.images == dense.images:
            return measurement.top1, measurement.gflops
        return dense.top1 + measurement.delta_top1, measurement.gflops

    def reference_point(self, dense: Dense) -> tuple[float, float]:
        """(score, gflops) that hypervolume is measured from: far from dense, at dense cost.

        Configurations that lose more, or save nothing, are of no use and add nothing.
        """
        score = KL_MARGIN if self.reported == "kl" else dense.top1 - TOP1_MARGIN
        return score, dense.gflops


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
