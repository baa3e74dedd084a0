"""Configurations in one line, and in columns where they are few."""

from atm_search.merging.diffrate import DiffRate
from atm_search.merging.method import Method
from atm_search.merging.tome import Tome
from atm_search.search.frontier import FrontierPoint
from atm_search.search.trials import TrialRecord
from atm_search.show.frontier import param_columns
from atm_search.show.tables import params_text, settings_text

SCHEDULE = DiffRate(prune_kept=(197, 180, 160), merge_kept=(190, 170, 150))


def point(method: Method) -> FrontierPoint:
    return FrontierPoint(0, method.name, method.params(), None)  # type: ignore[arg-type]


def test_parameters_of_block_after_block_stand_together() -> None:
    assert params_text(SCHEDULE.params()) == (
        "cls_only_last_block=False prune=197,180,160 merge=190,170,150"
    )
    assert params_text({"split_depth": 9, "r_first": 3}) == "split_depth=9 r_first=3"


def test_a_trial_says_its_method_if_it_has_one() -> None:
    assert settings_text(point(Tome(r=8))).startswith("tome ")
    assert settings_text(TrialRecord(number=0, state=None)) == ""  # type: ignore[arg-type]


def test_parameters_have_columns_where_they_are_few_and_of_one_method() -> None:
    assert param_columns([point(Tome(r=8)), point(Tome(r=9))]) == ["r", "inflection"]
    assert param_columns([point(Tome(r=8)), point(SCHEDULE)]) == []
    twelve = DiffRate(prune_kept=(1,) * 12, merge_kept=(1,) * 12)
    assert param_columns([point(twelve)]) == []
    assert param_columns([]) == []
