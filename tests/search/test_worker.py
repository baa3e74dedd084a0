"""The worker's loop: an exact budget, nothing measured twice, every failure told."""

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from atm_search.errors import AtmSearchError, MeasurementError, ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.heartbeat import Sweeper
from atm_search.search.history import History
from atm_search.search.space import Space
from atm_search.search.study import Study, create_or_resume, load
from atm_search.search.trials import QUEUED
from atm_search.search.worker import Outcome, run

Begin = Callable[..., Study]
Go = Callable[..., Outcome]


class Table:
    """The stand-in, counting how often each configuration is measured."""

    def __init__(self, stub: ModuleType) -> None:
        self.stub = stub
        self.calls: list[Method] = []

    def __call__(self, method: Method, race: object = None) -> Measurement:
        self.calls.append(method)
        measurement: Measurement = self.stub.measure(method)
        return measurement


@pytest.fixture
def table(stub: ModuleType) -> Table:
    return Table(stub)


@pytest.fixture
def go(stub: ModuleType, table: Table) -> Go:
    """Runs a study with the stand-in, or with another measure function."""

    def start(
        study: Study, measure: Callable[[Method, Any], Any] = table, **options: Any
    ) -> Outcome:
        return run(study, measure, environment=stub.ENVIRONMENT, **options)

    return start


def states(study: Study) -> Counter[str]:
    return Counter(record.state.name for record in study.records())


def test_a_search_ends_with_its_budget_on_every_store(
    store_url: str, stub: ModuleType, table: Table, go: Go, opened: Callable[..., RDBStorage]
) -> None:
    study = create_or_resume(
        opened(store_url), "s", identity=stub.identity(), dense=lambda: stub.DENSE, budget=8, seed=0
    )
    assert go(study) == Outcome(8, 8)
    again = load(opened(store_url, create=False), "s")
    stored = again.records()
    assert [record.number for record in stored] == list(range(8))
    assert [record.measurement for record in stored] == [stub.measure(m) for m in table.calls]
    assert [record.params for record in stored] == [m.params() for m in table.calls]
    assert [record.environment for record in stored] == [stub.ENVIRONMENT] * 8
    assert [tuple(trial.values) for trial in again.optuna.get_trials()] == [
        (record.measurement.top1, record.measurement.gflops) for record in stored
    ]


def test_a_finished_search_does_nothing_and_a_raised_budget_goes_on(
    begin: Begin, go: Go, table: Table
) -> None:
    go(begin(budget=4))
    assert go(begin(budget=4)) == Outcome(4, 4)
    assert len(table.calls) == 4
    assert go(begin(budget=7)) == Outcome(7, 7)
    assert states(begin(budget=7)) == {"COMPLETE": 7}


def test_a_budget_raised_by_another_process_is_followed(begin: Begin, go: Go) -> None:
    def raise_budget(record: object, done: int, total: int) -> None:
        if total == 3:
            begin(budget=5)

    assert go(begin(budget=3), on_trial=raise_budget) == Outcome(5, 5)


def test_every_trial_is_told_with_what_is_done(begin: Begin, go: Go) -> None:
    told: list[tuple[int, ...]] = []
    go(begin(budget=3), on_trial=lambda record, *counts: told.append((record.number, *counts)))
    assert told == [(0, 1, 3), (1, 2, 3), (2, 3, 3)]


def test_a_repeated_configuration_reuses_its_measurement(
    begin: Begin, go: Go, table: Table, stub: ModuleType
) -> None:
    study = begin(identity=stub.tome_identity(largest_r=9), budget=10)
    assert go(study).done == 10
    records = study.records()
    assert max(Counter(table.calls).values()) == 1
    repeated = [record for record in records if record.reused_from is not None]
    assert repeated
    for record in repeated:
        first = records[record.reused_from]
        assert (record.params, record.measurement) == (first.params, first.measurement)
        assert first.reused_from is None


def test_a_space_measured_whole_ends_the_search(
    begin: Begin, go: Go, table: Table, stub: ModuleType
) -> None:
    study = begin(identity=stub.tome_identity(largest_r=5), budget=100)
    outcome = go(study)
    assert outcome.exhausted
    assert outcome.done < 100
    assert sorted(method.params()["r"] for method in table.calls) == list(range(6))
    assert go(study) == outcome


def test_a_failed_trial_is_stored_with_its_reason_and_does_not_count(
    begin: Begin, go: Go, stub: ModuleType
) -> None:
    errors = iter([MeasurementError("not finite"), ParameterError("split_depth=9 is beyond")])

    def measure(method: Method, race: object = None) -> Measurement:
        error = next(errors, None)
        if error is not None:
            raise error
        return stub.measure(method)

    study = begin(budget=3)
    assert go(study, measure) == Outcome(3, 3)
    assert states(study) == {"COMPLETE": 3, "FAIL": 2}
    first, second = study.records()[:2]
    assert (first.reason, second.reason) == ("not finite", "split_depth=9 is beyond")
    assert first.params.keys() == second.params.keys() == study.records()[2].params.keys()


def test_an_infinite_or_missing_number_fails_the_trial(
    begin: Begin, go: Go, stub: ModuleType
) -> None:
    values = iter([math.nan, math.inf])
    study = begin(budget=2)
    go(study, lambda method, race: stub.measurement(next(values, 1.0), 700))
    assert [record.reason for record in study.records()[:2]] == [
        "The measured gflops is nan, which cannot be compared.",
        "The measured gflops is inf, which cannot be compared.",
    ]
    assert states(study) == {"COMPLETE": 2, "FAIL": 2}


def test_a_method_that_refuses_a_point_fails_the_trial(
    begin: Begin, go: Go, stub: ModuleType
) -> None:
    study = begin(identity=stub.identity(fixed_params={"prop_attn": "yes"}))
    with pytest.raises(AtmSearchError, match="prop_attn='yes' is not of type bool"):
        go(study)
    assert states(study) == {"FAIL": 5}


def test_five_failures_in_a_row_end_the_search_with_the_reason(
    begin: Begin, go: Go, stub: ModuleType
) -> None:
    def fail(method: Method, race: object = None) -> Measurement:
        raise MeasurementError("outputs are not finite")

    study = begin("deit-s")
    with pytest.raises(AtmSearchError, match=r"5 trials in a row failed.*deit-s.*not finite"):
        go(study, fail)
    assert states(study) == {"FAIL": 5}
    assert go(study) == Outcome(10, 10)


def test_failures_with_successes_between_do_not_end_the_search(
    begin: Begin, go: Go, stub: ModuleType
) -> None:
    calls = iter(range(100))

    def measure(method: Method, race: object = None) -> Measurement:
        if next(calls) % 5:
            raise MeasurementError("flaky")
        return stub.measure(method)

    study = begin(budget=3)
    assert go(study, measure) == Outcome(3, 3)
    assert states(study)["FAIL"] == 8


def test_a_configuration_that_failed_twice_is_not_measured_again(
    begin: Begin, go: Go, table: Table, stub: ModuleType
) -> None:
    def measure(method: Method, race: object = None) -> Measurement:
        measurement = table(method)
        if method.params()["r"] == 2:
            raise MeasurementError("r=2 never works")
        return measurement

    study = begin(identity=stub.tome_identity(largest_r=4), budget=100)
    assert go(study, measure).exhausted
    assert Counter(method.params()["r"] for method in table.calls) == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}
    last = [record.reason for record in study.records() if record.reason is not None][-1]
    assert "r=2 never works" in last


def test_a_bug_is_stored_with_its_trial_and_raised(begin: Begin, go: Go) -> None:
    def broken(method: Method, race: object = None) -> Measurement:
        raise ZeroDivisionError("a bug")

    study = begin()
    with pytest.raises(ZeroDivisionError):
        go(study, broken)
    assert [record.reason for record in study.records()] == ["ZeroDivisionError: a bug"]


def test_a_point_queued_off_the_grid_fails_and_is_not_altered(begin: Begin, go: Go) -> None:
    study = begin(budget=1)
    point = study.identity.space.at(0)
    study.optuna.enqueue_trial(point | {"alpha": 0.99})
    study.optuna.enqueue_trial(point)
    assert go(study) == Outcome(1, 1)
    off, on = study.records()
    assert off.reason == "alpha=0.99 is off the grid: use 0.015 to 0.05 in steps of 0.005."
    assert point.items() <= dict(on.params).items()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_hands_the_running_trial_back(
    number: signal.Signals, begin: Begin, go: Go, table: Table
) -> None:
    before = signal.getsignal(number)

    def measure(method: Method, race: object = None) -> Measurement:
        if len(table.calls) == 2:
            os.kill(os.getpid(), number)
            time.sleep(5.0)
        return table(method)

    study = begin(budget=4)
    assert go(study, measure) == Outcome(2, 4, interrupted=True)
    assert signal.getsignal(number) == before
    assert states(study) == {"COMPLETE": 2, "FAIL": 1, "WAITING": 1}
    stopped = study.records()[2]
    assert stopped.interrupted
    assert stopped.reason is None
    assert go(study) == Outcome(4, 4)
    assert table.calls[2].params() == stopped.params
    assert states(study) == {"COMPLETE": 4, "FAIL": 1}


def test_a_signal_between_trials_ends_the_search_without_a_trace(begin: Begin, go: Go) -> None:
    def stop(record: object, done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    study = begin(budget=4)
    assert go(study, on_trial=stop) == Outcome(1, 4, interrupted=True)
    assert states(study) == {"COMPLETE": 1}


def test_an_ignored_signal_stays_ignored(begin: Begin, go: Go, table: Table) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        go(begin(budget=2), on_trial=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(table.calls) == 2


def test_an_impatient_second_signal_ends_at_once(
    begin: Begin, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atm_search.search.interrupts.PATIENCE_S", 0.0)

    def stop(record: object, done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(begin(budget=4), on_trial=stop)


def test_a_trial_asked_for_too_late_is_given_up_unmeasured(
    begin: Begin, go: Go, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin(budget=1)
    others: list[optuna.Trial] = []
    ask = study.optuna.ask

    def ask_second() -> optuna.Trial:
        others.append(ask())
        return ask()

    def finish_first(running: int, done: int, total: int) -> None:
        assert (running, done, total) == (1, 0, 1)
        study.optuna.tell(others[0], (70.0, 1.0))

    monkeypatch.setattr(study.optuna, "ask", ask_second)
    assert go(study, on_wait=finish_first) == Outcome(1, 1)
    assert table.calls == []
    assert study.records()[1].surplus
    assert states(study) == {"COMPLETE": 1, "FAIL": 1}


def test_a_queued_point_that_comes_too_late_stays_queued(
    begin: Begin, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin(budget=1)
    ask = study.optuna.ask
    point = study.identity.space.at(5)

    def ask_second() -> optuna.Trial:
        other = ask()
        study.optuna.enqueue_trial(point)
        mine = ask()
        study.optuna.tell(other, (70.0, 1.0))
        return mine

    monkeypatch.setattr(study.optuna, "ask", ask_second)
    assert go(study) == Outcome(1, 1)
    waiting = [trial for trial in study.optuna.get_trials() if trial.state == TrialState.WAITING]
    assert [trial.system_attrs["fixed_params"] for trial in waiting] == [point]


def test_a_trial_that_others_ended_meanwhile_is_dropped(
    begin: Begin, go: Go, stub: ModuleType
) -> None:
    study = begin(budget=2)

    def measure(method: Method, race: object = None) -> Measurement:
        if len(study.records()) == 1:
            study.optuna.tell(0, state=TrialState.FAIL)
        return stub.measure(method)

    told: list[int] = []
    outcome = go(study, measure, on_trial=lambda record, done, total: told.append(record.number))
    assert outcome == Outcome(2, 2)
    assert told == [1, 2]
    assert states(study) == {"COMPLETE": 2, "FAIL": 1}


def test_a_slow_trial_keeps_its_heart_beating(begin: Begin, go: Go, stub: ModuleType) -> None:
    study = begin(budget=1)

    def measure(method: Method, race: object = None) -> Measurement:
        time.sleep(3.2)  # longer than the grace period, 2 s
        with pytest.warns(ExperimentalWarning):
            optuna.storages.fail_stale_trials(study.optuna)
        return stub.measure(method)

    assert go(study, measure) == Outcome(1, 1)
    assert states(study) == {"COMPLETE": 1}


def test_the_trial_of_a_worker_that_died_before_its_first_beat_is_measured_by_another(
    begin: Begin, go: Go
) -> None:
    study = begin(budget=2)
    with pytest.warns(UserWarning, match="Heartbeat"):
        dead = study.optuna.ask()
    params = study.identity.space.suggest(dead)
    assert go(study) == Outcome(2, 2)
    assert states(study) == {"COMPLETE": 2, "FAIL": 1}
    assert params.items() <= dict(study.records()[2].params).items()


@pytest.fixture
def dead_owner(monkeypatch: pytest.MonkeyPatch) -> Callable[[Study], None]:
    """Sweeps a study as if the process of its running trials were dead."""

    def sweep(study: Study) -> None:
        with monkeypatch.context() as context:
            context.setattr("atm_search.search.heartbeat.is_dead", lambda owner: True)
            history = History(study)
            history.refresh()
            Sweeper(study, history).sweep()

    return sweep


def test_a_late_answer_is_kept_by_the_trial_that_was_queued_instead(
    begin: Begin, go: Go, table: Table, dead_owner: Callable[[Study], None]
) -> None:
    study = begin(budget=3)

    def measure(method: Method, race: object = None) -> Measurement:
        if len(table.calls) == 1:
            dead_owner(study)
        return table(method)

    assert go(study, measure) == Outcome(3, 3)
    assert len(table.calls) == 3  # nothing is measured twice
    records = study.records()
    assert [record.lost for record in records] == [False, True, False, False]
    assert records[2].params == records[1].params
    assert records[2].reused_from is None


def test_a_worker_that_is_taken_for_dead_while_it_suggests_goes_on(
    begin: Begin,
    go: Go,
    table: Table,
    dead_owner: Callable[[Study], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = begin(budget=2)
    suggest, calls = Space.suggest, iter([True])

    def paused(self: Space, trial: optuna.Trial) -> dict[str, float]:
        for _ in calls:
            dead_owner(study)
        return suggest(self, trial)

    monkeypatch.setattr(Space, "suggest", paused)
    assert go(study) == Outcome(2, 2)
    assert [record.lost for record in study.records()] == [True, False, False]


def test_a_trial_whose_process_is_dead_is_queued_again_once_however_many_sweep(
    begin: Begin, go: Go, dead_owner: Callable[[Study], None]
) -> None:
    study = begin(budget=2)

    def measure(method: Method, race: object = None) -> Measurement:
        if len(study.records()) == 1:
            dead_owner(study)
            dead_owner(study)  # finds the twin waiting, and leaves it alone
            raise KeyboardInterrupt
        raise AssertionError

    go(study, measure)
    assert states(study) == {"FAIL": 1, "WAITING": 1}


def test_a_configuration_whose_workers_die_is_queued_again_twice_and_then_given_up(
    begin: Begin, go: Go, table: Table, stub: ModuleType, dead_owner: Callable[[Study], None]
) -> None:
    study = begin(identity=stub.tome_identity(largest_r=4), budget=100)
    deadly: list[Method] = []

    def measure(method: Method, race: object = None) -> Measurement:
        if method.params()["r"] == 2:
            deadly.append(method)
            dead_owner(study)
        return table(method)

    history = History(study)
    key = study.identity.space.key({"r": 2})
    for deaths in range(1, 4):
        if deaths == 1:
            study.optuna.enqueue_trial({"r": 2})
        with pytest.warns(UserWarning, match="Heartbeat"):
            trial = study.optuna.ask()
        study.identity.space.suggest(trial)
        dead_owner(study)
        history.refresh()
        assert (history.given_up(key) is None) == (deaths < 3)
    assert states(study) == {"FAIL": 3}
    assert go(study, measure).exhausted
    assert deadly == []
    assert "3 workers died" in str([record.reason for record in study.records()])


def test_a_queued_twin_that_was_measured_meanwhile_costs_nothing(
    begin: Begin, go: Go, table: Table
) -> None:
    study = begin(budget=3)
    point = study.identity.space.at(7)
    for _ in range(2):
        study.optuna.enqueue_trial(point, user_attrs={QUEUED: True})
    study.optuna.enqueue_trial(point)  # a person's own is answered with the measurement
    assert go(study) == Outcome(3, 3)
    records = study.records()
    assert records[1].surplus
    assert records[2].reused_from == 0
    assert len(table.calls) == 2


def test_a_point_that_another_worker_measures_now_is_left_to_it(
    begin: Begin, go: Go, table: Table
) -> None:
    study = begin(budget=3)
    point = study.identity.space.at(7)
    with pytest.warns(UserWarning, match="Heartbeat"):
        other = study.optuna.ask()
    study.optuna.enqueue_trial(point)
    study.identity.space.suggest(_fixed(study, other, point))

    def finish(running: int, done: int, total: int) -> None:
        if running == 1 and done == 2:
            study.optuna.tell(other, (70.0, 1.0))

    assert go(study, on_wait=finish) == Outcome(3, 3)
    assert study.records()[1].surplus
    assert study.identity.space.key(point) not in {
        study.identity.space.key(method.params()) for method in table.calls
    }


def _fixed(study: Study, trial: optuna.Trial, point: dict[str, float]) -> optuna.Trial:
    """The same trial, with its configuration chosen."""
    study.storage.set_trial_system_attr(trial._trial_id, "fixed_params", point)
    return optuna.Trial(study.optuna, trial._trial_id)
