"""Studies in a store: begun, resumed, found again, and never mixed."""

import difflib
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import TrialState

from atm_search.errors import ParameterError, StudyError
from atm_search.measure.racing import DISTANCES, RaceRules
from atm_search.search.dense import Dense
from atm_search.search.identity import Identity
from atm_search.search.objectives import KL, Objectives
from atm_search.search.samplers import resolve
from atm_search.search.steady import SteadyStorage
from atm_search.search.trials import TrialRecord

SCHEMA = 1
FACTS = "atm_search"
"""User attribute of a study with what never changes: schema, identity, dense."""
PLAN = "atm_search:plan"
"""User attribute with what a later start may change: budget, sampler, seed, hints."""
BIRTH_S = 2.0
"""How long a study may exist before its maker has written what it is."""


@dataclass(frozen=True)
class Study:
    """One search: what it fixes, and what was measured so far."""

    storage: SteadyStorage
    optuna: optuna.Study
    identity: Identity
    dense: Dense

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self.optuna.study_name

    @property
    def plan(self) -> "Plan":
        """What it is to become, as the store has it now: any start may have changed it."""
        return Plan(**self.optuna.user_attrs[PLAN])

    @property
    def objectives(self) -> Objectives:
        """What it optimises."""
        return self.identity.objectives

    def records(self) -> list[TrialRecord]:
        """Every trial of it, by number."""
        return [TrialRecord.of(trial) for trial in self.optuna.get_trials(deepcopy=False)]


@dataclass(frozen=True)
class Plan:
    """How far a search goes, and how."""

    budget: int
    """Finished trials in total, over all workers and restarts."""
    sampler: str
    seed: int
    hints: Mapping[str, Any]
    """How to find things again (model alias, checkpoint, data folder); no part of the identity."""
    step: int = 1
    """A grid takes every step-th value of each range."""
    racing: Mapping[str, Any] = field(default_factory=lambda: RaceRules("off").to_dict())
    """When measurements end early; a study from before there were races has none."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "hints": dict(self.hints), "racing": dict(self.racing)}


def create_or_resume(
    storage: SteadyStorage,
    name: str,
    *,
    identity: Identity,
    dense: Callable[[], Dense],
    budget: int,
    sampler: str | None = None,
    seed: int | None = None,
    hints: Mapping[str, Any] | None = None,
    step: int | None = None,
    racing: Mapping[str, Any] | None = None,
) -> Study:
    """The study of that name, begun if there is none, to be continued to `budget` trials.

    Args:
        storage: from `open_store`.
        name: of the study.
        identity: what its trials are measured on, and how.
        dense: gives the dense model's numbers; called only for a new study.
        budget: finished trials in total, those already there included.
        sampler: None keeps the study's own; a new study gets "auto".
        seed: >= 0; None keeps the study's own; a new study draws one and keeps it.
        hints: plain values; None keeps the study's own.
        step: of a grid, which takes every step-th value; None keeps the study's own; a new study
            gets 1.
        racing: fields of `RaceRules` to change; what is not in it stays the study's own, and a new
            study races on the score that it searches by. A start
            may change it at any time: what was stopped stays marked as such.

    Raises:
        StudyError: the study is of another identity, or not ours, or has more trials already.
        ParameterError: the sampler is unknown, budget, seed or step are no counts, or
            there are no such races.
    """
    resolve(sampler or "auto", budget, conditional=identity.is_conditional)
    identity.space.thinned(1 if step is None else step)  # refuses what is no step
    if seed is not None and seed < 0:
        raise ParameterError(f"seed={seed} is negative: use 0 or more.")
    rules = RaceRules(**{"on": identity.objectives.searched, **(racing or {})})
    if name not in names(storage):
        plan = Plan(
            budget=budget,
            sampler=sampler or "auto",
            seed=secrets.randbelow(2**31) if seed is None else seed,
            hints=hints or {},
            step=1 if step is None else step,
            racing=rules.to_dict(),
        )
        reference = dense()
        _check_measurable(reference, identity, plan)
        created = _create(storage, name, identity, reference, plan)
        if created is not None:
            return created
    study = load(storage, name)
    _check_fits(study, identity, budget)
    old = study.plan
    new = Plan(
        budget=budget,
        sampler=sampler or old.sampler,
        seed=old.seed if seed is None else seed,
        hints=old.hints if hints is None else hints,
        step=old.step if step is None else step,
        racing={**old.racing, **(racing or {})},
    )
    _check_measurable(study.dense, identity, new)
    if new != old:
        study.optuna.set_user_attr(PLAN, new.to_dict())
    return study


def load(storage: SteadyStorage, name: str | None = None) -> Study:
    """The study of that name, or the store's only one.

    Raises:
        StudyError: there is none, or several and no name, or it is not ours.
    """
    known = names(storage)
    if not known:
        raise StudyError("The store holds no study yet: start a search first.")
    if name is None and len(known) > 1:
        raise StudyError(f"The store holds {len(known)} studies: {', '.join(known)}. Use --study.")
    name = known[0] if name is None else name
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        rest = [other for other in known if other not in near]
        raise StudyError(f"No study '{name}' in this store. It holds: {', '.join(near + rest)}.")
    study = optuna.load_study(study_name=name, storage=storage)
    facts = _facts(study)
    return Study(
        storage, study, Identity.from_dict(facts["identity"]), Dense.from_dict(facts["dense"])
    )


def names(storage: SteadyStorage) -> list[str]:
    """The studies of a store, those of other programs included, in the order of their making."""
    return [study.study_name for study in storage.get_all_studies()]


def _create(
    storage: SteadyStorage, name: str, identity: Identity, dense: Dense, plan: Plan
) -> Study | None:
    """The new study; None if another process was faster."""
    directions = [
        StudyDirection[direction.upper()] for _, direction in identity.objectives.directions
    ]
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    except DuplicatedStudyError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([objective for objective, _ in identity.objectives.directions])
    study.set_user_attr(PLAN, plan.to_dict())
    facts = {"schema": SCHEMA, "identity": identity.to_dict(), "dense": dense.to_dict()}
    study.set_user_attr(FACTS, facts)  # last: whoever sees it finds the study complete
    return Study(storage, study, identity, dense)


def _facts(study: optuna.Study) -> dict[str, Any]:
    """What the maker of a study wrote of it; one without trials may be just in the making."""
    deadline = time.monotonic() + BIRTH_S
    while not isinstance(facts := study.user_attrs.get(FACTS), dict) or "schema" not in facts:
        if study.get_trials(deepcopy=False) or time.monotonic() > deadline:
            raise StudyError(
                f"Study '{study.study_name}' was not made by atm-search. "
                "Use --study to begin another."
            )
        time.sleep(0.1)
    if facts["schema"] != SCHEMA:
        raise StudyError(
            f"Study '{study.study_name}' has schema version {facts['schema']}, this atm-search "
            f"knows version {SCHEMA}: upgrade it with pip install -U atm-search."
        )
    return facts


def _check_measurable(dense: Dense, identity: Identity, plan: Plan) -> None:
    """Refuse goals that these images or this model cannot be measured by."""
    race, headless = plan.racing["on"], identity.objectives.headless
    if race in DISTANCES and (race == "feature") != headless:
        raise ParameterError(
            f"A race on {race} does not go with objectives '{identity.objectives}': use --race-on "
            f"{'feature' if headless else 'kl'}, or leave it out."
        )
    if dense.has_labels:
        return
    if identity.objectives.needs_labels:
        raise ParameterError(
            f"Objectives '{identity.objectives}' need labels, and these images have none. "
            f"Use --objectives {KL}."
        )
    if identity.constraints.max_drop is not None:
        raise ParameterError(
            "max_drop is a loss of top-1, which needs labels, and these images have none: limit "
            "the cost with max_gflops."
        )
    if plan.racing["on"] == "top1":
        raise ParameterError(
            "A race on top1 needs labels, and these images have none: use --race-on "
            f"{identity.objectives.searched}."
        )


def _check_fits(study: Study, identity: Identity, budget: int) -> None:
    differences = study.identity.differences(identity)
    if differences:
        raise StudyError(
            f"Study '{study.name}' was {'; '.join(differences)}. Use --study to begin another."
        )
    finished = len(study.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if budget < finished:
        raise StudyError(
            f"Study '{study.name}' has {finished} finished trials, more than the {budget} asked "
            f"for. Ask for {finished} or more, or use --study to begin another."
        )
