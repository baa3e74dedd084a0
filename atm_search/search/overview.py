"""What a store holds: every study in a few numbers."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState

from atm_search.errors import StudyError
from atm_search.search.frontier import frontier
from atm_search.search.steady import SteadyStorage
from atm_search.search.study import Study, load, names
from atm_search.search.trials import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One study; of another program's there is only the name, and what is wrong with it."""

    name: str
    model: str | None = None
    method: str | None = None
    images: int | None = None
    done: int = 0
    """Finished trials."""
    budget: int = 0
    running: int = 0
    failed: int = 0
    """Trials that could not be measured; those handed back, lost or given up do not count."""
    frontier: int = 0
    """Configurations on the frontier."""
    last_activity: datetime | None = None
    """When a trial last began or ended, in local time."""
    problem: str | None = None
    """Why the study cannot be read."""


def overview(storage: SteadyStorage) -> list[Overview]:
    """The studies of a store, in the order of their making."""
    return [_study(storage, name) for name in names(storage)]


def running(study: Study) -> int:
    """Trials of a study that run now, for all that the store knows."""
    return len(study.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _study(storage: SteadyStorage, name: str) -> Overview:
    try:
        study = load(storage, name)
    except StudyError as error:
        return Overview(name=name, problem=str(error))
    return _summary(study)


def _summary(study: Study) -> Overview:
    trials = study.optuna.get_trials(deepcopy=False)
    records = [TrialRecord.of(trial) for trial in trials]
    states = Counter(trial.state for trial in trials)
    return Overview(
        name=study.name,
        model=study.identity.model,
        method=study.identity.method,
        images=study.identity.images,
        done=states[TrialState.COMPLETE],
        budget=study.plan.budget,
        running=states[TrialState.RUNNING],
        failed=sum(record.reason is not None for record in records),
        frontier=len(frontier(records, study.dense, study.objectives)),
        last_activity=max((time for trial in trials for time in _times(trial)), default=None),
    )


def _times(trial: FrozenTrial) -> list[datetime]:
    return [time for time in (trial.datetime_start, trial.datetime_complete) if time is not None]
