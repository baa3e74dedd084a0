"""Configurations that a person wants measured first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atm_search.documents import Document, nearest
from atm_search.errors import ConfigurationError, ParameterError
from atm_search.merging.registry import method_class
from atm_search.search.history import History
from atm_search.search.identity import Identity
from atm_search.search.space import Key
from atm_search.search.study import Study


@dataclass(frozen=True)
class StartPoints:
    """Entries of a file, each a mapping from parameter to value; not checked yet."""

    document: Document
    place: tuple[str, ...] = ()
    """Keys under which the list stands; none if the file is the list."""
    inside: str | None = None
    """Key of an entry that has its parameters; None if the entry is nothing else."""

    @classmethod
    def read(cls, path: Path) -> "StartPoints":
        """The start points of a file that is a list of them.

        Raises:
            ConfigurationError: the file is missing, unreadable or no YAML.
        """
        return cls(Document.read(path))

    def checked(self, identity: Identity) -> list[dict[str, float]]:
        """The entries as configurations of a study's space, repeated ones once.

        Raises:
            ConfigurationError: there is no list, or an entry has an unknown or missing parameter,
                or one off the grid; with file, line, number of the entry and value.
        """
        entries = self.document.content
        for key in self.place:
            entries = entries[key]
        if not isinstance(entries, list) or not entries:
            raise ConfigurationError(
                f"{self.document.path}, line {self.document.line(self.place)}: start points are a "
                "list of mappings, such as '- {tau0: 0.98, alpha: 0.035}'."
            )
        points: dict[Key, dict[str, float]] = {}
        for index, entry in enumerate(entries):
            try:
                point = _point(identity, entry[self.inside] if self.inside else entry)
            except ParameterError as error:
                line = self.document.line((*self.place, index))
                raise ConfigurationError(
                    f"{self.document.path}, line {line}, entry {index + 1}: {error}"
                ) from error
            points.setdefault(identity.space.key(point), point)
        return list(points.values())


def queue(study: Study, points: list[dict[str, float]]) -> int:
    """Number of points queued: all but those that are measured, given up, queued or running."""
    history = History(study)
    history.refresh()
    known = {*history.measured, *history.held}
    new = [
        point
        for point in points
        if (key := history.space.key(point)) not in known and history.given_up(key) is None
    ]
    for point in new:
        study.optuna.enqueue_trial(dict(point))
    return len(new)


def _point(identity: Identity, entry: Any) -> dict[str, float]:
    """One entry as a configuration; ParameterError says what is wrong with it."""
    if not isinstance(entry, Mapping):
        raise ParameterError(f"{entry!r} is no mapping from parameters to values.")
    if identity.depth is not None:
        own = method_class(identity.method).taken_over(identity.method, entry, identity.depth)
        entry = entry if own is None else own
    names = [item.name for item in identity.space.ranges]
    for name, value in entry.items():
        if name in identity.fixed_params and name not in names:
            if value != identity.fixed_params[name]:
                raise ParameterError(
                    f"{name}={value} cannot be queued: the study keeps "
                    f"{name}={identity.fixed_params[name]}."
                )
        elif name not in names:
            raise ParameterError(
                f"unknown parameter '{name}'.{nearest(str(name), names)} "
                f"The space has {', '.join(names)}."
            )
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterError(f"{name}={value!r} is no number.")
    point = identity.space.canonical(entry)
    identity.configured(point)
    return point
