"""What is kept of a trial, beside what Optuna keeps: everything needed to repeat it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from atm_search.errors import InputError
from atm_search.measure.measurement import Measurement

ATTRIBUTE = "atm_search"
"""User attribute of a trial that holds its record; some 1 KB of JSON."""

QUEUED = "atm_search:queued"
"""User attribute of a trial that a worker queued: not to be measured if others did meanwhile."""

ENDINGS = ("interrupted", "surplus", "lost")
"""Fields of a record that say how a trial ended without a measurement, and without a failure."""

LONGEST_REASON = 1000
"""Characters of a failure's cause that are kept: every worker loads every trial."""


@dataclass(frozen=True)
class Environment:
    """Where a trial was measured."""

    device: str
    """Such as cpu, or the GPU's name."""
    dtype: str
    versions: Mapping[str, str]
    """Of the packages that can change a result, by name."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial of a study, read from the store.

    A trial that another program put there has no method and no measurement.
    """

    number: int
    state: TrialState
    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter of the method, canonical."""
    measurement: Measurement | None = None
    environment: Environment | None = None
    reused_from: int | None = None
    """Number of the trial that measured this configuration; None where this one did."""
    feasible: bool | None = None
    """Whether it keeps the study's constraints; None without a measurement or constraints."""
    reason: str | None = None
    """Why the trial failed."""
    interrupted: bool = False
    """Handed back by a worker that was asked to stop; its configuration was queued again."""
    surplus: bool = False
    """Given up unmeasured because other trials fill the budget, or measure the same."""
    lost: bool = False
    """Its worker died or fell silent; its configuration was queued again, twice at most."""

    @property
    def measured(self) -> bool:
        """Whether it is finished and has a measurement, its own or a reused one."""
        return self.state == TrialState.COMPLETE and self.measurement is not None

    def to_dict(self) -> dict[str, Any]:
        """What the trial's user attribute holds, as plain values: all that is set."""
        values: dict[str, Any] = {"method": self.method, "params": dict(self.params)}
        if self.measurement is not None:
            values["measurement"] = self.measurement.to_dict()
        if self.environment is not None:
            values |= asdict(self.environment)
        if self.reused_from is not None:
            values["reused_from"] = self.reused_from
        if self.feasible is not None:
            values["feasible"] = self.feasible
        if self.reason is not None:
            values["reason"] = self.reason[:LONGEST_REASON]
        return values | {name: True for name in ENDINGS if getattr(self, name)}

    @classmethod
    def of(cls, trial: FrozenTrial) -> "TrialRecord":
        """The record of any trial."""
        values = trial.user_attrs.get(ATTRIBUTE)
        if not isinstance(values, Mapping):
            return cls(number=trial.number, state=trial.state, params=dict(trial.params))
        return cls(
            number=trial.number,
            state=trial.state,
            method=values.get("method"),
            params=values.get("params", {}),
            measurement=_measurement(values.get("measurement")),
            environment=_environment(values),
            reused_from=values.get("reused_from"),
            feasible=values.get("feasible"),
            reason=values.get("reason"),
            interrupted=values.get("interrupted", False),
            surplus=values.get("surplus", False),
            lost=values.get("lost", False),
        )


def _measurement(values: Any) -> Measurement | None:
    if not isinstance(values, Mapping):
        return None
    try:
        return Measurement.from_dict(values)
    except InputError:  # of a version with other fields: not ours to compare
        return None


def _environment(values: Mapping[str, Any]) -> Environment | None:
    if not {"device", "dtype", "versions"} <= set(values):
        return None
    return Environment(values["device"], values["dtype"], values["versions"])
