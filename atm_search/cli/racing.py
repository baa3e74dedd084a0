"""The options of `start` that say when a measurement may end early."""

from typing import Any

from atm_search.errors import ParameterError


def race_changes(
    *, no_racing: bool, race_on: str | None, delta: float | None, margin: float | None
) -> dict[str, Any]:
    """What the command line changes of a study's race rules.

    Raises:
        ParameterError: the options contradict each other, or are no rules.
    """
    from atm_search.measure.racing import RaceRules

    given: dict[str, Any] = {"on": race_on, "delta": delta, "margin": margin}
    changes = {name: value for name, value in given.items() if value is not None}
    if no_racing and changes:
        raise ParameterError(
            "--no-racing measures everything in full: leave out --race-on, --delta and --margin."
        )
    RaceRules(**changes)
    return {"on": "off"} if no_racing else changes
