"""What a configuration must keep to be of use: little accuracy lost, compute below a limit."""

import math
from dataclasses import dataclass

from atm_search.errors import ParameterError
from atm_search.measure.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Limits that steer the sampler; None sets none.

    Raises:
        ParameterError: a limit is no number, max_drop is negative or max_gflops is not positive.
    """

    max_drop: float | None = None
    """Top-1 that may be lost against the dense model on the same images, percentage points."""
    max_gflops: float | None = None
    """GFLOPs per image."""

    def __post_init__(self) -> None:
        if self.max_drop is not None and not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            raise ParameterError(
                f"max_drop={self.max_drop} is no loss of top-1: use percentage points, 0 or more."
            )
        if self.max_gflops is not None and not (
            math.isfinite(self.max_gflops) and self.max_gflops > 0
        ):
            raise ParameterError(
                f"max_gflops={self.max_gflops} leaves no compute: use a number above 0."
            )

    def violations(self, measurement: Measurement) -> dict[str, float]:
        """By how much a measurement exceeds each limit that is set; 0 or less keeps it."""
        found = {}
        if self.max_drop is not None:
            # From counts: as a difference of percentages, a drop of just 1.0 would be above 1.0.
            if measurement.dense_top1_hits is None or measurement.top1_hits is None:
                raise ParameterError("max_drop is of top-1: it needs images with labels.")
            lost = measurement.dense_top1_hits - measurement.top1_hits
            found["max_drop"] = 100.0 * lost / measurement.images - self.max_drop
        if self.max_gflops is not None:
            found["max_gflops"] = measurement.gflops - self.max_gflops
        return found

    def feasible(self, measurement: Measurement) -> bool | None:
        """Whether a measurement keeps every limit; None if none is set."""
        violations = self.violations(measurement)
        return all(excess <= 0 for excess in violations.values()) if violations else None

    def to_dict(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {name: limit for name, limit in vars(self).items() if limit is not None}


UNLIMITED = Constraints()
