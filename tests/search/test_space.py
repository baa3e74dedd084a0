"""The grid: canonical values, indices, keys, refusals."""

import json
from collections.abc import Sequence
from random import Random
from types import ModuleType

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.errors import ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.diffrate import DiffRate
from atm_search.merging.method import Range
from atm_search.search.samplers import SAMPLERS, make_sampler, single_thread
from atm_search.search.space import Space
from atm_search.search.study_file import TRIALS, StudyFile

ATM = Space(Atm.space(12))
indices = st.integers(0, len(ATM) - 1)


def test_the_published_space_of_twelve_blocks_has_37440_configurations() -> None:
    assert len(ATM) == 12 * 8 * 30 * 13


@given(indices)
def test_a_value_keeps_its_shortest_form_whatever_rounding_it_went_through(index: int) -> None:
    params = ATM.at(index)
    rounded = {name: value + 1e-12 for name, value in params.items()}
    assert ATM.canonical(rounded) == params
    assert all(len(str(value)) <= 5 for value in params.values())


def test_the_second_float_form_of_a_grid_value_is_the_same_configuration() -> None:
    params = ATM.at(0) | {"alpha": 0.045000000000000005}
    assert ATM.canonical(params)["alpha"] == 0.045
    assert ATM.key(params) == ATM.key(params | {"alpha": 0.045})


@given(indices, indices)
def test_keys_are_equal_exactly_for_equal_configurations(one: int, other: int) -> None:
    assert (ATM.key(ATM.at(one)) == ATM.key(ATM.at(other))) == (one == other)


def test_indices_and_iteration_agree_and_cover_the_space_once() -> None:
    space = Space((Range("a", 0, 2, 1), Range("b", 0.1, 0.3, 0.1)))
    everything = [space.at(index) for index in range(len(space))]
    assert list(space) == everything
    assert len({space.key(params) for params in everything}) == len(space) == 9
    with pytest.raises(IndexError, match="9 configurations, none of index 9"):
        space.at(9)


@pytest.mark.parametrize(
    ("step", "kept"),
    [(1, range(12)), (3, (1, 4, 7, 10)), (5, (0, 5, 10)), (11, (0, 11)), (12, (5,)), (99, (5,))],
)
def test_a_thinned_space_has_every_step_th_value_and_loses_the_same_at_both_ends(
    step: int, kept: Sequence[int]
) -> None:
    whole = ATM.ranges[0]  # 12 values
    thin = Space((whole,)).thinned(step)
    assert [point["tau0"] for point in thin] == [whole.value(index) for index in kept]
    assert all(ATM.has(params) for params in ATM.thinned(step))


def test_the_json_form_gives_an_equal_space_back() -> None:
    assert Space.from_list(json.loads(json.dumps(ATM.to_list()))) == ATM


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "auto"])
def test_every_sampler_suggests_canonical_configurations(name: str, stub: ModuleType) -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=make_sampler(name, seed=0, budget=20)
    )
    for _ in range(13):
        trial = study.ask()
        with single_thread():
            params = ATM.suggest(trial)
        assert ATM.canonical(params) == params
        assert isinstance(params["split_depth"], int)
        study.tell(trial, (Random(trial.number).random(), float(trial.number)))
    assert set(study.trials[0].params) == set(params)


@pytest.mark.parametrize("value", [0.99, 0.0451, float("nan"), float("inf")])
def test_values_off_the_grid_are_refused(value: float) -> None:
    with pytest.raises(ParameterError, match=r"alpha=.* is off the grid: use 0.015 to 0.05"):
        ATM.key(ATM.at(0) | {"alpha": value})


def test_a_missing_parameter_is_refused() -> None:
    with pytest.raises(ParameterError, match="tau0 is missing"):
        ATM.key({"alpha": 0.05})


@pytest.mark.parametrize(
    "ranges",
    [
        (),
        (Range("a", 0, 1, 1), Range("a", 0, 2, 1)),
        (Range("a", 0.0, 1.0, 0.3),),
        (Range("a", 1.0, 0.0, 0.5),),
        (Range("a", 0.0, 1.0, 0.0),),
    ],
)
def test_ranges_that_are_no_grid_are_refused(ranges: tuple[Range, ...]) -> None:
    with pytest.raises(ParameterError):
        Space(ranges)


def test_a_space_may_have_more_configurations_than_len_can_say() -> None:
    space = Space(DiffRate.space(12))
    assert space.size == 197**24
    assert space.at(space.size - 1) == {item.name: 197 for item in space.ranges}
    assert StudyFile().budget(space) == TRIALS
