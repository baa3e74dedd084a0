"""Freezing keeps the cost, measures what it changes, and refuses what is not adaptive."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.deploy.configuration import Configuration
from atm_search.deploy.freeze import fixed_schedule, freeze
from atm_search.deploy.sections import MethodSection
from atm_search.errors import ConfigurationError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.flops import CostModel
from atm_search.merging.atm import Atm
from atm_search.merging.tome import Tome

ATM = Atm(tau0=0.95, alpha=0.05, tau_min=0.6, split_depth=9)
DEIT_T = CostModel(
    fixed=29_095_936,
    query_key_weights=(2 * 192**2,) * 12,
    value_weights=(192**2,) * 12,
    output_weights=(192**2,) * 12,
    attention_dim=(192,) * 12,
    mlp_weights=(8 * 192**2,) * 12,
)


def test_a_frozen_configuration_costs_what_the_adaptive_one_did(
    configuration: Configuration, evaluator: Evaluator, tmp_path: Path
) -> None:
    images: list[int] = []
    frozen = freeze(configuration, evaluator, lambda done, _: images.append(done))
    assert images[-1] == len(evaluator.shard)
    assert frozen.method.name == "fixed"
    before, after = configuration.measurement, frozen.measurement
    assert after.gflops == pytest.approx(before.gflops, rel=0.005)
    assert all(count == int(count) for count in after.tokens_per_layer)
    for mean, count in zip(before.tokens_per_layer, after.tokens_per_layer, strict=True):
        assert abs(mean - count) < 1.0
    source = frozen.frozen_from
    assert source is not None
    assert source.method == configuration.method
    assert source.images == before.images
    assert before.top1_hits - source.lost + source.gained == after.top1_hits
    low, high = source.delta_ci95
    assert low < source.delta_top1 < high
    frozen.write(tmp_path / "frozen.yaml")
    assert Configuration.read(tmp_path / "frozen.yaml", refuse_edits=True).frozen_from == source


@given(st.lists(st.floats(0.0, 25.0), min_size=12, max_size=12))
def test_the_cost_of_a_schedule_is_within_one_token_of_the_last_merging_block(
    removed: list[float],
) -> None:
    means, before = [], 197.0
    for r in removed:
        before = max(before - r, 1 + (before - 1) / 2 + 0.5)
        means.append(before)
    fixed = fixed_schedule(
        ATM, [*means[:-1], 1.0], initial_tokens=197, num_prefix_tokens=1, keeps_last=False,
        cost=DEIT_T,
    )  # fmt: skip
    assert fixed.r[-1] == 0
    counts = [197 - sum(fixed.r[: block + 1]) for block in range(11)]

    def cost(tokens: list[float]) -> float:
        """Of blocks 2 to 12 and their MLPs, as the README counts."""
        attention = sum(4 * n * 192**2 + 2 * n**2 * 192 for n in tokens)
        return attention + sum(8 * n * 192**2 for n in tokens)

    before, last = counts[-2], counts[-1]
    if before - (before - 1) // 2 < last < before:  # else it could not be chosen freely
        one_token = 12 * 192**2 + 4 * 192 * last
        assert abs(cost(counts) - cost(means[:-1])) <= 0.51 * one_token
    assert all(abs(count - mean) < 6 for count, mean in zip(counts, means, strict=False))


def test_only_what_takes_its_counts_from_the_batch_is_frozen(
    configuration: Configuration, evaluator: Evaluator
) -> None:
    tome = Tome(r=8)
    other = configuration.model_copy(
        update={"method": MethodSection(name=tome.name, params=tome.params())}
    )
    with pytest.raises(ConfigurationError, match="Nothing to freeze: method 'tome'"):
        freeze(other, evaluator)
