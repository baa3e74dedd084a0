"""The sections of a configuration file.

Every docstring below is the file's documentation too: the JSON Schema carries them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from atm_search import documents
from atm_search.documents import nearest
from atm_search.measure.latency import Latency
from atm_search.measure.measurement import LABELLED, Measurement
from atm_search.models.preprocessing import Preprocessing


def _only_fields_of(cls: type, **inner: type) -> BeforeValidator:
    """Refuse keys that a dataclass, or an inner one by its field, lacks; pydantic drops them."""

    def check(value: Any) -> Any:
        _check_keys(value, cls)
        for name, kind in inner.items():
            _check_keys(value.get(name) if isinstance(value, Mapping) else None, kind)
        return value

    return BeforeValidator(check)


def _check_keys(value: Any, cls: type) -> None:
    names = [field.name for field in dataclasses.fields(cls)]
    for key in value if isinstance(value, Mapping) else ():
        if key not in names:
            raise ValueError(f"unknown key '{key}'.{nearest(key, names)}")


def _possible(measurement: Measurement) -> Measurement:
    """Refuse figures that no measurement has: counts beyond the images, costs that are none."""
    if measurement.images < 1:
        raise ValueError(f"images={measurement.images} is no count of images: 1 or more.")
    for name in (*LABELLED, "agreements"):
        count = getattr(measurement, name)
        if count is not None and not 0 <= count <= measurement.images:
            raise ValueError(f"{name}={count} is no count of {measurement.images} images.")
    for name in ("gflops", "dense_gflops", "seconds"):
        value = getattr(measurement, name)
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name}={value} is not possible: it has to be above 0.")
    return measurement


Measured = Annotated[
    Measurement,
    _only_fields_of(Measurement, latency=Latency),
    AfterValidator(_possible),
]


class Section(documents.Section):
    """A mapping of the file: frozen, unknown keys refused, fields described."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSection(Section):
    """Which network, and how its images are prepared."""

    name: str
    """timm's name with its tag, or `demo`."""
    weights_sha256: str
    """Over names, dtypes, shapes and values of all weights, whatever file they came from."""
    weights_source: str
    """Where the weights were: a path, or in words. A hint; the digest decides."""
    preprocessing: Annotated[Preprocessing, _only_fields_of(Preprocessing)]
    headless: bool | None = None
    """true: measured without a classifier head; the model gives its pooled feature."""


class MethodSection(Section):
    """Which method, with all of its parameters."""

    name: str
    params: dict[str, float | int | bool | str | list[int]]
    thresholds: tuple[float, ...] | None = None
    """Similarity threshold of every block, first to last; follows from the parameters."""


class ProtocolSection(Section):
    """How it was measured; the batch size is part of what batch-adaptive methods do."""

    batch_size: int
    dtype: str
    device: str
    """The device's name."""


class DataSection(Section):
    """What it was measured on."""

    sha256: str
    """Over the images' contents and labels, in order."""
    source: str
    """Where the images were: a path, or in words. A hint; the digest decides."""
    images: int
    """How many of the source's images, the first of its class-balanced order."""
    after: int | None = None
    """Images of that order that come before these and were left out: the search used them."""


class SummarySection(Section):
    """What a measurement comes to; follows from its counts."""

    top1: float
    """Percent of images."""
    dense_top1: float
    """Percent of the same images that the dense model has right."""
    delta_top1: float
    """Paired change of top-1 against the dense model, in percentage points."""
    delta_ci95: tuple[float, float]
    """95 % confidence interval of that change (Bonett-Price)."""
    saved_percent: float
    """GFLOPs saved, in percent of the dense model's."""
    images_per_second: float
    """On the protocol's device, scoring included."""

    @classmethod
    def if_known(cls, measurement: Measurement) -> "SummarySection | None":
        """The summary of a measurement; None without labels."""
        if not measurement.has_labels:
            return None
        low, high = measurement.delta_ci95
        return cls(
            top1=round(measurement.top1, 4),
            dense_top1=round(measurement.dense_top1, 4),
            delta_top1=round(measurement.delta_top1, 4),
            delta_ci95=(round(low, 4), round(high, 4)),
            saved_percent=round(100.0 * (1.0 - measurement.gflops / measurement.dense_gflops), 2),
            images_per_second=round(measurement.images_per_second, 1),
        )


class ConfirmationSection(Section):
    """The same configuration, measured on images that the search did not use."""

    data: DataSection
    device: str
    """The device's name; batch size and dtype are those of the protocol."""
    measurement: Measured
    summary: SummarySection | None = None
    """What follows from the counts: percent, percentage points, 95 % interval."""
    versions: dict[str, str]
    """What it was measured with."""


class FrozenSection(Section):
    """What a fixed schedule was frozen from, and what that changed on the same images."""

    method: MethodSection
    gflops: float
    """Of the method that it was frozen from."""
    images: int
    lost: int
    """Images that only the method that it was frozen from has right."""
    gained: int
    """Images that only the fixed schedule has right."""
    delta_top1: float
    """Paired change of top-1 by freezing, in percentage points."""
    delta_ci95: tuple[float, float]
    """95 % confidence interval of that change (Bonett-Price)."""


class PickSection(Section):
    """How it was chosen."""

    rule: str
    """As given to `export --pick`."""
    reason: str
    judged_by: str | None = None
    """Whose figures were compared: confirmed ones, or the search's own, which flatter."""


class StudySection(Section):
    """Where it was found."""

    name: str
    trial: int
    objectives: str | None = None
    """What the search optimised."""
