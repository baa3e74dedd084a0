"""Optuna's samplers, set up for a search with several objectives."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from atm_search.errors import ParameterError

SAMPLERS = ("auto", "gp", "tpe", "nsga2", "nsga3", "qmc", "grid", "random")

GP_BUDGET = 200
"""Most trials for which `auto` takes the Gaussian process."""

CONDITIONAL = ("auto", "tpe", "grid", "random")
"""Those that search several methods: the others learn only of parameters that every trial has."""

POPULATION = 20
"""Of the genetic samplers; Optuna's 50 leaves a search of 200 trials only four generations."""


def resolve(name: str, budget: int, *, conditional: bool = False) -> str:
    """The sampler that a name stands for: `auto` depends on the number of trials.

    Args:
        name: one of SAMPLERS.
        budget: trials in total.
        conditional: whether trials have different parameters, those of their methods.

    Raises:
        ParameterError: there is no such sampler, or no trial for it.
    """
    if name not in SAMPLERS:
        raise ParameterError(f"No sampler '{name}'. Known: {', '.join(SAMPLERS)}.")
    if budget < 1:
        raise ParameterError(f"{budget} trials are no search: use 1 or more.")
    if conditional and name not in CONDITIONAL:
        raise ParameterError(
            f"Sampler '{name}' searches one method at a time. Of several use one of: "
            f"{', '.join(CONDITIONAL)}."
        )
    if name != "auto":
        return name
    return "gp" if budget <= GP_BUDGET and not conditional else "tpe"


def make_sampler(
    name: str,
    *,
    seed: int,
    budget: int,
    worker: int = 0,
    started: int = 0,
    conditional: bool = False,
) -> BaseSampler:
    """The sampler of that name, which repeats its suggestions for the same seed and history.

    Args:
        name: one of SAMPLERS.
        seed: of the study, >= 0.
        budget: trials in total; decides what `auto` is.
        worker: number of this worker among those of the study, so that no two of them draw alike.
        started: trials that the study had when this worker began, so that a resumed search
            does not draw its first points again.
        conditional: whether trials have different parameters, those of their methods.

    Raises:
        ParameterError: there is no such sampler, or none for several methods.
    """
    own = mixed_seed(seed, worker, started)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match resolve(name, budget, conditional=conditional):
            case "gp":
                return GPSampler(seed=own)
            case "tpe":
                return TPESampler(seed=own, multivariate=True, group=conditional)
            case "nsga2":
                return NSGAIISampler(seed=own, population_size=POPULATION)
            case "nsga3":
                return NSGAIIISampler(seed=own, population_size=POPULATION)
            case "qmc":
                # Its place in the sequence is kept in the study: all workers share one sequence.
                first = RandomSampler(seed=own)
                return QMCSampler(seed=seed, scramble=True, independent_sampler=first)
            case _:  # of a grid every point is queued, so nothing is drawn
                return RandomSampler(seed=own)


@contextmanager
def single_thread() -> Iterator[None]:
    """A block in which torch computes with one thread, as suggestions must.

    The Gaussian process makes thousands of tiny torch and scipy calls. Where cores are shared, a
    second thread makes it ten times slower, in spite of Optuna's own limit inside it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def mixed_seed(*parts: int) -> int:
    """One seed from several numbers, each >= 0, that differs when any of them does."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
