"""Constraints: what they allow, that samplers see them, and that they are part of a study."""

import json
import math
from collections.abc import Callable
from types import ModuleType

import pytest

from atm_search.errors import ParameterError, StudyError
from atm_search.search.constraints import Constraints
from atm_search.search.frontier import frontier
from atm_search.search.identity import Identity
from atm_search.search.study import Study
from atm_search.search.worker import run

Begin = Callable[..., Study]
LIMITS = Constraints(max_drop=1.0, max_gflops=1.1)


def test_a_limit_that_is_just_met_is_kept(stub: ModuleType) -> None:
    ten_lost = stub.measurement(1.1, stub.DENSE.top1_hits - 10)  # of 1,000 images: 1.0 points
    assert LIMITS.violations(ten_lost) == {"max_drop": 0.0, "max_gflops": 0.0}
    assert LIMITS.feasible(ten_lost)
    assert not LIMITS.feasible(stub.measurement(1.1, stub.DENSE.top1_hits - 11))
    assert not LIMITS.feasible(stub.measurement(1.11, stub.DENSE.top1_hits))


def test_without_limits_nothing_is_said_of_feasibility(stub: ModuleType) -> None:
    assert Constraints().violations(stub.measurement(1.0, 700)) == {}
    assert Constraints().feasible(stub.measurement(1.0, 700)) is None


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_drop": -0.5}, "max_drop=-0.5 is no loss of top-1"),
        ({"max_drop": math.nan}, "max_drop=nan"),
        ({"max_gflops": 0.0}, "max_gflops=0.0 leaves no compute"),
        ({"max_gflops": math.inf}, "max_gflops=inf"),
    ],
)
def test_limits_that_are_none_are_refused(limits: dict[str, float], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Constraints(**limits)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2", "nsga3", "qmc", "grid", "random"])
def test_every_finished_trial_has_its_constraints(
    sampler: str, begin: Begin, stub: ModuleType
) -> None:
    study = begin(identity=stub.identity(constraints=LIMITS), sampler=sampler, budget=12)
    study.optuna.enqueue_trial(dict(study.identity.space.at(0)))
    study.optuna.enqueue_trial(dict(study.identity.space.at(0)))  # measured once, reused once
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    finished = [trial for trial in study.optuna.get_trials() if trial.state.name == "COMPLETE"]
    assert len(finished) == 12
    records = {record.number: record for record in study.records()}
    for trial in finished:
        record = records[trial.number]
        assert record.measurement is not None
        assert trial.constraints == LIMITS.violations(record.measurement)
        assert record.feasible == (max(trial.constraints.values()) <= 0)
        assert trial.user_attrs["atm_search"]["feasible"] == record.feasible
    assert {record.feasible for record in records.values() if record.measured} >= {False}


def test_a_limit_draws_the_sampler_to_points_that_keep_it(begin: Begin, stub: ModuleType) -> None:
    limits = Constraints(max_gflops=0.9)
    found = {}
    for sampler in ("random", "tpe"):
        study = begin(
            sampler, identity=stub.identity(constraints=limits), sampler=sampler, budget=60
        )
        run(study, stub.measure, environment=stub.ENVIRONMENT)
        found[sampler] = sum(record.feasible is True for record in study.records()[20:])
    assert found["tpe"] > found["random"]


def test_the_frontier_has_only_points_that_keep_the_limits(begin: Begin, stub: ModuleType) -> None:
    study = begin(identity=stub.identity(constraints=Constraints(max_drop=10.0)), budget=40)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    records = study.records()
    infeasible = [record for record in records if record.feasible is False]
    assert infeasible
    points = frontier(records, study.dense)
    assert points
    assert all(point.measurement.delta_top1 >= -10.0 for point in points)


def test_other_constraints_are_another_study(begin: Begin, stub: ModuleType) -> None:
    begin(identity=stub.identity(constraints=LIMITS))
    words = "made with max_drop 1.0, you gave 0.5; made with max_gflops 1.1, you gave unset"
    with pytest.raises(StudyError, match=words):
        begin(identity=stub.identity(constraints=Constraints(max_drop=0.5)))


def test_an_identity_of_before_there_were_constraints_has_none(stub: ModuleType) -> None:
    stored = json.loads(json.dumps(stub.identity(constraints=LIMITS).to_dict()))
    assert Identity.from_dict(stored).constraints == LIMITS
    del stored["constraints"]
    assert Identity.from_dict(stored) == stub.identity()
