"""A study taken out of its store."""

import optuna
from optuna.trial import TrialState

from atm_search.errors import StudyError
from atm_search.search.owner import OWNER, is_dead
from atm_search.search.steady import SteadyStorage
from atm_search.search.study import load, names


def removable(storage: SteadyStorage, name: str, *, force: bool = False) -> int:
    """The number of trials that go if a study is removed.

    Args:
        storage: from `open_store`.
        name: of the study.
        force: also one that is being worked on, or that this atm-search cannot read.

    Raises:
        StudyError: there is no such study; or, unless forced, trials of it run, or it was not made
            by atm-search.
    """
    if not force or name not in names(storage):
        load(storage, name)  # refuses
    study = optuna.load_study(study_name=name, storage=storage)
    count = 0 if force else _running(storage, study)
    if count:
        raise StudyError(
            f"Study '{name}' has {count} running {'trial' if count == 1 else 'trials'}: stop its "
            "workers first, or use --force, and they fail."
        )
    return len(study.get_trials(deepcopy=False))


def remove(storage: SteadyStorage, name: str) -> None:
    """Remove a study with all of its trials, at once."""
    optuna.delete_study(study_name=name, storage=storage)


def _running(storage: SteadyStorage, study: optuna.Study) -> int:
    """Trials of it that run, but for those whose worker is certainly dead."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    stale = set(storage._get_stale_trial_ids(study._study_id)) if trials else set()
    return sum(
        trial._trial_id not in stale and not is_dead(trial.system_attrs.get(OWNER))
        for trial in trials
    )
