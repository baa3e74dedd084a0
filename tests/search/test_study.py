"""Studies: begun, resumed, found, and refused where they do not fit."""

import time
from collections.abc import Callable
from types import ModuleType

import optuna
import pytest
from optuna.storages import RDBStorage

from atm_search.errors import ParameterError, StudyError
from atm_search.search.study import FACTS, Study, create_or_resume, load, names
from atm_search.search.worker import run

Begin = Callable[..., Study]


def test_a_study_is_found_again_as_it_was_begun(
    store_url: str, stub: ModuleType, opened: Callable[..., RDBStorage]
) -> None:
    begun = create_or_resume(
        opened(store_url),
        "deit-s",
        identity=stub.identity(),
        dense=lambda: stub.DENSE,
        budget=12,
        sampler="tpe",
        seed=7,
        hints={"model": "deit_s", "data": None},
    )
    again = opened(store_url, create=False)
    found = load(again, "deit-s")
    assert (found.identity, found.dense) == (begun.identity, stub.DENSE)
    assert (found.plan.budget, found.plan.sampler, found.plan.seed) == (12, "tpe", 7)
    assert found.plan.hints == {"model": "deit_s", "data": None}
    assert found.optuna.metric_names == ["top1", "gflops"]
    assert [direction.name for direction in found.optuna.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert load(again).name == "deit-s"


def test_resuming_keeps_what_is_not_given_and_changes_what_is(begin: Begin) -> None:
    begin(budget=10, sampler="tpe", seed=3, hints={"data": "here"})
    kept = begin(budget=20, sampler=None, seed=None, hints=None).plan
    assert (kept.budget, kept.sampler, kept.seed, kept.hints) == (20, "tpe", 3, {"data": "here"})
    changed = begin(budget=20, sampler="qmc", seed=4, hints={"data": "there"}).plan
    assert (changed.sampler, changed.seed, changed.hints) == ("qmc", 4, {"data": "there"})


def test_a_study_without_a_seed_draws_one_and_keeps_it(begin: Begin) -> None:
    first = begin(seed=None, sampler=None).plan
    assert begin(seed=None, sampler=None).plan == first
    assert first.sampler == "auto"


def test_the_dense_model_is_measured_once_and_before_anything_is_stored(
    begin: Begin, storage: RDBStorage
) -> None:
    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        begin(dense=fail)
    assert names(storage) == []
    begin()
    begin(dense=fail)


def test_another_shard_is_refused_with_both_values_and_what_to_do(
    begin: Begin, stub: ModuleType
) -> None:
    begin("deit-s")
    with pytest.raises(StudyError) as refusal:
        begin("deit-s", identity=stub.identity(images=5000, shard_digest="90ab" * 16))
    assert str(refusal.value) == (
        "Study 'deit-s' was measured on 1,000 images (shard 4f1c), you gave 5,000 (shard 90ab). "
        "Use --study to begin another."
    )


def test_all_differences_are_named_at_once(begin: Begin, stub: ModuleType) -> None:
    begin()
    other = stub.identity(model="vit", weights_digest="0" * 64)
    with pytest.raises(StudyError, match=r"weights abab, you gave 0000; made with model deit.*vit"):
        begin(identity=other)


def test_a_smaller_budget_than_what_is_finished_is_refused(begin: Begin, stub: ModuleType) -> None:
    run(begin(budget=4), stub.measure, environment=stub.ENVIRONMENT)
    with pytest.raises(StudyError, match="has 4 finished trials, more than the 3 asked for"):
        begin(budget=3)
    assert begin(budget=4).plan.budget == 4


@pytest.mark.parametrize("attribute", [None, "words", {"other": 1}])
def test_a_study_of_another_program_is_refused(
    begin: Begin, storage: RDBStorage, attribute: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atm_search.search.study.BIRTH_S", 0.2)
    theirs = optuna.create_study(
        storage=storage, study_name="s", directions=["maximize", "minimize"]
    )
    theirs.set_user_attr(FACTS, attribute)
    with pytest.raises(StudyError, match=r"'s' was not made by atm-search\. Use --study"):
        begin()


def test_a_study_of_another_program_with_trials_is_refused_at_once(
    begin: Begin, storage: RDBStorage
) -> None:
    theirs = optuna.create_study(storage=storage, study_name="s", directions=["maximize"] * 2)
    theirs.enqueue_trial({"x": 1.0})
    started = time.monotonic()
    with pytest.raises(StudyError, match="not made by atm-search"):
        begin()
    assert time.monotonic() - started < 1.0


def test_a_newer_schema_is_refused_with_what_to_do(begin: Begin) -> None:
    study = begin()
    study.optuna.set_user_attr(FACTS, {"schema": 2, "identity": "of another shape"})
    with pytest.raises(StudyError, match=r"schema version 2, .* version 1: .*pip install -U"):
        begin()


def test_an_unknown_study_names_those_there_are_nearest_first(
    begin: Begin, storage: RDBStorage
) -> None:
    for name in ("abc", "deit-tiny", "deit-small"):
        begin(name)
    with pytest.raises(StudyError, match="It holds: deit-small, deit-tiny, abc"):
        load(storage, "deit-smal")
    with pytest.raises(StudyError, match=r"holds 3 studies: abc, deit-tiny, deit-small\. Use"):
        load(storage)


def test_an_empty_store_says_so(storage: RDBStorage) -> None:
    with pytest.raises(StudyError, match="no study yet: start a search first"):
        load(storage, "deit-s")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"budget": 0}, "0 trials"),
        ({"seed": -1}, "seed=-1"),
        ({"sampler": "cmaes"}, "No sampler 'cmaes'. Known: auto, gp, tpe"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_before_anything_is_stored(
    begin: Begin, storage: RDBStorage, wish: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        begin(**wish)
    assert names(storage) == []
