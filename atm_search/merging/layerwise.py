"""Adaptive Token Merging with a threshold of its own in every block."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

from atm_search.errors import ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method, Range

DROP = "drop_"
"""Parameters are `drop_2` to `drop_L`."""


@dataclass(frozen=True, kw_only=True)
class AtmLayerwise(Atm):
    """ATM whose thresholds may fall below Eq. 1, in every block by an amount of its own.

    `tau_l = Eq. 1 (l) - (drop_2 + ... + drop_l)`. Drops are not negative, so thresholds can only
    fall with depth, as in Eq. 1. Why so, and not 12 free numbers:

    - without drops it is ATM, to the last bit: every point of ATM's grid is one of this space, and
      a search can begin at the best of them. Eq. 1 carries the steep fall of the first blocks;
    - with alpha = 0 it is tau0 less the drops: every falling sequence on the grid whose steps are
      no greater than the largest drop;
    - a change of one drop moves the thresholds from its block on, and leaves those before it, so
      the neighbours of a good point are good, and a sampler that knows 15 of them gets somewhere
      in 100 trials. Random points merge somewhat more than those of ATM, but are of use.

    It is this project's own, to see what the form of Eq. 1 costs.
    """

    name: ClassVar[str] = "atm-layerwise"

    drops: tuple[float, ...]
    """What blocks 2 to the last fall below Eq. 1, each beyond the block before; >= 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        drops = tuple(self.drops)
        object.__setattr__(self, "drops", drops)  # a list, as files have it, has no hash
        for number, drop in enumerate(drops, 2):
            if isinstance(drop, bool) or not isinstance(drop, int | float) or not drop >= 0.0:
                raise ParameterError(
                    f"{DROP}{number}={drop!r} is no fall of a threshold: use 0 or more."
                )
        if not sum(drops) < self.tau_min:
            raise ParameterError(
                f"The drops sum to {sum(drops):g}, which takes thresholds to 0: stay below "
                f"tau_min={self.tau_min}."
            )

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """ATM's own, with alpha from 0, and drops in steps of its grid."""
        return (
            *(
                Range(item.name, 0.0, item.high, item.step) if item.name == "alpha" else item
                for item in super().space(depth)
            ),
            *(Range(f"{DROP}{number}", 0.0, 0.02, 0.005) for number in range(2, depth + 1)),
        )

    def check(self, depth: int) -> None:
        """Raise ParameterError unless there is a drop for every block but the first."""
        super().check(depth)
        if len(self.drops) != depth - 1:
            raise ParameterError(
                f"There are drops up to block {len(self.drops) + 1}, the model has {depth} blocks."
            )

    def thresholds(self, depth: int) -> tuple[float, ...]:
        """Similarity threshold of every block, first to last."""
        fallen = accumulate(self.drops, initial=0.0)
        return tuple(
            threshold - below
            for threshold, below in zip(super().thresholds(depth), fallen, strict=True)
        )

    def params(self) -> dict[str, Any]:
        """Every parameter by name, a drop of one block each."""
        params = super().params()
        drops = params.pop("drops")
        return params | {f"{DROP}{number}": drop for number, drop in enumerate(drops, 2)}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Method:
        """The method with these parameters, as `params` gives them.

        Raises:
            ParameterError: a parameter is unknown or missing, or breaks its rule.
        """
        rest, drops = dict(params), list[Any]()
        while (name := f"{DROP}{len(drops) + 2}") in rest:
            drops.append(rest.pop(name))
        if not drops:
            raise ParameterError(f"{cls.name} needs a value for {DROP}2 to {DROP}<depth>.")
        excess = next((name for name in rest if name.startswith(DROP)), None)
        if excess is not None:
            raise ParameterError(f"{excess} is of no use: {DROP}{len(drops) + 2} is missing.")
        return super().from_params(rest | {"drops": tuple(drops)})

    @classmethod
    def taken_over(
        cls, method: str, params: Mapping[str, Any], depth: int
    ) -> dict[str, Any] | None:
        """A configuration of it or of ATM; drops that are not given are 0."""
        if method not in (cls.name, Atm.name):
            return None
        return {**{f"{DROP}{number}": 0.0 for number in range(2, depth + 1)}, **params}
