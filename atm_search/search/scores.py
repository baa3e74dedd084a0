"""How good a configuration is beside the dense model, as one figure of its measurement."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from atm_search.measure.measurement import Measurement
from atm_search.measure.statistics import Z95
from atm_search.search.dense import Dense


@dataclass(frozen=True)
class Score:
    """What a frontier trades for compute: accuracy, or a distance from the dense model."""

    name: str
    """Of the field or property of a `Measurement`."""
    title: str
    """For people."""
    unit: str
    """Of its changes, for people; empty without one."""
    direction: str
    """As Optuna says it."""
    margin: float
    """How far from the dense model a saving is worth nothing, in its unit."""
    digits: int
    """Decimals worth showing."""

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return self.direction == "maximize"

    @property
    def is_accuracy(self) -> bool:
        """Whether it is top-1, which needs labels; else a distance, which does not."""
        return self.name == "top1"

    def of(self, measurement: Measurement) -> float:
        """Its value."""
        return float(getattr(measurement, self.name))

    def of_dense(self, dense: Dense) -> float:
        """That of the dense model, which is at no distance from itself."""
        return dense.top1 if self.is_accuracy else 0.0

    def change(self, measurement: Measurement) -> float:
        """What it differs by from the dense model's on the same images: paired top-1, in points."""
        return measurement.delta_top1 if self.is_accuracy else self.of(measurement)

    def change_ci95(self, measurement: Measurement) -> tuple[float, float]:
        """95 % confidence interval of that change; of a distance from its standard error."""
        if self.is_accuracy:
            return measurement.delta_ci95
        mean, error = measurement.distance, Z95 * measurement.distance_se
        return mean - error, mean + error

    def estimate(self, measurement: Measurement, dense: Dense) -> float:
        """Its value on all of a study's images, as well as a measurement of some of them tells."""
        if measurement.images == dense.images:
            return self.of(measurement)
        return self.of_dense(dense) + self.change(measurement)

    def bars(self, measurement: Measurement) -> tuple[float, float]:
        """How far an error bar reaches below and above: 95 % of accuracy, else a standard error."""
        if not self.is_accuracy:
            return measurement.distance_se, measurement.distance_se
        low, high = self.change_ci95(measurement)
        return self.change(measurement) - low, high - self.change(measurement)

    def text(self, measurement: Measurement) -> str:
        """The change with its uncertainty, as tables show it."""
        if not self.is_accuracy:
            mean, error = measurement.distance, measurement.distance_se
            return f"{mean:.{self.digits}f} ± {error:.{self.digits}f}"
        low, high = self.change_ci95(measurement)
        return f"{measurement.delta_top1:+.2f} ({low:+.2f} to {high:+.2f})"


TOP1 = Score("top1", "top-1", "points", "maximize", margin=10.0, digits=2)

KL = Score("kl", "KL", "nats", "minimize", margin=0.25, digits=4)
"""DeiT-T has lost 7 points of top-1 at its margin."""

FEATURE = Score("feature", "feature distance", "", "minimize", margin=0.12, digits=5)
"""Cosine distance of the pooled feature; where DeiT-T reaches its margin, KL reaches its own."""


def known(*measurements: Measurement) -> Score:
    """What measurements can be compared by: top-1 if all have labels, else their distance."""
    if all(measurement.has_labels for measurement in measurements):
        return TOP1
    return KL if all(measurement.has_head for measurement in measurements) else FEATURE


SCORES: Mapping[str, Score] = MappingProxyType({score.name: score for score in (TOP1, KL, FEATURE)})
