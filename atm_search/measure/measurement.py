"""What measuring one configuration on one shard gave."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from atm_search.errors import InputError, MeasurementError
from atm_search.measure.latency import Latency
from atm_search.measure.statistics import paired_change, paired_interval95

LABELLED = ("top1_hits", "top5_hits", "dense_top1_hits", "dense_top5_hits", "lost", "gained")
"""Fields that only labels can tell."""

OF_CLASSES = ("agreements", "kl", "kl_se")
"""Fields of a model that knows classes; one without a classifier head has those of its feature."""

OF_FEATURE = ("feature", "feature_se")


@dataclass(frozen=True)
class Measurement:
    """Counts and sums from which every figure and interval is computed.

    Two conventions: GFLOPs are 10^9 multiply-adds per image, each counted once, both attention
    products included (as in the paper); accuracies are percent of `images`, and those of the
    dense model are of the same images. Without labels nobody knows what is right: the counts that
    need them are None, and what follows from these is not a number. A model without a classifier
    head has no class probabilities: how far its feature moved stands in for KL and agreement.
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
    agreements: int | None
    """Images for which both models give the same class; None without a classifier head."""
    kl: float | None
    """Mean divergence KL(dense || reduced) of the class probabilities, in nats, or None."""
    kl_se: float | None
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
    feature: float | None = None
    """Mean cosine distance of the pooled feature from the dense model's, 0 to 2; None with a
    classifier head."""
    feature_se: float | None = None
    """Its standard error."""

    def __post_init__(self) -> None:
        counts = [getattr(self, name) for name in LABELLED]
        if None in counts and any(count is not None for count in counts):
            raise MeasurementError(
                f"Of {', '.join(LABELLED)} some are missing: give all, or none without labels."
            )
        missing = [getattr(self, name) is None for name in (*OF_CLASSES, *OF_FEATURE)]
        if missing not in ([False] * 3 + [True] * 2, [True] * 3 + [False] * 2):
            raise MeasurementError(
                f"Give either {', '.join(OF_CLASSES)} or, of a model without a classifier head, "
                f"{', '.join(OF_FEATURE)}."
            )

    @property
    def has_labels(self) -> bool:
        """Whether accuracies are known."""
        return self.top1_hits is not None

    @property
    def has_head(self) -> bool:
        """Whether the model gives classes, not just a feature."""
        return self.kl is not None

    @property
    def distance(self) -> float:
        """How far the answers are from the dense model's: KL, or that of the feature."""
        return _known(self.feature) if self.kl is None else self.kl

    @property
    def distance_se(self) -> float:
        """Its standard error."""
        return _known(self.feature_se) if self.kl_se is None else self.kl_se

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
        return percent(self.agreements, self.images)

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
            "agreement": self.agreement if self.has_head else None,
            "kl": self.kl,
            "kl_se": self.kl_se,
            "feature": self.feature,
            "feature_se": self.feature_se,
            "gflops": self.gflops,
            "dense_gflops": self.dense_gflops,
            "matching_gflops": self.matching_gflops,
            "tokens_per_layer": list(self.tokens_per_layer),
            "images_per_second": self.images_per_second,
            "seconds": self.seconds,
            "latency": None if self.latency is None else asdict(self.latency),
        }

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON and YAML; `from_dict` gives an equal value back.

        Later fields are there only if they say something: earlier versions do not know them.
        """
        values = asdict(self) | {"tokens_per_layer": list(self.tokens_per_layer)}
        later = _later_fields()
        return {k: v for k, v in values.items() if v is not None or k not in later}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Measurement":
        """The measurement that `to_dict` wrote.

        Raises:
            InputError: a field is missing or unknown.
        """
        names = {item.name for item in fields(cls)}
        odd = names.symmetric_difference(values) - (_later_fields() - set(values))
        if odd:
            raise InputError(
                f"A measurement does not have the expected fields; check: {', '.join(sorted(odd))}."
            )
        tokens = tuple(float(count) for count in values["tokens_per_layer"])
        latency = None
        if values.get("latency") is not None:
            latency = Latency.from_dict(values["latency"])
        return cls(**{**values, "tokens_per_layer": tokens, "latency": latency})


def _later_fields() -> set[str]:
    """Those that the first measurements did not have, all with a default."""
    return {item.name for item in fields(Measurement) if item.default is not MISSING}


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def percent(hits: int | None, images: int) -> float:
    """Share of images in percent; not a number if nobody counted."""
    return math.nan if hits is None else 100.0 * hits / images
