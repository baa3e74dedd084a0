"""Races and reuse in a search: less is measured, and the frontier is the same."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from atm_search.errors import ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Race
from atm_search.merging.method import Method
from atm_search.search.frontier import frontier
from atm_search.search.study import PLAN, Study, load
from atm_search.search.trials import ATTRIBUTE, LONGEST_PART, TrialRecord, tally
from atm_search.search.worker import run
from atm_search.show.figures import frontier_figure
from atm_search.show.frontier import frontier_summary
from atm_search.show.trials import racing_text, trial_line
from atm_search.show.view import view

Begin = Callable[..., Study]
BATCH, TRIALS = 100, 30


class ByImage:
    """The stand-in, image by image: who has more hits has all the images of who has fewer."""

    def __init__(self, stub: ModuleType) -> None:
        self.stub = stub
        self.rank = np.random.default_rng(0).permutation(stub.IMAGES)
        self.images = 0

    def __call__(self, method: Method, race: Race) -> Measurement:
        full: Measurement = self.stub.measure(method)
        hits = self.rank < full.top1_hits
        going, start = True, 0
        while going and start < len(hits):
            batch = slice(start, start + BATCH)
            going = race.add(hits[batch], np.full(BATCH, full.kl), full.gflops)
            start += BATCH
        self.images += start
        dense = self.rank[:start] < self.stub.DENSE.top1_hits
        return replace(
            full,
            images=start,
            top1_hits=int(hits[:start].sum()),
            dense_top1_hits=int(dense.sum()),
            lost=int((dense & ~hits[:start]).sum()),
            gained=int((hits[:start] & ~dense).sum()),
        )


@pytest.fixture
def by_image(stub: ModuleType) -> ByImage:
    return ByImage(stub)


@pytest.fixture
def raced(begin: Begin, by_image: ByImage, stub: ModuleType) -> Study:
    """A study with races."""
    study = begin(budget=TRIALS)
    run(study, by_image, environment=stub.ENVIRONMENT)
    return study


def test_a_race_saves_images_and_finds_the_same_frontier(
    raced: Study, begin: Begin, by_image: ByImage, stub: ModuleType
) -> None:
    spent, by_image.images = by_image.images, 0
    full = begin("full", budget=TRIALS, racing={"on": "off"})
    run(full, by_image, environment=stub.ENVIRONMENT)
    assert by_image.images == TRIALS * stub.IMAGES
    assert spent < 0.9 * by_image.images
    found, expected = (frontier(study.records(), study.dense) for study in (raced, full))
    assert [(point.params, point.measurement) for point in found] == [
        (point.params, point.measurement) for point in expected
    ]
    assert tally(raced.records())["images"] == spent
    assert tally(full.records()) == {
        "full": TRIALS,
        "raced": 0,
        "reused": 0,
        "failed": 0,
        "images": TRIALS * stub.IMAGES,
    }


def test_a_stopped_trial_is_complete_and_says_what_stopped_it(
    raced: Study, stub: ModuleType
) -> None:
    records = raced.records()
    stopped = [record for record in records if record.raced]
    assert stopped
    assert {record.state for record in records} == {TrialState.COMPLETE}
    best = {point.number for point in frontier(records, raced.dense)}
    for record in stopped:
        assert record.measurement is not None
        assert record.stopped_on == "top1"
        assert record.measurement.images < stub.IMAGES
        assert record.number not in best
        ours = stub.measure(raced.identity.configured(_searched(raced, record)))
        rival = records[record.stopped_by].measurement
        assert rival.images == stub.IMAGES
        assert rival.gflops <= ours.gflops
        assert rival.top1_hits >= ours.top1_hits


def test_the_sampler_is_told_what_the_images_so_far_say_of_all(
    raced: Study, stub: ModuleType
) -> None:
    trials = raced.optuna.get_trials()
    for record in raced.records():
        top1, gflops = trials[record.number].values
        assert record.measurement is not None
        expected = stub.DENSE.top1 + record.measurement.delta_top1
        assert (top1, gflops) == (pytest.approx(expected), record.measurement.gflops)


def test_only_points_that_were_best_at_their_time_keep_their_outcomes(raced: Study) -> None:
    records = raced.records()
    kept = {record.number for record in records if record.outcomes is not None}
    assert {record.stopped_by for record in records if record.raced} <= kept
    assert {point.number for point in frontier(records, raced.dense)} <= kept
    full = {record.number for record in records if not record.raced}
    assert kept < full


def test_a_stopped_configuration_is_reused_while_there_are_races_and_else_measured(
    raced: Study, begin: Begin, by_image: ByImage, stub: ModuleType
) -> None:
    stopped = next(record for record in raced.records() if record.raced)
    point = _searched(raced, stopped)
    raced.optuna.enqueue_trial(point)
    run(begin(budget=TRIALS + 1), by_image, environment=stub.ENVIRONMENT)
    again = raced.records()[TRIALS]
    assert (again.reused_from, again.measurement) == (stopped.number, stopped.measurement)
    raced.optuna.enqueue_trial(point)
    run(begin(budget=TRIALS + 2, racing={"on": "off"}), by_image, environment=stub.ENVIRONMENT)
    full = raced.records()[TRIALS + 1]
    assert full.reused_from is None
    assert full.measurement == stub.measure(raced.identity.configured(point))


EQUAL = [
    # No block reaches tau_min: the last threshold is above 0.81.
    ({"tau0": 1.0, "alpha": 0.015, "tau_min": 0.8}, {"tau0": 1.0, "alpha": 0.015, "tau_min": 0.81}),
    # Every block has tau_min.
    (
        {"tau0": 0.945, "alpha": 0.015, "tau_min": 0.945},
        {"tau0": 0.945, "alpha": 0.05, "tau_min": 0.945},
    ),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_what_does_the_same_is_measured_once(
    first: dict[str, float], second: dict[str, float], begin: Begin, stub: ModuleType
) -> None:
    calls: list[Method] = []

    def measure(method: Method, race: Race) -> Measurement:
        calls.append(method)
        return stub.measure(method)

    study = begin(identity=stub.identity(depth=12), budget=2)
    for point in (first, second):
        study.optuna.enqueue_trial(point | {"split_depth": 9})
    run(study, measure, environment=stub.ENVIRONMENT)
    one, two = study.records()
    assert len(calls) == 1
    assert two.reused_from == one.number
    assert two.measurement == one.measurement
    assert second.items() <= dict(two.params).items()
    assert [point.number for point in frontier([one, two], study.dense)] == [0]


def test_of_an_unknown_depth_no_two_points_are_the_same(stub: ModuleType) -> None:
    first, second = (point | {"split_depth": 9} for point in EQUAL[0])
    deep, unknown = stub.identity(depth=12), stub.identity()
    assert deep.effective_key(first) == deep.effective_key(second)
    assert unknown.effective_key(first) != unknown.effective_key(second)


def test_the_rules_are_kept_changed_and_off_in_a_study_of_old(begin: Begin) -> None:
    assert begin().plan.racing == {"on": "top1", "delta": 0.05, "margin": 0.0}
    assert begin(racing={"delta": 0.01}).plan.racing["delta"] == 0.01
    study = begin(racing={"on": "kl"})
    assert study.plan.racing == {"on": "kl", "delta": 0.01, "margin": 0.0}
    with pytest.raises(ParameterError, match="delta=2"):
        begin(racing={"delta": 2})
    old = {name: value for name, value in study.plan.to_dict().items() if name != "racing"}
    study.optuna.set_user_attr(PLAN, old)
    assert load(study.storage, "s").plan.racing["on"] == "off"


def test_many_outcomes_are_cut_into_parts_that_every_database_takes(stub: ModuleType) -> None:
    rng = np.random.default_rng(0)
    outcomes = Outcomes.of(rng.random(50_000) < 0.8, rng.random(50_000), rng.random(500))
    record = TrialRecord(
        number=0,
        state=TrialState.COMPLETE,
        method="atm",
        measurement=stub.measurement(1.0, 700),
        outcomes=outcomes,
    )
    parts = record.outcome_parts()
    assert len(parts) > 1
    assert max(map(len, parts.values())) <= LONGEST_PART
    attributes: dict[str, Any] = {ATTRIBUTE: record.to_dict(), **parts}
    again = TrialRecord.of(create_trial(values=[70.0, 1.0], user_attrs=attributes))
    assert replace(again, number=0) == record
    assert again.outcomes is not None
    assert (again.outcomes.distances == outcomes.distances).all()
    attributes.pop(next(iter(parts)))
    assert TrialRecord.of(create_trial(values=[70.0, 1.0], user_attrs=attributes)).outcomes is None
    assert replace(record, reused_from=0).outcome_parts() == {}


def test_people_see_what_was_raced_out(raced: Study, stub: ModuleType) -> None:
    records = raced.records()
    stopped = next(record for record in records if record.raced)
    assert f"dominated by trial {stopped.stopped_by}" in trial_line(stopped)
    assert racing_text(raced.plan.racing) == "on top1, delta 0.05"
    summary = frontier_summary(raced, records)
    assert summary["trials"] == tally(records)
    assert summary["racing"]["on"] == "top1"
    names = [trace.name for trace in frontier_figure(view(raced)).data]
    assert "raced out (estimate)" in names


def _searched(study: Study, record: TrialRecord) -> dict[str, float]:
    return study.identity.space.canonical(record.params)
