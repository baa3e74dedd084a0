"""Records of trials: without loss, small, and robust to what others stored."""

import json
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from atm_search.search.trials import ATTRIBUTE, TrialRecord


def frozen(state: TrialState, **attributes: Any) -> optuna.trial.FrozenTrial:
    values = [70.0, 1.0] if state == TrialState.COMPLETE else None
    trial = optuna.trial.create_trial(state=state, values=values, user_attrs=attributes)
    trial.number = 7
    return trial


def stored(record: TrialRecord) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(record.to_dict()))
    return values


def test_a_measured_trial_comes_back_equal(stub: ModuleType) -> None:
    record = TrialRecord(
        number=7,
        state=TrialState.COMPLETE,
        method="atm",
        params={"tau0": 1.0},
        measurement=stub.measurement(1.0, 700),
        environment=stub.ENVIRONMENT,
        reused_from=0,
    )
    assert TrialRecord.of(frozen(record.state, **{ATTRIBUTE: stored(record)})) == record
    assert record.measured


@pytest.mark.parametrize("fact", ["interrupted", "surplus"])
def test_a_failed_trial_comes_back_equal(stub: ModuleType, fact: str) -> None:
    record = TrialRecord(
        number=7,
        state=TrialState.FAIL,
        method="atm",
        environment=stub.ENVIRONMENT,
        **{fact: True},
    )
    assert TrialRecord.of(frozen(record.state, **{ATTRIBUTE: stored(record)})) == record
    assert not record.measured


def test_a_record_stays_small_with_many_layers_and_a_long_reason(stub: ModuleType) -> None:
    measurement = stub.measurement(1.0, 700)
    deep = type(measurement)(**{**vars(measurement), "tokens_per_layer": (196.123456789012,) * 48})
    record = TrialRecord(
        number=7,
        state=TrialState.FAIL,
        method="atm",
        params={"tau0": 1.0},
        measurement=deep,
        environment=stub.ENVIRONMENT,
        reason="x" * 100_000,
    )
    assert len(json.dumps(record.to_dict())) < 4096


@pytest.mark.parametrize(
    "attribute",
    [None, "a word", {}, {"measurement": {"top1": 1.0}}, {"measurement": 3, "device": "cpu"}],
)
def test_what_others_stored_is_read_as_unmeasured(attribute: object) -> None:
    record = TrialRecord.of(frozen(TrialState.COMPLETE, **{ATTRIBUTE: attribute}))
    assert record.measurement is None
    assert not record.measured


def test_a_trial_of_another_program_keeps_its_parameters() -> None:
    trial = optuna.trial.create_trial(
        values=[1.0, 2.0],
        params={"x": 0.5},
        distributions={"x": optuna.distributions.FloatDistribution(0.0, 1.0)},
    )
    assert TrialRecord.of(trial).params == {"x": 0.5}
    assert TrialRecord.of(trial).method is None
