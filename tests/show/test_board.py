"""What a running search shows: a board on a terminal, few lines in a log."""

import dataclasses
import io
import time
from collections.abc import Callable
from types import ModuleType

import pytest
from optuna.trial import TrialState
from rich.console import Console

from atm_search.errors import MeasurementError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.study import Study
from atm_search.search.trials import TrialRecord
from atm_search.search.worker import run
from atm_search.show import board
from atm_search.show.following import Follower
from atm_search.show.status import Status

Begin = Callable[..., Study]


def search(study: Study, stub: ModuleType, *, terminal: bool, fail: int = -1) -> str:
    """What is shown of a whole search of the stand-in."""
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=80, color_system=None)
    calls = 0

    def measure(method: Method, race: object = None) -> Measurement:
        nonlocal calls
        calls += 1
        if calls == fail:
            raise MeasurementError("out of memory")
        found: Measurement = stub.measure(method)
        return found

    with board.trial_progress(console, study) as (on_trial, on_wait):
        run(study, measure, environment=stub.ENVIRONMENT, on_trial=on_trial, on_wait=on_wait)
    return said.getvalue()


def test_a_terminal_shows_trials_and_below_them_the_study(begin: Begin, stub: ModuleType) -> None:
    study = begin(budget=12)
    said = search(study, stub, terminal=True)
    assert "[12/12] trial 11:" in said
    last = said[said.rindex("search") :].replace("\x1b[?25h", "")
    lines = [line.rstrip() for line in last.splitlines()]
    assert lines[0].endswith("12/12")
    seen = Follower(study).look()
    picks = seen.picks
    assert f"{len(seen.points)} configurations" in lines[1]
    assert any(line.startswith(f"knee      trial {picks['knee'].number}:") for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_the_board_fits_80_columns_and_its_clock_goes_on(
    begin: Begin, stub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin(budget=20_000)
    numbered = dataclasses.replace(
        Follower(study).look(),
        records=[
            TrialRecord(
                number=number,
                state=TrialState.COMPLETE,
                method="atm",
                measurement=stub.measurement(gflops, hits),
            )
            for number, gflops, hits in ((12_345, 0.1234, 300), (12_346, 1.2345, 787))
        ],
    )
    now = Status(
        done=12_345,
        budget=20_000,
        running=128,
        queued=12,
        raced=11_234,
        reused=1_234,
        failed=123,
        images_per_second=123_456.0,
        seconds_left=200_000.0,
    )
    shown = board.Board()
    clock = 1000.0
    monkeypatch.setattr(board.time, "monotonic", lambda: clock)
    shown.update(numbered, now)
    clock += 10
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(shown)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0].endswith("12345/20000  2 days, 7:33:10 left")
    assert lines[1].startswith("trials    128 running, 12 queued, 11234 raced out, 1234 reused")
    assert lines[1].endswith("123 failed,")
    assert lines[2].strip() == "123,456 images/s"
    assert lines[4] == "lossless  trial 12346: 1.2345 GFLOPs (-1.6 %), top-1 +0.00 (-0.28 to +0.28)"
    assert max(map(len, lines)) <= 80


def test_a_log_has_a_line_for_each_of_the_first_trials_then_few(
    begin: Begin, stub: ModuleType
) -> None:
    said = search(begin(budget=60), stub, terminal=False, fail=40)
    lines = said.splitlines()
    assert len(lines) == board.FIRST_LINES + 2
    assert lines[0].startswith("[1/60] trial 0:")
    assert "failed: out of memory" in lines[-2]
    assert lines[-1].startswith("[60/60] trial")


def test_a_log_says_now_and_then_how_the_study_stands(
    begin: Begin, stub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board.Log, "pause_s", 0.0)
    monkeypatch.setattr(board, "SHARE", 0.0)
    said = search(begin(budget=4), stub, terminal=False).splitlines()
    standing = [line for line in said if not line.startswith("[")]
    assert standing[1].startswith("2 of 4 trials, 1 running")
    assert "knee trial" in standing[1]
    assert standing[-1].startswith("4 of 4 trials; ")


def test_looks_at_the_study_take_a_small_share_of_the_time(
    begin: Begin, stub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Follower.look

    def counted(self: Follower) -> object:
        nonlocal looks
        looks += 1
        time.sleep(0.02)
        return look(self)

    monkeypatch.setattr(Follower, "look", counted)
    monkeypatch.setattr(board.Terminal, "pause_s", 0.0)
    started = time.monotonic()
    search(begin(budget=30), stub, terminal=True)
    assert looks <= 3 + (time.monotonic() - started) / (0.02 * board.SHARE)


def test_a_trial_that_is_about_to_begin_counts_as_running(begin: Begin) -> None:
    record = TrialRecord(number=0, state=TrialState.COMPLETE)
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=80)
    with board.trial_progress(console, begin(budget=2)) as (on_trial, _):
        on_trial(record, 1, 2)
        assert "1 running" in said.getvalue()
