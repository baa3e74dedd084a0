"""What is kept of a trial, beside what Optuna keeps: everything needed to repeat it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from atm_search.errors import InputError
from atm_search.measure.measurement import Measurement
from atm_search.measure.outcomes import Outcomes

ATTRIBUTE = "atm_search"
"""User attribute of a trial that holds its record; some 1 KB of JSON."""

QUEUED = "atm_search:queued"
"""User attribute of a trial that a worker queued: not to be measured if others did meanwhile."""

OUTCOMES = "atm_search:outcomes:{part}"
"""User attributes of a trial with its outcomes image by image, cut into parts."""

LONGEST_PART = 30_000
"""Characters of a part: MySQL's TEXT ends at 65,535 bytes."""

CONFIRMED = "atm_search:confirmed"
"""User attribute of a trial with its latest confirmation; of a study, another text after each."""

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
class Confirmation:
    """One configuration, and the dense model, on images that the search did not use."""

    shard_digest: str
    """sha256 of the images and labels, in hex."""
    source: str
    """Where the images came from, in words for people."""
    after: int
    """Images of the source, in its order, that were left out before these."""
    measurement: Measurement
    environment: Environment

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `of` reads them back."""
        return {
            "shard_digest": self.shard_digest,
            "source": self.source,
            "after": self.after,
            "measurement": self.measurement.to_dict(),
            **asdict(self.environment),
        }

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Confirmation | None":
        """The latest confirmation of a trial; None if it has none, or one of another version."""
        values = trial.user_attrs.get(CONFIRMED)
        if not isinstance(values, Mapping):
            return None
        try:
            return cls(
                shard_digest=values["shard_digest"],
                source=values["source"],
                after=values["after"],
                measurement=Measurement.from_dict(values["measurement"]),
                environment=Environment(values["device"], values["dtype"], values["versions"]),
            )
        except (InputError, KeyError):
            return None


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
    stopped_by: int | None = None
    """Number of the trial that dominates this one, which was therefore not measured to the end."""
    stopped_on: str | None = None
    """What it lost on: top1, or kl."""
    outcomes: Outcomes | None = field(default=None, compare=False, repr=False)
    """Image by image, of a full measurement that may stop others; in attributes of their own."""
    confirmation: Confirmation | None = field(default=None, compare=False, repr=False)
    """The same on other images; in an attribute of its own, written long after the trial."""
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

    @property
    def raced(self) -> bool:
        """Whether its measurement was stopped early, so that its figures are estimates."""
        return self.stopped_by is not None

    def to_dict(self) -> dict[str, Any]:
        """What the trial's user attribute holds, as plain values: all that is set."""
        values: dict[str, Any] = {"method": self.method, "params": dict(self.params)}
        if self.measurement is not None:
            values["measurement"] = self.measurement.to_dict()
        if self.environment is not None:
            values |= asdict(self.environment)
        if self.reused_from is not None:
            values["reused_from"] = self.reused_from
        if self.stopped_by is not None:
            values |= {"stopped_by": self.stopped_by, "stopped_on": self.stopped_on}
        if self.feasible is not None:
            values["feasible"] = self.feasible
        if self.reason is not None:
            values["reason"] = self.reason[:LONGEST_REASON]
        return values | {name: True for name in ENDINGS if getattr(self, name)}

    def outcome_parts(self) -> dict[str, str]:
        """The attributes that hold its outcomes, if it has any of its own."""
        if self.outcomes is None or self.reused_from is not None:
            return {}
        text = self.outcomes.to_text()
        starts = range(0, len(text), LONGEST_PART)
        return {
            OUTCOMES.format(part=part): text[start : start + LONGEST_PART]
            for part, start in enumerate(starts)
        }

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
            stopped_by=values.get("stopped_by"),
            stopped_on=values.get("stopped_on"),
            outcomes=_outcomes(trial),
            confirmation=Confirmation.of(trial),
            feasible=values.get("feasible"),
            reason=values.get("reason"),
            interrupted=values.get("interrupted", False),
            surplus=values.get("surplus", False),
            lost=values.get("lost", False),
        )


def tally(records: Iterable[TrialRecord]) -> dict[str, int]:
    """How trials ended: measured in full, raced out, reused, failed; and images measured in all."""
    counts = Counter({"full": 0, "raced": 0, "reused": 0, "failed": 0, "images": 0})
    for record in records:
        if record.reason is not None:
            counts["failed"] += 1
        elif record.measured and record.reused_from is not None:
            counts["reused"] += 1
        elif record.measured and record.measurement is not None:
            counts["raced" if record.raced else "full"] += 1
            counts["images"] += record.measurement.images
    return dict(counts)


def _outcomes(trial: FrozenTrial) -> Outcomes | None:
    parts: list[str] = []
    while (key := OUTCOMES.format(part=len(parts))) in trial.user_attrs:
        parts.append(str(trial.user_attrs[key]))
    if not parts or trial.state != TrialState.COMPLETE:
        return None
    try:
        return Outcomes.from_text("".join(parts))
    except InputError:  # damaged, or of another version: it just stops no others
        return None


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
