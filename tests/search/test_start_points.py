"""Start points: checked before anything is written, measured first, queued once."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from atm_search.errors import ConfigurationError, MeasurementError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.start_points import StartPoints, queue
from atm_search.search.study import Study
from atm_search.search.worker import run

Begin = Callable[..., Study]
GOOD = "- {tau0: 0.98, alpha: 0.035, tau_min: 0.93, split_depth: 9}\n"
OTHER = "- {tau0: 1, alpha: 0.045, tau_min: 0.8, split_depth: 12, prop_attn: true}\n"


@pytest.fixture
def points(tmp_path: Path) -> Callable[[str], StartPoints]:
    """Start points of a file with that text."""

    def read(text: str) -> StartPoints:
        path = tmp_path / "first.yaml"
        path.write_text(text)
        return StartPoints.read(path)

    return read


def test_points_are_canonical_and_repeated_ones_come_once(
    points: Callable[[str], StartPoints], stub: ModuleType
) -> None:
    checked = points(GOOD + OTHER + GOOD.replace("0.035", "0.0350000000001"))
    assert checked.checked(stub.identity()) == [
        {"tau0": 0.98, "alpha": 0.035, "tau_min": 0.93, "split_depth": 9},
        {"tau0": 1.0, "alpha": 0.045, "tau_min": 0.8, "split_depth": 12},
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (GOOD.replace("0.035", "0.0351"), r"alpha=0.0351 is off the grid: use 0.015 to 0.05"),
        (GOOD.replace("9}", "13}"), r"split_depth=13 is off the grid: use 0 to 12"),
        (GOOD.replace("9}", "9.5}"), r"split_depth=9.5 is off the grid"),
        (GOOD.replace("tau_min", "tau_mim"), r"unknown parameter 'tau_mim'. Did you mean 'tau_min"),
        ("- {tau0: 0.98}\n", "alpha is missing: the space searches it"),
        (GOOD.replace("0.98", "high"), "tau0='high' is no number"),
        (GOOD.replace("0.98", "yes"), "tau0=True is no number"),
        (GOOD.replace("0.98", ".nan"), "tau0=nan is off the grid"),
        ("- 0.98\n", "0.98 is no mapping"),
        (OTHER.replace("true", "false"), "prop_attn=False cannot be queued: the study keeps"),
    ],
)
def test_a_wrong_entry_is_named_with_file_line_number_and_value(
    entry: str, words: str, points: Callable[[str], StartPoints], stub: ModuleType
) -> None:
    with pytest.raises(ConfigurationError, match=rf"first.yaml, line 3, entry 2: .*{words}"):
        points(f"{GOOD}# the second\n{entry}").checked(stub.identity())


@pytest.mark.parametrize("text", ["", "[]", "tau0: 0.98", "0.98"])
def test_a_file_without_a_list_is_refused(
    text: str, points: Callable[[str], StartPoints], stub: ModuleType
) -> None:
    with pytest.raises(ConfigurationError, match=r"first.yaml, line 1: start points are a list"):
        points(text).checked(stub.identity())


def test_queued_points_are_measured_first_and_once(
    points: Callable[[str], StartPoints], begin: Begin, stub: ModuleType
) -> None:
    study = begin(budget=1)
    wanted = points(GOOD + OTHER).checked(study.identity)
    assert queue(study, wanted) == 2
    assert queue(study, wanted) == 0  # both wait
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    assert queue(study, wanted) == 0  # one is measured, one waits
    study = begin(budget=4)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    assert queue(study, wanted) == 0
    records = [record for record in study.records() if record.measured]
    assert len(records) == 4
    assert [study.identity.space.canonical(record.params) for record in records[:2]] == wanted
    assert all(record.reused_from is None for record in records)


def test_a_point_that_is_given_up_is_not_queued_again(
    points: Callable[[str], StartPoints], begin: Begin, stub: ModuleType
) -> None:
    study = begin(budget=3)
    (wanted,) = points(GOOD).checked(study.identity)

    def measure(method: Method, race: object = None) -> Measurement:
        if method.params() | wanted == method.params():
            raise MeasurementError("not finite")
        return stub.measure(method)  # type: ignore[no-any-return]

    for _ in range(2):
        assert queue(study, [wanted]) == 1
        run(study, measure, environment=stub.ENVIRONMENT)
        study = begin(budget=study.plan.budget + 3)
    assert queue(study, [wanted]) == 0
