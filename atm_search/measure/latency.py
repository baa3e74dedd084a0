"""How long a batch takes on a device: what was timed, and how it is said."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atm_search.errors import InputError, MeasurementError


@dataclass(frozen=True)
class Latency:
    """Time that one batch takes, in milliseconds.

    Raises:
        MeasurementError: a time is no positive number.
    """

    median_ms: float
    low_ms: float
    """A quarter of the runs took less,"""
    high_ms: float
    """and a quarter more."""
    runs: int
    dense_ms: float
    """Median of the untouched model on the same batch, timed by the same process."""
    batch_size: int
    device: str
    """The device's name."""

    def __post_init__(self) -> None:
        for name in ("median_ms", "low_ms", "high_ms", "dense_ms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise MeasurementError(f"latency.{name}={value} is no time: it has to be above 0.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Latency":
        """The latency whose fields these are.

        Raises:
            InputError: a field is missing or unknown, or no time.
        """
        try:
            return cls(**values)
        except (TypeError, MeasurementError) as error:
            raise InputError(f"A latency does not have the expected fields: {error}") from error

    def in_words(self) -> str:
        """For people, in a line."""
        return (
            f"{self.median_ms:.2f} ms for a batch of {self.batch_size} on {self.device} (half of "
            f"{self.runs} runs {self.low_ms:.2f} to {self.high_ms:.2f}; dense {self.dense_ms:.2f})"
        )
