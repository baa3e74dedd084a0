"""ATM with thresholds of its own in every block: what it shares with Eq. 1, and what it adds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.data.embedded import embedded_shard
from atm_search.errors import ParameterError
from atm_search.measure.evaluator import Evaluator
from atm_search.merging.atm import Atm
from atm_search.merging.layerwise import AtmLayerwise
from atm_search.merging.method import Method, Range
from atm_search.merging.registry import build
from atm_search.models.zoo import DEMO, load_model

DEPTH = 12
POINT = {"tau0": 0.985, "alpha": 0.045, "tau_min": 0.88, "split_depth": 9}


def points(ranges: tuple[Range, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Points of a grid."""
    return st.fixed_dictionaries(
        {item.name: st.integers(0, len(item) - 1).map(item.value) for item in ranges}
    )


def taken_over(params: dict[str, Any], method: str = "atm") -> dict[str, Any]:
    found = AtmLayerwise.taken_over(method, params, DEPTH)
    assert found is not None
    return found


@given(points(Atm.space(DEPTH)), st.booleans())
def test_every_point_of_the_published_grid_is_one_to_the_last_bit(
    params: dict[str, Any], prop_attn: bool
) -> None:
    eq1 = build("atm", params | {"prop_attn": prop_attn})
    free = build("atm-layerwise", taken_over(eq1.params()))
    assert isinstance(eq1, Atm)
    assert isinstance(free, AtmLayerwise)
    assert free.thresholds(DEPTH) == eq1.thresholds(DEPTH)
    for head in (True, False):
        ours, theirs = (m.effective_key(DEPTH, prefix_only_head=head) for m in (free, eq1))
        assert ours == theirs
    on_grid = {item.name: item.nearest(free.params()[item.name]) for item in free.space(DEPTH)}
    assert free.params() | on_grid == free.params()


@given(points(AtmLayerwise.space(DEPTH)))
def test_thresholds_of_every_point_are_usable_and_only_fall(params: dict[str, Any]) -> None:
    method = build("atm-layerwise", params)
    assert isinstance(method, AtmLayerwise)
    method.check(DEPTH)
    thresholds = method.thresholds(DEPTH)
    assert list(thresholds) == sorted(thresholds, reverse=True)
    assert 0.0 < thresholds[-1] <= thresholds[0] <= 1.0
    assert build("atm-layerwise", method.params()) == method


@given(st.lists(st.integers(0, 4), min_size=DEPTH - 1, max_size=DEPTH - 1))
def test_without_alpha_any_falling_sequence_of_the_grid_is_reached(steps: list[int]) -> None:
    wanted = [0.99]
    for step in steps:
        wanted.append(wanted[-1] - 0.005 * step)
    drops = {f"drop_{number}": 0.005 * step for number, step in enumerate(steps, 2)}
    params = {**POINT, "tau0": 0.99, "alpha": 0.0, **drops}
    own = {item.name: item.nearest(params[item.name]) for item in AtmLayerwise.space(DEPTH)}
    method = build("atm-layerwise", own)
    assert isinstance(method, AtmLayerwise)
    assert method.thresholds(DEPTH) == pytest.approx(wanted, abs=1e-12)


def test_a_drop_moves_the_thresholds_from_its_block_on() -> None:
    eq1 = Atm(**POINT)
    method = build("atm-layerwise", taken_over(POINT | {"drop_6": 0.02}))
    assert isinstance(method, AtmLayerwise)
    expected = [t - (0.02 if number >= 6 else 0) for number, t in enumerate(eq1.thresholds(12), 1)]
    assert method.thresholds(DEPTH) == pytest.approx(expected, abs=1e-15)


def test_a_point_of_eq1_gives_the_identical_measurement() -> None:
    evaluator = Evaluator(load_model(DEMO, device="cpu"), embedded_shard(40), batch_size=20)
    eq1: Method = build("atm", POINT)
    free = build("atm-layerwise", taken_over(eq1.params()))
    lower = build("atm-layerwise", taken_over(eq1.params()) | {"drop_5": 0.02})
    first, second, third = (
        replace(evaluator.measure(method), seconds=0.0) for method in (eq1, free, lower)
    )
    assert first == second
    assert third.gflops < first.gflops < first.dense_gflops


def test_of_other_methods_nothing_is_taken_over() -> None:
    assert AtmLayerwise.taken_over("tome", {"r": 8}, DEPTH) is None
    assert Atm.taken_over("atm-layerwise", taken_over(POINT), DEPTH) is None
    assert Atm.taken_over("atm", POINT, DEPTH) == POINT
    assert taken_over({"drop_3": 0.01}, "atm-layerwise")["drop_3"] == 0.01


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drop_4": -0.005}, r"drop_4=-0\.005 is no fall of a threshold"),
        ({"drop_4": "0.01"}, "drop_4='0.01' is no fall of a threshold"),
        ({"drop_4": 0.9}, r"The drops sum to 0\.9, .* stay below tau_min=0\.88"),
        ({"drop_14": 0.0}, "drop_14 is of no use: drop_13 is missing"),
        ({"alpha": 2.0}, "alpha=2.0 is out of range"),
        ({"slope": 1.0}, "atm-layerwise has no parameter 'slope'"),
    ],
)
def test_wrong_parameters_are_refused_with_their_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        build("atm-layerwise", taken_over(POINT) | changes)


def test_drops_are_needed_for_every_block() -> None:
    with pytest.raises(ParameterError, match="needs a value for drop_2 to drop_<depth>"):
        build("atm-layerwise", POINT)
    short = build("atm-layerwise", taken_over(POINT))
    with pytest.raises(ParameterError, match="drops up to block 12, the model has 16 blocks"):
        short.check(16)
