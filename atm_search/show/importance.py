"""How much each parameter of a search matters for accuracy and for compute."""

import warnings

import optuna
from optuna.trial import FrozenTrial, TrialState

from atm_search.search.study import Study

FEWEST_TRIALS = 8
"""Finished trials below which importance is noise."""


def importance(study: Study) -> dict[str, dict[str, float]]:
    """Share of each parameter by objective, the largest first; empty of too few trials.

    By PED-ANOVA, Optuna's default: how far the best tenth of the trials is from all others in
    each parameter.
    """
    finished = study.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < FEWEST_TRIALS:
        return {}
    found = {}
    for index, (name, direction) in enumerate(study.objectives.directions):
        sign = -1.0 if direction == "maximize" else 1.0  # PED-ANOVA takes the lowest for the best

        def target(trial: FrozenTrial, index: int = index, sign: float = sign) -> float:
            return sign * float(trial.values[index])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of experimental parts, and of equal values
            try:
                found[name] = optuna.importance.get_param_importances(study.optuna, target=target)
            except (ValueError, RuntimeError):  # all trials have the same parameters
                return {}
    return found
