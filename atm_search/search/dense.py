"""What the untouched model reaches, the point that every saving is compared with."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from atm_search.measure.measurement import Measurement, percent


@dataclass(frozen=True)
class Dense:
    """The dense model on a study's images; counted once and kept in the study.

    Accuracies are percent of `images`, not a number without labels; GFLOPs 10^9 multiply-adds per
    image.
    """

    images: int
    top1_hits: int | None
    """None without labels."""
    top5_hits: int | None
    gflops: float
    latency_ms: float | None = None
    """Median time of a batch, where latency is an objective; timed as the study began."""

    @property
    def has_labels(self) -> bool:
        """Whether its accuracy is known."""
        return self.top1_hits is not None

    @property
    def top1(self) -> float:
        """Percent of images whose best class is right."""
        return percent(self.top1_hits, self.images)

    @property
    def top5(self) -> float:
        """Percent of images with the right class among the best five."""
        return percent(self.top5_hits, self.images)

    def is_guessing(self, num_classes: int) -> bool:
        """Whether so many hits are no sign that the model knows the labels: chance and 3 sigma."""
        if self.top1_hits is None or num_classes < 1:
            return False
        chance = self.images / num_classes
        return self.top1_hits <= chance + 3.0 * math.sqrt(chance)

    @classmethod
    def of(cls, measurement: Measurement) -> "Dense":
        """The dense half of any measurement, that of the dense model itself included."""
        return cls(
            images=measurement.images,
            top1_hits=measurement.dense_top1_hits,
            top5_hits=measurement.dense_top5_hits,
            gflops=measurement.dense_gflops,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Dense":
        """The value that `to_dict` wrote."""
        return cls(**values)
