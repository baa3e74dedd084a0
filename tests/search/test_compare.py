"""Methods side by side, from studies of a stand-in."""

from collections.abc import Callable
from types import ModuleType

import pytest

from atm_search.errors import ParameterError, StudyError
from atm_search.measure.flops import LastBlock
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
    best = [None if priced is None else priced.point.params["r"] for priced in tome.at]
    assert best == [1, 3, 4, None]
    assert tome.lossless is not None
    assert tome.lossless.point.params["r"] == 3
    assert [priced is None for priced in atm.at] == [False, False, False, True]
    assert atm.lossless is None


def test_the_last_block_is_counted_alike_for_all_whatever_was_measured(
    studies: list[Study],
) -> None:
    # 99 of 100 tokens of the last block are not read; ATM was measured without them, ToMe with.
    block = LastBlock(gflops_per_token=0.001, num_prefix_tokens=1)
    found = compare(studies, budgets=[9.0], last_block=block).contenders
    names = [(contender.method, contender.prefix_only) for contender in found]
    assert names == [("tome", True), ("atm", True), ("tome", False), ("atm", False)]
    lossless = [contender.lossless.gflops for contender in found if contender.lossless]
    assert lossless == pytest.approx([0.95 - 0.099, 0.95])
    atm = [contender.at[0].gflops for contender in found if contender.method == "atm"]
    assert atm == pytest.approx([0.5, 0.5 + 0.099])


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
    assert atm.at[0].point.measurement.top1 == 65.0


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
