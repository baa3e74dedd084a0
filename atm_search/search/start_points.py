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
from atm_search.search.space import METHOD, Key, Point
from atm_search.search.study import Study


@dataclass(frozen=True)
class StartPoints:
    """Entries of a file, each a mapping from parameter to value; not checked yet.

    Where several methods are searched, an entry also names its `method`, unless its parameters fit
    only one of them.
    """

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

    def checked(self, identity: Identity) -> list[Point]:
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
        points: dict[Key, Point] = {}
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


def queue(study: Study, points: list[Point]) -> int:
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


def _point(identity: Identity, entry: Any) -> Point:
    """One entry as a configuration; ParameterError says what is wrong with it."""
    if not isinstance(entry, Mapping):
        raise ParameterError(f"{entry!r} is no mapping from parameters to values.")
    given = dict(entry)
    method = _method(identity, given.pop(METHOD, None), given)
    if identity.depth is not None:
        own = method_class(method).taken_over(method, given, identity.depth)
        given = given if own is None else own
    searched = _names(identity, method)
    fixed = identity.space.own(method, identity.fixed_params)
    for name, value in given.items():
        if name in fixed and name not in searched:
            if value != fixed[name]:
                raise ParameterError(
                    f"{name}={value} cannot be queued: the study keeps {name}={fixed[name]}."
                )
        elif name not in searched:
            raise ParameterError(
                f"unknown parameter '{name}'.{nearest(str(name), searched)} "
                f"The space has {', '.join(searched)}."
            )
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterError(f"{name}={value!r} is no number.")
    point = identity.space.canonical({METHOD: method, **identity.space.named(method, given)})
    identity.configured(point)
    return point


def _method(identity: Identity, named: Any, params: Mapping[str, Any]) -> str:
    """The method of an entry: the one that it names, or the only one that its parameters fit."""
    known = identity.methods
    if named is not None and named not in known:
        raise ParameterError(
            f"{METHOD} '{named}' is not searched.{nearest(str(named), known)} "
            f"The study has {', '.join(known)}."
        )
    if named is not None or len(known) == 1:
        return str(named or known[0])
    fitting = [method for method in known if set(_names(identity, method)) <= set(params)]
    if len(fitting) != 1:
        raise ParameterError(
            f"which method is it of? Add '{METHOD}:', one of {', '.join(fitting or known)}."
        )
    return fitting[0]


def _names(identity: Identity, method: str) -> list[str]:
    """What is searched of a method, by its own names."""
    return list(identity.space.own(method, {item.name: item for item in identity.space.ranges}))
