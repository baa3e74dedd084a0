"""The YAML file that describes a search, for `atm-search start FILE`."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, PrivateAttr

from atm_search.documents import Document, Section, nearest
from atm_search.errors import ConfigurationError, ParameterError
from atm_search.merging.method import Range
from atm_search.merging.registry import method_class
from atm_search.search.constraints import Constraints
from atm_search.search.identity import SEPARATOR
from atm_search.search.space import Space
from atm_search.search.start_points import StartPoints

TRIALS = 50
"""Of a search that says nothing else; a grid has as many as it has points."""

METHOD = "atm"
"""What is searched unless a file or the command line names another method."""


class _Strict(Section):
    model_config = ConfigDict(strict=True)


class RangeSection(_Strict):
    """Replaces parts of a parameter's range; low = high leaves the parameter alone."""

    low: float | None = None
    high: float | None = None
    step: float | None = None


class ProtocolSection(_Strict):
    """How configurations are measured."""

    batch_size: int | None = None
    dtype: str | None = None
    images: int | None = None
    """Size of a class-balanced subset."""
    crop_pct: float | None = None
    latency_batch_size: int | None = None
    """Where latency is an objective; else batch_size."""


class ConstraintsSection(_Strict):
    """Limits that steer the sampler."""

    max_drop: float | None = None
    max_gflops: float | None = None


class DenseSection(_Strict):
    """What was published of the untouched model."""

    gflops: float
    top1: float


class PublishedPoint(_Strict):
    """A published configuration and what it reached."""

    params: dict[str, float]
    gflops: float
    top1: float


class PublishedSection(_Strict):
    """The frontier that others have published for the model, to compare with or to start from."""

    source: str
    method: str = "atm"
    """What the points are configurations of."""
    dense: DenseSection
    points: list[PublishedPoint]


class StudyFile(_Strict):
    """What a search is asked to do; None where nothing is said.

    The command line is laid over it with `over`.
    """

    study: str | None = None
    """Name in the store; of a file that does not say, the file's own name."""
    model: str | None = None
    checkpoint: str | None = None
    data: str | None = None
    method: str | None = None
    """Name of a method, or of several with commas between: then one study searches them all."""
    objectives: str | None = None
    """guided (unless given); top1,gflops; kl,gflops; or feature,gflops; each also with ,latency."""
    space: dict[str, RangeSection] = Field(default_factory=dict)
    """Changes of the method's own ranges, by parameter; of several, by names such as tome.r."""
    trials: int | None = None
    sampler: str | None = None
    step: int | None = None
    """Of a grid, which takes every step-th value of each range."""
    seed: int | None = None
    protocol: ProtocolSection = ProtocolSection()
    constraints: ConstraintsSection = ConstraintsSection()
    enqueue: Any = None
    """Start points: a list of mappings, or `published` for those below."""
    published: PublishedSection | None = None

    _document: Document | None = PrivateAttr(None)

    @classmethod
    def read(cls, path: Path) -> "StudyFile":
        """The search that a file describes.

        Raises:
            ConfigurationError: the file is missing or no YAML, has unknown keys or values that do
                not fit; with the line.
        """
        document = Document.read(path)
        if not isinstance(document.content, dict):
            raise ConfigurationError(f"{path} is no study file: it has no keys, such as 'model:'.")
        file = document.checked(cls)
        if file.study is None:
            file = file.model_copy(update={"study": path.stem})
        if file.enqueue == "published" and file.published is None:
            line = document.line(["enqueue"])
            raise ConfigurationError(f"{path}, line {line}: the file has no 'published' points.")
        file._document = document
        return file

    def over(self, **given: Any) -> "StudyFile":
        """The same with everything replaced that is given, that is, not None.

        Args:
            given: keys of the file, those of its sections protocol and constraints included.
        """
        wanted = {name: value for name, value in given.items() if value is not None}
        changes: dict[str, Any] = {}
        for section in ("protocol", "constraints"):
            own: Section = getattr(self, section)
            inner = {name: wanted.pop(name) for name in type(own).model_fields if name in wanted}
            changes[section] = own.model_copy(update=inner)
        return self.model_copy(update=changes | wanted)

    def limits(self) -> Constraints:
        """The constraints.

        Raises:
            ParameterError: a limit is none.
        """
        return Constraints(**self.constraints.model_dump())

    def budget(self, space: Space) -> int:
        """Trials in all: as many as are asked for, else TRIALS, or all points of a grid.

        Raises:
            ParameterError: there is a step without a grid, or none that leads anywhere.
        """
        if self.step is not None and self.sampler != "grid":
            raise ParameterError(f"step={self.step} is of a grid: use --sampler grid, or no step.")
        points = space.thinned(1 if self.step is None else self.step).size
        if self.trials is not None:
            return self.trials
        return points if self.sampler == "grid" else TRIALS

    def methods(self) -> tuple[str, ...]:
        """The methods to search, whatever their order, ATM if nothing is said.

        Raises:
            ParameterError: one is unknown, or named twice.
        """
        names = [name.strip() for name in (self.method or METHOD).split(SEPARATOR)]
        for name in names:
            method_class(name)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ParameterError(f"--method names {twice[0]} twice.")
        return tuple(sorted(names))

    def ranges(self, own: Space) -> Space:
        """The space: that of the methods with the file's changes.

        Raises:
            ConfigurationError: the file changes a parameter that the method's space does not have,
                or leaves no grid.
        """
        names = [item.name for item in own.ranges]
        for name in self.space:
            if name not in names:
                raise self._refusal(
                    ["space", name], f"unknown parameter '{name}'.{nearest(name, names)}"
                )
        return replace(own, ranges=tuple(self._range(item) for item in own.ranges))

    def start_points(self) -> StartPoints | None:
        """The configurations to measure first, of this file; None if it names none."""
        if self._document is None or self.enqueue is None:
            return None
        if self.enqueue != "published" or self.published is None:
            return StartPoints(self._document, ("enqueue",))
        return StartPoints(self._document, ("published", "points"), "params")

    def _range(self, own: Range) -> Range:
        change = self.space.get(own.name)
        if change is None:
            return own
        parts = {"low": own.low, "high": own.high, "step": own.step}
        parts |= change.model_dump(exclude_none=True)
        if own.is_integer and all(float(part).is_integer() for part in parts.values()):
            parts = {name: int(part) for name, part in parts.items()}
        changed = Range(own.name, **parts)
        try:
            Space((changed,))
            if changed.is_integer != own.is_integer:
                raise ParameterError(f"{own.name} is a count: its range has whole numbers only.")
        except ParameterError as error:
            raise self._refusal(["space", own.name], str(error)) from error
        return changed

    def _refusal(self, location: list[str], what: str) -> ConfigurationError:
        if self._document is None:
            return ConfigurationError(what)
        line = self._document.line(location)
        return ConfigurationError(f"{self._document.path}, line {line}: {what}")
