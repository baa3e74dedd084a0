"""Samplers: by name, and the same trials for the same seed."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from atm_search.errors import ParameterError
from atm_search.search.samplers import (
    POPULATION,
    SAMPLERS,
    make_sampler,
    mixed_seed,
    resolve,
    single_thread,
)
from atm_search.search.study import Study
from atm_search.search.worker import run

Begin = Callable[..., Study]
DRAWING = [name for name in SAMPLERS if name not in ("auto", "grid")]


def params(study: Study) -> list[dict[str, Any]]:
    return [dict(record.params) for record in study.records()]


def test_auto_is_the_gaussian_process_for_small_budgets() -> None:
    assert (resolve("auto", 200), resolve("auto", 201)) == ("gp", "tpe")
    assert resolve("qmc", 1000) == "qmc"


def test_an_unknown_sampler_is_refused_with_those_there_are() -> None:
    with pytest.raises(ParameterError, match=f"No sampler 'sweep'. Known: {', '.join(SAMPLERS)}"):
        make_sampler("sweep", seed=0, budget=10)


@pytest.mark.parametrize("name", DRAWING)
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(
    name: str, begin: Begin, stub: ModuleType
) -> None:
    random_first = {"nsga2": POPULATION, "nsga3": POPULATION, "gp": 10, "tpe": 10}.get(name, 1)

    def search(study: str, seed: int, budget: int) -> list[dict[str, Any]]:
        begun = begin(study, sampler=name, seed=seed, budget=budget)
        run(begun, stub.measure, environment=stub.ENVIRONMENT)
        return params(begun)

    once = search("once", seed=5, budget=random_first + 4)
    assert search("again", seed=5, budget=random_first + 4) == once
    assert search("other", seed=6, budget=3) != once[:3]


@pytest.mark.parametrize("name", ["random", "tpe", "qmc"])
def test_a_resumed_search_goes_on_repeatably_and_does_not_begin_anew(
    name: str, begin: Begin, stub: ModuleType
) -> None:
    def search(study: str) -> list[dict[str, Any]]:
        for budget in (6, 12):
            begun = begin(study, sampler=name, budget=budget)
            run(begun, stub.measure, environment=stub.ENVIRONMENT)
        return params(begun)

    once = search("once")
    assert search("again") == once
    assert not [repeated for repeated in once[6:] if repeated in once[:6]]


def test_two_workers_of_one_seed_draw_different_points(begin: Begin, stub: ModuleType) -> None:
    found = []
    for worker in (0, 1):
        begun = begin(f"worker {worker}", budget=5)
        run(begun, stub.measure, environment=stub.ENVIRONMENT, worker=worker)
        found.append(params(begun))
    assert found[0] != found[1]


def test_a_mixed_seed_depends_on_every_part() -> None:
    parts = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]
    assert len({mixed_seed(*part) for part in parts}) == len(parts)


def test_suggestions_leave_torch_its_threads() -> None:
    before = torch.get_num_threads()
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
