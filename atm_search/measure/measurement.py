"""What measuring one configuration on one shard gave."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from atm_search.errors import InputError, MeasurementError
from atm_search.measure.latency import Latency
from atm_search.measure.statistics import paired_change, paired_interval95

LABELLED = ("top1_hits", "top5_hits", "dense_top1_hits", "dense_top5_hits", "lost", "gained")
"""Fields that only labels can tell."""


@dataclass(frozen=True)
class Measurement:
    """Counts and sums from which every figure and interval is computed.

    Two conventions: GFLOPs are 10^9 multiply-adds per image, each counted once, both attention
    products included (as in the paper); accuracies are percent of `images`, and those of the
    dense model are of the same images. Without labels nobody knows what is right: the counts that
    need them are None, and what follows from these is not a number.
    """

    images: int
    top1_hits: int | None
    top5_hits: int | None
    dense_top1_hits: int | None
    dense_top5_hits: int | None
    lost: int | None
    """Images that the dense model has right and the reduced one wrong."""
    gained: int | None
    """Images that the reduced model has right and the dense one wrong."""
    agreements: int
    """Images for which both models give the same class."""
    kl: float
    """Mean divergence KL(dense || reduced) of the class probabilities, in nats."""
    kl_se: float
    """Its standard error."""
    gflops: float
    dense_gflops: float
    matching_gflops: float
    """Cost of deciding what to merge; not part of `gflops`."""
    tokens_per_layer: tuple[float, ...]
    """Mean tokens per image that enter each block's MLP."""
    seconds: float = field(compare=False)
    """Wall-clock time of the reduced model's forward passes and their scoring."""
    latency: Latency | None = field(default=None, compare=False)
    """How long one batch takes; None unless the search optimised it."""

    def __post_init__(self) -> None:
        counts = [getattr(self, name) for name in LABELLED]
        if None in counts and any(count is not None for count in counts):
            raise MeasurementError(
                f"Of {', '.join(LABELLED)} some are missing: give all, or none without labels."
            )

    @property
    def has_labels(self) -> bool:
        """Whether accuracies are known."""
        return self.top1_hits is not None

    @property
    def top1(self) -> float:
        """Percent of images whose best class is right."""
        return percent(self.top1_hits, self.images)

    @property
    def top5(self) -> float:
        """Percent of images with the right class among the best five."""
        return percent(self.top5_hits, self.images)

    @property
    def dense_top1(self) -> float:
        """Percent of the same images that the dense model has right."""
        return percent(self.dense_top1_hits, self.images)

    @property
    def dense_top5(self) -> float:
        """Percent of the same images with the right class among the dense model's best five."""
        return percent(self.dense_top5_hits, self.images)

    @property
    def delta_top1(self) -> float:
        """Paired change of top-1 against the dense model, in percentage points."""
        if self.lost is None or self.gained is None:
            return math.nan
        return paired_change(self.lost, self.gained, self.images)

    @property
    def delta_ci95(self) -> tuple[float, float]:
        """95 % confidence interval of that change (Bonett-Price), in percentage points."""
        if self.lost is None or self.gained is None:
            return math.nan, math.nan
        return paired_interval95(self.lost, self.gained, self.images)

    @property
    def agreement(self) -> float:
        """Percent of images for which both models give the same class; needs no labels."""
        return 100.0 * self.agreements / self.images

    @property
    def images_per_second(self) -> float:
        """Throughput of the reduced model, scoring included."""
        return self.images / self.seconds

    @property
    def latency_ms(self) -> float:
        """Median time of a batch; not a number if nobody timed it."""
        return math.nan if self.latency is None else self.latency.median_ms

    def figures(self) -> dict[str, Any]:
        """What people read, by name: percentages, intervals, costs; None for what is unknown."""
        known = self.has_labels
        return {
            "images": self.images,
            "top1": self.top1 if known else None,
            "top5": self.top5 if known else None,
            "dense_top1": self.dense_top1 if known else None,
            "dense_top5": self.dense_top5 if known else None,
            "delta_top1": self.delta_top1 if known else None,
            "delta_ci95": list(self.delta_ci95) if known else None,
            "agreement": self.agreement,
            "kl": self.kl,
            "kl_se": self.kl_se,
            "gflops": self.gflops,
            "dense_gflops": self.dense_gflops,
            "matching_gflops": self.matching_gflops,
            "tokens_per_layer": list(self.tokens_per_layer),
            "images_per_second": self.images_per_second,
            "seconds": self.seconds,
            "latency": None if self.latency is None else asdict(self.latency),
        }

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON and YAML; `from_dict` gives an equal value back."""
        values = asdict(self) | {"tokens_per_layer": list(self.tokens_per_layer)}
        if self.latency is None:
            del values["latency"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Measurement":
        """The measurement that `to_dict` wrote.

        Raises:
            InputError: a field is missing or unknown.
        """
        names = {item.name for item in fields(cls)} - {"latency"}
        given = {name: value for name, value in values.items() if name != "latency"}
        if names != set(given):
            odd = ", ".join(sorted(names.symmetric_difference(given)))
            raise InputError(f"A measurement does not have the expected fields; check: {odd}.")
        tokens = tuple(float(count) for count in given["tokens_per_layer"])
        latency = None
        if values.get("latency") is not None:
            latency = Latency.from_dict(values["latency"])
        return cls(**{**given, "tokens_per_layer": tokens}, latency=latency)


def percent(hits: int | None, images: int) -> float:
    """Share of images in percent; not a number if nobody counted."""
    return math.nan if hits is None else 100.0 * hits / images
