"""The YAML file that carries a configuration from the search to production.

Its shape is the classes below; unknown and missing keys are refused, with the line.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator

from atm_search.documents import Document, Section, nearest
from atm_search.errors import ConfigurationError, ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.merging.registry import build
from atm_search.models.preprocessing import Preprocessing

SCHEMA_VERSION = 1


def _only_fields_of(cls: type) -> BeforeValidator:
    """Refuse keys that a dataclass does not have; pydantic would drop them."""
    names = [field.name for field in dataclasses.fields(cls)]

    def check(value: Any) -> Any:
        for key in value if isinstance(value, Mapping) else ():
            if key not in names:
                raise ValueError(f"unknown key '{key}'.{nearest(key, names)}")
        return value

    return BeforeValidator(check)


class ModelSection(Section):
    """Which network, and how its images are prepared."""

    name: str
    """timm's name with its tag, or `demo`."""
    weights_sha256: str
    weights_source: str
    """Where the weights were: a path, or in words. A hint; the digest decides."""
    preprocessing: Annotated[Preprocessing, _only_fields_of(Preprocessing)]


class MethodSection(Section):
    """Which method, with all of its parameters."""

    name: str
    params: dict[str, float | int | bool | str]


class ProtocolSection(Section):
    """How it was measured; the batch size is part of what batch-adaptive methods do."""

    batch_size: int
    dtype: str
    device: str
    """The device's name."""


class DataSection(Section):
    """What it was measured on."""

    sha256: str
    source: str
    """Where the images were: a path, or in words. A hint; the digest decides."""
    images: int
    """How many of the source's images, the first of its class-balanced order."""


class StudySection(Section):
    """Where it was found."""

    name: str
    trial: int


class Configuration(Section):
    """A method with its parameters, what it was measured to do, and how to measure it again."""

    schema_version: int = SCHEMA_VERSION
    model: ModelSection
    method: MethodSection
    protocol: ProtocolSection
    data: DataSection
    measurement: Annotated[Measurement, _only_fields_of(Measurement)]
    versions: dict[str, str]
    study: StudySection | None = None

    def build_method(self) -> Method:
        """The method, ready to apply.

        Raises:
            ParameterError: no such method, or a parameter is unknown, missing or out of its range.
        """
        return build(self.method.name, self.method.params)

    def headline(self) -> str:
        """One line for people: cost and accuracy against the dense model."""
        measured = self.measurement
        low, high = measured.delta_ci95
        saved = 100.0 * (1.0 - measured.gflops / measured.dense_gflops)
        return (
            f"{self.model.name} with {self.method.name}: {measured.gflops:.3f} GFLOPs "
            f"(-{saved:.1f} %), top-1 {measured.top1:.2f} % of {measured.images:,} images, "
            f"{measured.delta_top1:+.2f} points against the dense model "
            f"(95 % interval {low:+.2f} to {high:+.2f})"
        )

    def write(self, path: Path) -> None:
        """Write the file whole, or not at all."""
        content = self.model_dump(mode="json", exclude_none=True)
        text = f"# {self.headline()}\n" + yaml.safe_dump(
            content, sort_keys=False, allow_unicode=True, width=100
        )
        partial = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error

    @classmethod
    def read(cls, path: Path) -> "Configuration":
        """The configuration that a file holds.

        Raises:
            ConfigurationError: the file is missing or no YAML, of another schema version, has
                unknown or missing keys or values that do not fit.
        """
        document = Document.read(path)
        content = document.content
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version is None:
            raise ConfigurationError(f"{path} is no atm-search file: it has no schema_version.")
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"{path} has schema version {version}, this atm-search reads {SCHEMA_VERSION}. "
                "Use the atm-search that wrote it, or export it again."
            )
        configuration = document.checked(cls)
        try:
            configuration.build_method()
        except ParameterError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        return configuration
