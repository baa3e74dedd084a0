"""The grid that a search draws configurations from."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from atm_search.errors import ParameterError
from atm_search.merging.method import Range

Key = tuple[float, ...]
"""A configuration as its grid values, in the order of the space's ranges."""


@dataclass(frozen=True)
class Space:
    """Every combination of the values of some ranges.

    Values are canonical: the shortest float of a grid value, whatever rounding a sampler left.

    Raises:
        ParameterError: a name occurs twice, or a range is not a whole number of steps.
    """

    ranges: tuple[Range, ...]

    def __post_init__(self) -> None:
        if not self.ranges or len({item.name for item in self.ranges}) < len(self.ranges):
            raise ParameterError("A search space has at least one range, and no name twice.")
        for item in self.ranges:
            steps = (item.high - item.low) / item.step if item.step > 0 else math.nan
            if not (steps >= 0 and math.isclose(steps, round(steps), abs_tol=1e-6)):
                raise ParameterError(
                    f"{item.name} from {item.low} to {item.high} by {item.step} is not a whole "
                    "number of steps."
                )

    @property
    def size(self) -> int:
        """Number of configurations; of DiffRate's more than `len` can say."""
        return math.prod(len(item) for item in self.ranges)

    def __len__(self) -> int:
        return self.size

    def suggest(self, trial: optuna.Trial) -> dict[str, float]:
        """The configuration that the study's sampler, or whoever queued it, chose for a trial.

        Raises:
            ParameterError: the trial was queued with values off the grid.
        """
        return self.canonical({item.name: _suggest(trial, item) for item in self.ranges})

    def canonical(self, params: Mapping[str, Any]) -> dict[str, float]:
        """The configuration with every value in its shortest form.

        Raises:
            ParameterError: a parameter is missing, or lies off the grid.
        """
        return dict(zip(self._names, self.key(params), strict=True))

    def key(self, params: Mapping[str, Any]) -> Key:
        """The same tuple for the same configuration, whatever its rounding; more names are ignored.

        Raises:
            ParameterError: a parameter is missing, or lies off the grid.
        """
        return tuple(_on_grid(item, params) for item in self.ranges)

    def has(self, params: Mapping[str, Any]) -> bool:
        """Whether the parameters are a configuration of it."""
        try:
            self.key(params)
        except ParameterError:
            return False
        return True

    def at(self, index: int) -> dict[str, float]:
        """The configuration at an index, 0 to len - 1; the last range varies fastest."""
        if not 0 <= index < self.size:
            raise IndexError(f"The space has {self.size} configurations, none of index {index}.")
        values: list[float] = []
        for item in reversed(self.ranges):
            index, place = divmod(index, len(item))
            values.append(item.value(place))
        return dict(zip(self._names, reversed(values), strict=True))

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Every configuration, in the order of their indices."""
        grids = ([item.value(place) for place in range(len(item))] for item in self.ranges)
        return (dict(zip(self._names, values, strict=True)) for values in itertools.product(*grids))

    def thinned(self, step: int) -> "Space":
        """Every step-th value of each range; what is left over is cut evenly from both ends.

        Of 12 values, a step of 3 keeps the 2nd, 5th, 8th and 11th. A range shorter than the step
        keeps its middle value; a step of 1 changes nothing.

        Raises:
            ParameterError: the step is below 1.
        """
        if step < 1:
            raise ParameterError(f"A step of {step} leads nowhere: use 1 or more.")
        return Space(tuple(_thinned(item, step) for item in self.ranges))

    def to_list(self) -> list[dict[str, Any]]:
        """The ranges as plain values, for JSON."""
        return [asdict(item) for item in self.ranges]

    @classmethod
    def from_list(cls, ranges: Sequence[Mapping[str, Any]]) -> "Space":
        """The space that `to_list` wrote."""
        return cls(tuple(Range(**item) for item in ranges))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.ranges)


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
