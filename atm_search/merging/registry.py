"""Methods by name: those of this package, and those that other packages register.

A third party registers a `Method` subclass under the entry-point group `atm_search.methods`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from atm_search.errors import ParameterError
from atm_search.merging.ablations import ConstantThreshold, TopR
from atm_search.merging.atc import Atc
from atm_search.merging.atm import Atm
from atm_search.merging.ats import Ats
from atm_search.merging.diffrate import DiffRate
from atm_search.merging.evit import Evit
from atm_search.merging.fixed import Fixed
from atm_search.merging.layerwise import AtmLayerwise
from atm_search.merging.mctf import Mctf
from atm_search.merging.mergence import Mergence
from atm_search.merging.method import Method
from atm_search.merging.pitome import PiToMe
from atm_search.merging.tofu import ToFu
from atm_search.merging.tome import Tome
from atm_search.merging.zero_tp import ZeroTP

OWN: tuple[type[Method], ...] = (
    Atm,
    AtmLayerwise,
    Tome,
    Evit,
    DiffRate,
    PiToMe,
    ToFu,
    Mctf,
    Ats,
    ZeroTP,
    Mergence,
    Atc,
    ConstantThreshold,
    TopR,
    Fixed,
)
"""The methods of this package."""

ENTRY_POINT_GROUP = "atm_search.methods"


@cache
def methods() -> dict[str, type[Method]]:
    """Every known method by name; a name of this package cannot be taken over."""
    found: dict[str, type[Method]] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        found[entry.name] = entry.load()
    return found | {method.name: method for method in OWN}


def method_class(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        ParameterError: there is none.
    """
    try:
        return methods()[name]
    except KeyError:
        known = ", ".join(sorted(methods()))
        raise ParameterError(f"No method '{name}'. Known: {known}.") from None


def build(name: str, params: Mapping[str, Any]) -> Method:
    """The method of that name with these parameters.

    Raises:
        ParameterError: no such method, or a parameter is unknown, missing or out of its range.
    """
    return method_class(name).from_params(params)
