"""What a search optimises, and what its frontier is of: a score, GFLOPs and perhaps latency."""

from collections.abc import Sequence
from dataclasses import dataclass

from atm_search import pareto
from atm_search.errors import ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.search.dense import Dense
from atm_search.search.scores import SCORES, Score


@dataclass(frozen=True)
class Objectives:
    """One score to search by and one to report, each traded for GFLOPs.

    Searching by KL divergence from the dense model needs no labels and fewer images: every image
    says how far an output moved, where top-1 sees only the few answers that flip. A model without
    a classifier head is searched by how far its pooled feature moved.

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
        """The objectives as people write them, such as `top1,gflops`, `kl,gflops` or `guided`.

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
    def headless(self) -> bool:
        """Whether the model is measured without its classifier head."""
        return self.searched == "feature"

    @property
    def score(self) -> Score:
        """What the frontier is of."""
        return SCORES[self.reported]

    def require_head(self, model: str, *, has_head: bool) -> None:
        """Check that the model answers what is asked.

        Raises:
            ParameterError: it has no classifier head, which all but the feature's distance need.
        """
        if not (has_head or self.headless):
            raise ParameterError(
                f"Objectives '{self}' are of classes, and {model} has no classifier head with "
                f"these weights. Use --objectives {FEATURE}, or weights with a head."
            )

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of what is minimised for the score."""
        return ("gflops", "latency_ms") if self.latency else ("gflops",)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Names and directions of what the sampler is told."""
        score = (self.searched, SCORES[self.searched].direction)
        return score, *((cost, "minimize") for cost in self.costs)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what hypervolume is of."""
        return self.reported, *self.costs

    @property
    def maximize(self) -> tuple[bool, ...]:
        """Directions of such a point."""
        return self.score.maximize, *(False for _ in self.costs)

    def point(self, measurement: Measurement) -> tuple[float, ...]:
        """(score, gflops) or (score, gflops, latency_ms), as hypervolume takes them."""
        return self.score.of(measurement), *self.cost_of(measurement)

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
        score = SCORES[self.searched]
        values = [(score.of(measured), *self.cost_of(measured)) for measured in measurements]
        maximize = (score.maximize, *(False for _ in self.costs))
        return [int(index) for index in pareto.front(values, maximize=maximize)]

    def best(self, measurements: Sequence[Measurement]) -> int:
        """Index of the best in the score that is searched by, whatever it costs; one at least."""
        score = SCORES[self.searched]
        values = [score.of(measured) for measured in measurements]
        return values.index(max(values) if score.maximize else min(values))

    def told(self, measurement: Measurement, dense: Dense) -> tuple[float, ...]:
        """What the sampler is told: the score, of a partial measurement as an estimate, and costs.

        Its images may be easier or harder than the rest; for top-1 the dense model says by how
        much. A distance is measured from the dense model as it is.
        """
        score = SCORES[self.searched].estimate(measurement, dense)
        return score, *self.cost_of(measurement)

    def reference_point(self, dense: Dense) -> tuple[float, ...]:
        """What hypervolume is measured from, by `axes`: far from dense, at dense cost.

        Configurations that lose more, or save nothing, are of no use and add nothing.
        """
        score = self.score
        far = -score.margin if score.maximize else score.margin
        return score.of_dense(dense) + far, *(float(getattr(dense, cost)) for cost in self.costs)


LATENCY = ",latency"
"""Follows the objectives that it is searched beside."""

NAMES = {
    ("top1", "top1"): "top1,gflops",
    ("kl", "kl"): "kl,gflops",
    ("kl", "top1"): "guided",
    ("feature", "feature"): "feature,gflops",
}
"""Of (searched, reported), as people write them."""

WORDS = {
    "top1,gflops": "top-1 and GFLOPs",
    "kl,gflops": "KL divergence from the dense model and GFLOPs; needs no labels",
    "guided": "KL divergence from the dense model and GFLOPs (guided); top-1 is reported beside it",
    "feature,gflops": "cosine distance of the pooled feature from the dense model's and GFLOPs; "
    "needs no labels and no classifier head",
}

TOP1, KL, GUIDED = Objectives(), Objectives("kl", "kl"), Objectives("kl", "top1")
FEATURE = Objectives("feature", "feature")


def usual(dense: Dense) -> Objectives:
    """The objectives of a frontier that nobody says more of: top-1, if there are labels."""
    return TOP1 if dense.has_labels else KL
