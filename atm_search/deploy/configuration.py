"""The YAML file that carries a configuration from the search to production.

Its shape is `Configuration` and its sections; unknown and missing keys are refused, with the line.
`schema/configuration-v2.json` says the same as JSON Schema.
"""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml

from atm_search.deploy.sections import (
    ConfirmationSection,
    DataSection,
    FrozenSection,
    Measured,
    MethodSection,
    ModelSection,
    PickSection,
    ProtocolSection,
    Section,
    StudySection,
    SummarySection,
)
from atm_search.documents import Document
from atm_search.errors import ConfigurationError, ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method
from atm_search.merging.registry import build

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 had none of: pick, summary, confirmation, frozen_from, method.thresholds."""


class Configuration(Section):
    """A method with its parameters, what it was measured to do, and how to measure it again."""

    schema_version: Literal[2] = 2
    pick: PickSection | None = None
    """How it was chosen from the frontier."""
    model: ModelSection
    """Which network, and how its images are prepared."""
    method: MethodSection
    """The method with all of its parameters; thresholds follow from them, block by block."""
    protocol: ProtocolSection
    """How it was measured. A batch-adaptive method merges by the mean over a batch: other batch
    sizes give other figures (`atm-search verify --batch-size`)."""
    data: DataSection
    """The images that it was measured on; a search chose it for looking good on its own."""
    measurement: Measured
    """Counts of images, and means per image. GFLOPs are 10^9 multiply-adds; what finding the pairs
    costs is beside them. Latency, if the search optimised it, is of one batch of its own size on
    its own device; `verify` does not time it again."""
    summary: SummarySection | None = None
    """What follows from the counts: percent, percentage points, 95 % interval."""
    confirmation: ConfirmationSection | None = None
    """The same on images that the search did not use."""
    frozen_from: FrozenSection | None = None
    """What the fixed schedule was frozen from, and what that changed on the same images."""
    versions: dict[str, str]
    """What it was measured with."""
    study: StudySection | None = None
    """Where it was found."""

    def build_method(self) -> Method:
        """The method, ready to apply.

        Raises:
            ParameterError: no such method, or a parameter is unknown, missing or out of its range.
        """
        return build(self.method.name, self.method.params)

    def as_confirmed(self) -> "Configuration":
        """The same with its confirmed images and figures in place of those of the search.

        Raises:
            ConfigurationError: it has none.
        """
        found = self.confirmation
        if found is None:
            raise ConfigurationError(
                "The file has no confirmed figures: run `atm-search confirm`, then export it again."
            )
        return self.model_copy(
            update={
                "data": found.data,
                "protocol": self.protocol.model_copy(update={"device": found.device}),
                "measurement": found.measurement,
                "summary": found.summary,
                "confirmation": None,
                "versions": found.versions,
            }
        )

    def headline(self) -> str:
        """One line for people: cost and accuracy against the dense model."""
        measured = self.measurement
        low, high = measured.delta_ci95
        saved = 100.0 * (1.0 - measured.gflops / measured.dense_gflops)
        cost = f"{self.model.name} with {self.method.name}: {measured.gflops:.3f} GFLOPs"
        cost += f" (-{saved:.1f} %)"
        if measured.latency is not None:
            cost += f", {measured.latency.in_words()}"
        if not measured.has_head:
            return (
                f"{cost}, pooled feature at cosine distance {measured.distance:.3g} from the dense "
                f"model's on {measured.images:,} images"
            )
        if not measured.has_labels:
            return (
                f"{cost}, KL {measured.kl:.4f} nats from the dense model, whose "
                f"class it gives for {measured.agreement:.2f} % of {measured.images:,} unlabelled "
                "images"
            )
        line = (
            f"{cost}, top-1 {measured.top1:.2f} % of {measured.images:,} images, "
            f"{measured.delta_top1:+.2f} points against the dense model "
            f"(95 % interval {low:+.2f} to {high:+.2f})"
        )
        if self.confirmation is None:
            return line
        other = self.confirmation.measurement
        low, high = other.delta_ci95
        return (
            f"{line}; {other.delta_top1:+.2f} ({low:+.2f} to {high:+.2f}) on {other.images:,} "
            "images that the search did not use"
        )

    def with_derived(self) -> "Configuration":
        """The same with everything that follows from the rest: thresholds and summaries."""
        method = self.method.model_copy(update={"thresholds": self._thresholds()})
        confirmation = self.confirmation
        if confirmation is not None:
            confirmation = confirmation.model_copy(
                update={"summary": SummarySection.if_known(confirmation.measurement)}
            )
        return self.model_copy(
            update={
                "method": method,
                "summary": SummarySection.if_known(self.measurement),
                "confirmation": confirmation,
            }
        )

    def contradictions(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Places of values that do not follow from the rest, as in an edited file, and why."""
        wanted = self.with_derived()
        given, follow = self.method.thresholds, wanted.method.thresholds
        if given is not None and not _close(given, follow or ()):
            yield ("method", "thresholds"), f"is {_shown(given)}, params give {_shown(follow)}"
        yield from _contradicted((), self.summary, wanted.summary)
        if self.confirmation is not None and wanted.confirmation is not None:
            yield from _contradicted(
                ("confirmation",), self.confirmation.summary, wanted.confirmation.summary
            )

    def write(self, path: Path) -> None:
        """Write the file whole, or not at all, with what follows from its figures.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        partial = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(self.with_derived().text(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error

    def text(self) -> str:
        """The file's text: the headline, and a comment before every section."""
        content = self.model_dump(mode="json", exclude_none=True)
        content["measurement"] = self.measurement.to_dict()  # what is unknown is written as null
        if self.confirmation is not None:
            content["confirmation"]["measurement"] = self.confirmation.measurement.to_dict()
        parts = [f"# {self.headline()}\n"]
        for name, value in content.items():
            about = textwrap.wrap(type(self).model_fields[name].description or "", width=97)
            comment = "".join(f"# {line}\n" for line in about)
            text = yaml.dump(
                {name: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
            )
            parts.append(comment + text)
        return "\n".join(parts)

    @classmethod
    def read(cls, path: Path, *, refuse_edits: bool = False) -> "Configuration":
        """The configuration that a file holds.

        Args:
            path: of the file.
            refuse_edits: also refuse values that contradict each other, parameters that were
                changed after they were measured for instance.

        Raises:
            ConfigurationError: the file is missing or no YAML, of another schema version, has
                unknown or missing keys or values that do not fit.
        """
        document = _upgraded(Document.read(path))
        configuration = document.checked(cls)
        try:
            configuration.build_method()
        except ParameterError as error:
            line = document.line(("method", "params"))
            raise ConfigurationError(f"{path}, line {line}: {error}") from error
        for location, reason in configuration.contradictions() if refuse_edits else ():
            raise ConfigurationError(
                f"{path}, line {document.line(location)}: {'.'.join(location)} {reason}. The file "
                f"was edited after it was measured: `atm-search verify {path}` measures it again; "
                "force loads it as its params say."
            )
        return configuration

    def _thresholds(self) -> tuple[float, ...] | None:
        method = self.build_method()
        if not isinstance(method, Atm):
            return None
        depth = len(self.measurement.tokens_per_layer)
        return tuple(round(threshold, 6) for threshold in method.thresholds(depth))


class _Dumper(yaml.SafeDumper):
    """Lists in one line; mappings a line per key."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: Any = None) -> Any:
        return super().represent_sequence(tag, sequence, flow_style=True)


def _upgraded(document: Document) -> Document:
    """A file of any readable version as one of this version; what is new is optional.

    Raises:
        ConfigurationError: it is no file of ours, or of a version that cannot be read.
    """
    path, content = document.path, document.content
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        raise ConfigurationError(f"{path} is no atm-search file: it has no schema_version.")
    if version not in READABLE_VERSIONS:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        todo = "pip install -U atm-search" if newer else "export it again"
        raise ConfigurationError(
            f"{path} has schema version {version}, this atm-search reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}: {todo}."
        )
    return replace(document, content=content | {"schema_version": SCHEMA_VERSION})


def _contradicted(
    place: tuple[str, ...], given: SummarySection | None, follows: SummarySection | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Places of a summary's values that do not follow from its measurement, and why."""
    if given is None or follows is None:
        return
    for name, value in given:
        other = getattr(follows, name)
        if not _close(value, other):
            reason = f"is {_shown(value)}, measurement gives {_shown(other)}"
            yield (*place, "summary", name), reason


def _close(given: Any, other: Any) -> bool:
    """Whether two figures, or two lists of them, are equal but for rounding in the file."""
    if isinstance(given, tuple):
        return len(given) == len(other) and all(map(_close, given, other))
    return math.isclose(given, other, rel_tol=1e-6, abs_tol=1e-6)


def _shown(value: Any) -> str:
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, tuple) else f"{value:g}"
