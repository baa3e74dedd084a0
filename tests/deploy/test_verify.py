"""Verification: equal counts where they must be, intervals elsewhere, and edits found."""

from dataclasses import replace

import pytest

from atm_search.deploy.configuration import Configuration
from atm_search.deploy.verify import Verification, verify
from atm_search.measure.evaluator import Evaluator


def verified(
    configuration: Configuration,
    evaluator: Evaluator,
    *,
    shard: str | None = None,
    **changes: float,
) -> Verification:
    """The file against its own figures, some of them changed."""
    measured = replace(configuration.measurement, **changes)
    digest = evaluator.shard.digest if shard is None else shard
    return verify(configuration, measured, model=evaluator.model, shard_digest=digest)


def elsewhere(configuration: Configuration) -> Configuration:
    """The same, measured with another torch."""
    versions = configuration.versions | {"torch": "1.0"}
    return configuration.model_copy(update={"versions": versions})


def test_a_second_measurement_under_the_same_circumstances_is_equal(
    configuration: Configuration, evaluator: Evaluator
) -> None:
    again = evaluator.measure(configuration.build_method())
    found = verify(configuration, again, model=evaluator.model, shard_digest=evaluator.shard.digest)
    assert found.holds
    assert "all counts are equal" in found.rule
    assert found.to_dict()["holds"] is True


@pytest.mark.parametrize("name", ["top1_hits", "lost", "gained", "agreements", "dense_top1_hits"])
def test_one_image_more_is_found(
    configuration: Configuration, evaluator: Evaluator, name: str
) -> None:
    count = getattr(configuration.measurement, name)
    found = verified(configuration, evaluator, **{name: count + 1})
    assert [check.name for check in found.checks if not check.holds] == [name]
    assert not found.holds


def test_elsewhere_the_interval_decides(configuration: Configuration, evaluator: Evaluator) -> None:
    moved = elsewhere(configuration)
    lost, gflops = moved.measurement.lost, moved.measurement.gflops
    near = verified(moved, evaluator, lost=lost + 1)
    assert near.holds
    assert "another torch" in near.rule
    assert "file's 95 % interval" in near.rule
    assert not verified(moved, evaluator, lost=lost + 25).holds
    assert verified(moved, evaluator, gflops=gflops * 1.005).holds
    assert not verified(moved, evaluator, gflops=gflops * 1.02).holds


def test_on_other_images_both_changes_are_estimates(
    configuration: Configuration, evaluator: Evaluator
) -> None:
    lost = configuration.measurement.lost
    found = verified(configuration, evaluator, shard="other", lost=lost + 1)
    assert found.holds
    assert "other images (shard other" in found.rule
    low, high = configuration.measurement.delta_ci95
    assert found.checks[0].allowed > (high - low) / 2
    assert not verified(configuration, evaluator, shard="other", lost=lost + 40).holds


def test_an_edited_file_does_not_hold_even_if_its_figures_do(
    configuration: Configuration, evaluator: Evaluator
) -> None:
    method = configuration.method.model_copy(update={"thresholds": (0.9,) * 6})
    edited = configuration.model_copy(update={"method": method})
    found = verified(edited, evaluator)
    assert all(check.holds for check in found.checks)
    assert not found.holds
    assert "method.thresholds is [0.9" in found.contradictions[0]
