"""Methods side by side, from studies of a stand-in."""

from collections.abc import Callable
from types import ModuleType

import pytest

from atm_search.errors import ParameterError, StudyError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.compare import compare
from atm_search.search.study import Study
from atm_search.search.worker import run

Begin = Callable[..., Study]
HITS = {0: 787, 1: 790, 2: 787, 3: 787, 4: 780, 5: 700}
"""Of ToMe at every r; each costs a tenth of a GFLOP less."""


@pytest.fixture(name="studies")
def _studies(begin: Begin, stub: ModuleType) -> list[Study]:
    def tome(method: Method, race: object = None) -> Measurement:
        r = method.params()["r"]
        return stub.measurement(1.25 - 0.1 * r, HITS[r])

    first = begin("tome", identity=stub.tome_identity(5), sampler="grid", budget=6)
    run(first, tome, environment=stub.ENVIRONMENT)
    second = begin("atm", budget=1)
    run(second, lambda _, race=None: stub.measurement(0.5, 600), environment=stub.ENVIRONMENT)
    return [first, second]


def test_each_method_is_at_its_best_within_every_budget(studies: list[Study]) -> None:
    found = compare(studies, budgets=[1.2, 1.0, 0.86, 0.4])
    tome, atm = found.contenders
    assert (tome.method, tome.measured, atm.method, atm.measured) == ("tome", 6, "atm", 1)
    assert [None if point is None else point.params["r"] for point in tome.at] == [1, 3, 4, None]
    assert tome.lossless is not None
    assert tome.lossless.params["r"] == 3
    assert [point is None for point in atm.at] == [False, False, False, True]
    assert atm.lossless is None
    assert found.last_block == {True: ["atm"], False: ["tome"]}


def test_budgets_are_shares_of_the_dense_cost_unless_given(studies: list[Study]) -> None:
    assert compare(studies).budgets == (1.1, 1.0, 0.9)


def test_two_studies_of_one_method_are_pooled(
    studies: list[Study], begin: Begin, stub: ModuleType
) -> None:
    more = begin("again", budget=1)
    run(more, lambda _, race=None: stub.measurement(0.4, 650), environment=stub.ENVIRONMENT)
    (atm,) = compare([studies[1], more], budgets=[0.5]).contenders
    assert atm.measured == 2
    assert atm.at[0] is not None
    assert atm.at[0].measurement.top1 == 65.0


def test_what_does_not_go_together_is_refused(
    studies: list[Study], begin: Begin, stub: ModuleType
) -> None:
    other = begin("other", identity=stub.identity(weights_digest="cd" * 32))
    with pytest.raises(StudyError, match="'tome' and 'other' cannot be compared: their weights"):
        compare([*studies, other])
    with pytest.raises(StudyError, match="no study to compare"):
        compare([])
    with pytest.raises(ParameterError, match="--at 0 is no cost"):
        compare(studies, budgets=[0])
