"""Several methods in one study: their common space, its points, and a search of it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.errors import ConfigurationError, ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.method import Range
from atm_search.merging.tome import Tome
from atm_search.search.history import History
from atm_search.search.identity import Identity
from atm_search.search.owner import OWNER, signature
from atm_search.search.samplers import resolve
from atm_search.search.space import Space
from atm_search.search.start_points import StartPoints, queue
from atm_search.search.study import Study, load
from atm_search.search.study_file import StudyFile
from atm_search.search.worker import Outcome, run

Begin = Callable[..., Study]
FIXED = {"prop_attn": True, "cls_only_last_block": True}
SPACE = Space.of({"atm": Atm.space(12), "tome": Tome.space(12)})
TOME = {"method": "tome", "tome.r": 8}
MILD = {"tau0": 0.98, "alpha": 0.035, "tau_min": 0.93, "split_depth": 9}
ATM = {"method": "atm"} | {f"atm.{name}": value for name, value in MILD.items()}


def both(stub: ModuleType, **changes: object) -> Identity:
    """A study of ATM and ToMe."""
    own = {"atm": FIXED, "tome": FIXED | {"inflection": 0.0}}
    fixed = {f"{method}.{n}": v for method, params in own.items() for n, v in params.items()}
    return stub.identity(**{"method": "atm,tome", "fixed_params": fixed, "space": SPACE} | changes)


def small(stub: ModuleType) -> Identity:
    """The same with few configurations: 4 of ATM, 3 of ToMe."""
    atm = (Range("tau0", 0.99, 1.0, 0.01), *(Range(n, MILD[n], MILD[n], 0.005) for n in MILD))
    ranges = (atm[0], atm[2], atm[3], Range("split_depth", 9, 10, 1))
    return both(stub, space=Space.of({"atm": ranges, "tome": (Range("r", 1, 3, 1),)}))


def searched(study: Study, stub: ModuleType, *, worker: int = 0) -> Outcome:
    return run(study, stub.measure, environment=stub.ENVIRONMENT, worker=worker)


def test_a_space_of_several_has_the_configurations_of_each_one_after_another() -> None:
    thin = SPACE.thinned(5)
    points = list(thin)
    assert points == [thin.at(index) for index in range(len(thin))]
    assert len({thin.key(point) for point in points}) == len(thin)
    assert Counter(point["method"] for point in points) == {
        "atm": len(Space(Atm.space(12)).thinned(5)),
        "tome": len(Space(Tome.space(12)).thinned(5)),
    }
    assert len(SPACE) == 12 * 8 * 30 * 13 + 26
    assert Space.of({"tome": Tome.space(12)}) == Space(Tome.space(12))


@given(st.integers(0, len(SPACE) - 1))
def test_a_point_its_key_and_what_is_recorded_of_it_say_the_same(index: int) -> None:
    point = SPACE.at(index)
    key = SPACE.key(point)
    assert SPACE.point(key) == point
    method = str(point["method"])
    own = SPACE.own(method, point)
    assert set(own) == {item.name for item in (Atm if method == "atm" else Tome).space(12)}
    assert {"method": method, **SPACE.named(method, own)} == point


def test_a_random_index_is_of_any_method_as_likely() -> None:
    random = Random(0)
    found = Counter(SPACE.at(SPACE.random_index(random))["method"] for _ in range(400))
    assert 150 < found["tome"] < 250


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"tome.r": 8}, "method is missing: atm, tome"),
        (TOME | {"method": "evit"}, "method 'evit' is not among those searched: atm, tome"),
        ({"method": "tome", "atm.tau0": 1.0}, r"tome\.r is missing"),
        (TOME | {"tome.r": 99}, r"tome\.r=99 is off the grid"),
    ],
)
def test_what_is_no_point_is_refused(point: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        SPACE.key(point)


def test_spaces_that_cannot_be_searched_together_are_refused() -> None:
    with pytest.raises(ParameterError, match="fixed has nothing to search"):
        Space.of({"fixed": (), "tome": Tome.space(12)})
    with pytest.raises(ParameterError, match="every range belongs to one"):
        Space(Tome.space(12), ("atm", "tome"))


def test_json_gives_an_equal_identity_of_several_back(stub: ModuleType) -> None:
    identity = both(stub)
    again = Identity.from_dict(json.loads(json.dumps(identity.to_dict())))
    assert again == identity
    assert again.methods == ("atm", "tome")
    assert identity.differences(stub.tome_identity(25)) == [
        "made with method atm,tome, you gave tome"
    ]


def test_one_method_is_stored_as_ever(stub: ModuleType) -> None:
    stored = stub.tome_identity(2).to_dict()
    assert stored["method"] == "tome"
    assert stored["fixed_params"] == {**FIXED, "cls_only_last_block": False, "inflection": 0.0}
    assert stored["space"] == [{"name": "r", "low": 0, "high": 2, "step": 1}]


def test_points_become_methods_and_equal_ones_are_known(stub: ModuleType) -> None:
    identity = both(stub, depth=12, prefix_only_head=True)
    assert identity.configured(TOME) == Tome(r=8, cls_only_last_block=True)
    assert identity.configured(ATM) == Atm(**MILD)
    assert identity.described(TOME) == ("tome", {**FIXED, "inflection": 0.0, "r": 8})
    assert identity.described({}) == (None, {})  # a trial that ended before it was suggested
    # Splits 11 and 12: in the last block only the class token is left.
    last = [identity.effective_key(ATM | {"atm.split_depth": depth}) for depth in (10, 11, 12)]
    assert last[0] != last[1] == last[2]
    assert identity.effective_key(TOME)[0] == "tome"


def test_only_samplers_that_can_choose_a_method_do() -> None:
    assert resolve("auto", 50, conditional=True) == "tpe"
    with pytest.raises(ParameterError, match="Sampler 'gp' searches one method at a time"):
        resolve("gp", 50, conditional=True)


@pytest.mark.parametrize("sampler", ["auto", "random"])
def test_a_search_of_several_resumes_and_repeats(
    sampler: str, begin: Begin, stub: ModuleType
) -> None:
    def search(name: str) -> list[tuple[str | None, dict[str, object]]]:
        for budget in (11, 14):
            study = begin(name, identity=both(stub), sampler=sampler, budget=budget)
            assert searched(study, stub).done == budget
        return [(record.method, dict(record.params)) for record in study.records()]

    once = search("once")
    assert search("again") == once
    found = dict(once)  # one configuration of each method
    assert set(found["atm"]) == {*MILD, *FIXED}
    assert set(found["tome"]) == {"r", "inflection", *FIXED}


def test_a_sweep_of_several_measures_each_point_once(begin: Begin, stub: ModuleType) -> None:
    study = begin(identity=small(stub), sampler="grid", budget=7)
    assert searched(study, stub).done == 7
    assert [record.method for record in study.records()] == ["atm"] * 4 + ["tome"] * 3
    assert len({json.dumps(record.params) for record in study.records()}) == 7


def test_a_method_that_is_measured_whole_leaves_the_rest_to_the_others(
    begin: Begin, stub: ModuleType
) -> None:
    study = begin(identity=small(stub), sampler="random", budget=50)
    outcome = searched(study, stub)
    assert outcome.exhausted
    new = [record for record in study.records() if record.reused_from is None and record.measured]
    assert Counter(record.method for record in new) == {"atm": 4, "tome": 3}
    history = History(study)
    history.refresh()
    assert history.unseen(Random(0)) is None


def test_a_dead_workers_point_is_queued_with_its_method(begin: Begin, stub: ModuleType) -> None:
    study = begin(identity=both(stub), budget=2)
    study.optuna.enqueue_trial(TOME)
    with pytest.warns(UserWarning, match="Heartbeat"):
        dead = study.optuna.ask()
    assert study.identity.space.suggest(dead) == TOME
    gone = signature() | {"started": "of another process"}
    study.storage.set_trial_system_attr(dead._trial_id, OWNER, gone)
    searched(study, stub)
    lost, twin = study.records()[:2]
    assert lost.lost
    assert (lost.method, lost.params) == study.identity.described(TOME)
    assert (twin.method, twin.params["r"]) == ("tome", 8)


def test_start_points_name_their_method_or_fit_only_one(
    begin: Begin, stub: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "first.yaml"
    file.write_text(
        "- {method: tome, r: 8, inflection: 0.0}\n"
        "- {tau0: 0.98, alpha: 0.035, tau_min: 0.93, split_depth: 9}\n"
    )
    study = begin(identity=both(stub), budget=2)
    points = StartPoints.read(file).checked(study.identity)
    assert points == [TOME, ATM]
    assert queue(study, points) == 2
    searched(study, stub)
    assert [record.method for record in study.records()] == ["tome", "atm"]
    assert queue(load(study.storage, study.name), points) == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{method: evit, keep_rate: 0.7}", "method 'evit' is not searched"),
        ("{alpha: 0.035}", "which method is it of.* one of atm, tome"),
        ("{method: tome, r: 8, tau0: 0.98}", "unknown parameter 'tau0'"),
        ("{method: tome, r: 8, inflection: 1.0}", "the study keeps inflection=0.0"),
        ("{method: tome, r: 8.5}", r"tome\.r=8\.5 is off the grid"),
    ],
)
def test_wrong_start_points_of_several_are_refused(
    entry: str, words: str, stub: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "first.yaml"
    file.write_text(f"- {entry}\n")
    with pytest.raises(ConfigurationError, match=f"line 1, entry 1: .*{words}"):
        StartPoints.read(file).checked(both(stub))


def test_a_queued_method_that_is_not_searched_fails_its_trial_alone(
    begin: Begin, stub: ModuleType
) -> None:
    study = begin(identity=both(stub), budget=1)
    study.optuna.enqueue_trial({"method": "evit", "evit.keep_rate": 0.7})
    assert searched(study, stub).done == 1
    first = study.records()[0]
    assert first.reason is not None
    assert "evit" in first.reason


def test_a_study_file_names_methods_in_any_order_and_changes_their_ranges() -> None:
    file = StudyFile.model_validate(
        {"method": "tome, atm", "space": {"tome.r": {"low": 4, "high": 8}}}
    )
    assert file.methods() == ("atm", "tome")
    assert len(file.ranges(SPACE)) == len(SPACE) - 26 + 5
    with pytest.raises(ParameterError, match="names tome twice"):
        StudyFile(method="tome,tome").methods()
    with pytest.raises(ParameterError, match="No method 'tom'"):
        StudyFile(method="atm,tom").methods()
