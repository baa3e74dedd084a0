"""The grid that a search draws configurations from."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import optuna

from atm_search.errors import ParameterError
from atm_search.merging.method import Range

METHOD = "method"
"""Parameter that chooses a method, in a space of several."""

Point = dict[str, float | str]
"""A configuration by the names that its trial has in the store."""

Key = tuple[float | str, ...]
"""A configuration as its values, in the order of the space's ranges."""


@dataclass(frozen=True)
class Space:
    """Every combination of the values of some ranges; of several methods, those of each.

    Values are canonical: the shortest float of a grid value, whatever rounding a sampler left.

    A space of several methods has a point for each configuration of each: `{"method": "tome",
    "tome.r": 8}`. Names carry the method's, so that a sampler that learns of ToMe's r does not take
    it for another's.

    Raises:
        ParameterError: a name occurs twice, or a range is not a whole number of steps, or belongs
            to no method.
    """

    ranges: tuple[Range, ...]
    methods: tuple[str, ...] = ()
    """Those that a point chooses among; none if there is nothing to choose."""

    def __post_init__(self) -> None:
        if not self.ranges or len({item.name for item in self.ranges}) < len(self.ranges):
            raise ParameterError("A search space has at least one range, and no name twice.")
        if sum(len(branch) for branch in self._branches.values()) != len(self.ranges):
            raise ParameterError(
                f"Of several methods ({', '.join(self.methods)}) every range belongs to one."
            )
        for item in self.ranges:
            steps = (item.high - item.low) / item.step if item.step > 0 else math.nan
            if not (steps >= 0 and math.isclose(steps, round(steps), abs_tol=1e-6)):
                raise ParameterError(
                    f"{item.name} from {item.low} to {item.high} by {item.step} is not a whole "
                    "number of steps."
                )

    @classmethod
    def of(cls, methods: Mapping[str, Sequence[Range]]) -> "Space":
        """The space of one method, or of several, from what each searches by its own names.

        Raises:
            ParameterError: one has nothing to search.
        """
        for method, ranges in methods.items():
            if not ranges:
                raise ParameterError(f"{method} has nothing to search: name another method.")
        several = tuple(methods) if len(methods) > 1 else ()
        named = (
            replace(item, name=_named(method, item.name)) if several else item
            for method, ranges in methods.items()
            for item in ranges
        )
        return cls(tuple(named), several)

    @property
    def size(self) -> int:
        """Number of configurations; of DiffRate's more than `len` can say."""
        return sum(map(_size, self._branches.values()))

    def __len__(self) -> int:
        return self.size

    def suggest(self, trial: optuna.Trial) -> Point:
        """The configuration that the study's sampler, or whoever queued it, chose for a trial.

        Raises:
            ParameterError: the trial was queued with values off the grid.
        """
        chosen: Point = {}
        if self.methods:
            try:
                chosen[METHOD] = trial.suggest_categorical(METHOD, self.methods)
            except ValueError as error:
                raise ParameterError(str(error)) from error
        suggested = {item.name: _suggest(trial, item) for item in self._branch(chosen)}
        return self.canonical(chosen | suggested)

    def canonical(self, params: Mapping[str, Any]) -> Point:
        """The configuration with every value in its shortest form.

        Raises:
            ParameterError: a parameter is missing, or lies off the grid.
        """
        return self.point(self.key(params))

    def key(self, params: Mapping[str, Any]) -> Key:
        """The same tuple for the same configuration, whatever its rounding; more names are ignored.

        Raises:
            ParameterError: a parameter is missing, or lies off the grid.
        """
        values = tuple(_on_grid(item, params) for item in self._branch(params))
        return (params[METHOD], *values) if self.methods else values

    def point(self, key: Key) -> Point:
        """The configuration that has a key."""
        if not self.methods:
            return dict(zip((item.name for item in self.ranges), key, strict=True))
        chosen = {METHOD: key[0]}
        return chosen | {
            item.name: value for item, value in zip(self._branch(chosen), key[1:], strict=True)
        }

    def has(self, params: Mapping[str, Any]) -> bool:
        """Whether the parameters are a configuration of it."""
        try:
            self.key(params)
        except ParameterError:
            return False
        return True

    def own(self, method: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
        """What parameters by the names that they have here say of a method, by its own names."""
        if not self.methods:
            return dict(params)
        prefix = _named(str(method), "")
        return {
            name.removeprefix(prefix): value
            for name, value in params.items()
            if name.startswith(prefix)
        }

    def named(self, method: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
        """A method's parameters by the names that they have here; undoes `own`."""
        if not self.methods:
            return dict(params)
        return {_named(str(method), name): value for name, value in params.items()}

    def at(self, index: int) -> Point:
        """The configuration at an index, 0 to len - 1; the last range varies fastest."""
        if not 0 <= index < self.size:
            raise IndexError(f"The space has {self.size} configurations, none of index {index}.")
        branches = iter(self._branches.items())
        method, branch = next(branches)
        while index >= _size(branch):
            index -= _size(branch)
            method, branch = next(branches)
        values: list[float | str] = []
        for item in reversed(branch):
            index, place = divmod(index, len(item))
            values.append(item.value(place))
        return self.point((*([method] if self.methods else []), *reversed(values)))

    def random_index(self, random: Random) -> int:
        """An index of any method as likely as of any other, however much each searches."""
        sizes = [_size(branch) for branch in self._branches.values()]
        chosen = random.randrange(len(sizes)) if len(sizes) > 1 else 0
        return sum(sizes[:chosen]) + random.randrange(sizes[chosen])

    def __iter__(self) -> Iterator[Point]:
        """Every configuration, in the order of their indices."""
        for method, branch in self._branches.items():
            chosen = [method] if self.methods else []
            grids = ([item.value(place) for place in range(len(item))] for item in branch)
            for values in itertools.product(*grids):
                yield self.point((*chosen, *values))

    def thinned(self, step: int) -> "Space":
        """Every step-th value of each range; what is left over is cut evenly from both ends.

        Of 12 values, a step of 3 keeps the 2nd, 5th, 8th and 11th. A range shorter than the step
        keeps its middle value; a step of 1 changes nothing.

        Raises:
            ParameterError: the step is below 1.
        """
        if step < 1:
            raise ParameterError(f"A step of {step} leads nowhere: use 1 or more.")
        return replace(self, ranges=tuple(_thinned(item, step) for item in self.ranges))

    def to_list(self) -> list[dict[str, Any]]:
        """The ranges as plain values, for JSON."""
        return [asdict(item) for item in self.ranges]

    @classmethod
    def from_list(cls, ranges: Sequence[Mapping[str, Any]], methods: Sequence[str] = ()) -> "Space":
        """The space that `to_list` wrote, of these methods if they are several."""
        return cls(tuple(Range(**item) for item in ranges), tuple(methods))

    @cached_property
    def _branches(self) -> dict[str, tuple[Range, ...]]:
        """The ranges by method; all of one if there is no choice."""
        if not self.methods:
            return {"": self.ranges}
        return {
            method: tuple(item for item in self.ranges if item.name.startswith(_named(method, "")))
            for method in self.methods
        }

    def _branch(self, params: Mapping[str, Any]) -> tuple[Range, ...]:
        if not self.methods:
            return self.ranges
        method = params.get(METHOD)
        if method not in self._branches:
            given = "is missing" if method is None else f"'{method}' is not among those searched"
            raise ParameterError(f"{METHOD} {given}: {', '.join(self.methods)}.")
        return self._branches[method]


def _named(method: str, name: str) -> str:
    return f"{method}.{name}"


def _size(branch: Sequence[Range]) -> int:
    return math.prod(len(item) for item in branch)


def _suggest(trial: optuna.Trial, item: Range) -> float:
    if item.is_integer:
        return trial.suggest_int(item.name, int(item.low), int(item.high), step=int(item.step))
    return trial.suggest_float(item.name, item.low, item.high, step=item.step)


def _thinned(item: Range, step: int) -> Range:
    last = len(item) - 1
    steps = last // step
    first = (last - steps * step) // 2
    high = item.value(first + steps * step)
    width = item.step * step if item.is_integer else round(item.step * step, 10)
    return Range(item.name, item.value(first), high, width)


def _on_grid(item: Range, params: Mapping[str, Any]) -> float:
    if item.name not in params:
        raise ParameterError(f"{item.name} is missing: the space searches it.")
    value = params[item.name]
    nearest = item.nearest(value) if math.isfinite(value) else math.nan
    if not math.isclose(value, nearest, abs_tol=item.step * 1e-6):
        raise ParameterError(
            f"{item.name}={value} is off the grid: use {item.low} to {item.high} in steps of "
            f"{item.step}."
        )
    return nearest
