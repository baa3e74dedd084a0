"""A study looked at again and again; every finished trial is read once."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.live import Live

from atm_search.errors import StudyError
from atm_search.search.grid import SubGrid
from atm_search.search.history import History
from atm_search.search.study import PLAN, Study
from atm_search.search.trials import TrialRecord
from atm_search.show.progress import PLAIN_INTERVAL_S
from atm_search.show.status import progress_line, status, status_summary, status_table
from atm_search.show.view import View

PAUSE_S, SHARE = 2.0, 20.0
"""Between two looks, in seconds and in times of what a look took."""

Show = Callable[[View, bool], None]
"""Shows a study, and is told whether it is finished."""


class Follower:
    """Keeps the finished trials that it has read."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._records: dict[int, TrialRecord] = {}

    def look(self) -> View:
        """The study as it is now, alone, without rivals.

        Raises:
            StudyError: it has been deleted meanwhile.
        """
        try:
            trials = self._study.optuna.get_trials(deepcopy=False)
            known = PLAN in self._study.optuna.user_attrs
        except KeyError:
            known = False
        if not known:
            raise StudyError(f"Study '{self._study.name}' is no longer in the store.")
        return View(self._study, trials, [self._record(trial) for trial in trials], rivals={})

    def is_over(self, seen: View) -> bool:
        """Whether workers would find nothing to do: the budget is spent, or all is measured."""
        now = status(seen)
        if now.done >= now.budget:
            return True
        if now.running or now.queued:
            return False
        self._history.refresh()
        plan = self._study.plan
        if plan.sampler != "grid":
            return self._history.is_exhausted
        grid = SubGrid(self._study.identity.space, plan.step, worker=0)
        return grid.next(self._history) is None

    @cached_property
    def _history(self) -> History:
        return History(self._study)

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        known = self._records.get(trial.number)
        if known is None:
            known = TrialRecord.of(trial)
            if trial.state.is_finished():
                self._records[trial.number] = known
        return known


def show_study(follower: Follower, console: Console, *, as_json: bool) -> None:
    """Print how a study stands."""
    seen = follower.look()
    if as_json:
        print(json.dumps(_summary(seen, follower.is_over(seen)), indent=2))
    else:
        console.print(status_table(seen), soft_wrap=True)


def follow_study(follower: Follower, console: Console, *, as_json: bool) -> None:
    """Show how a study stands until it is finished: in place on a terminal, else in lines.

    Raises:
        StudyError: it has been deleted meanwhile.
    """
    with _shown(console, as_json=as_json) as show:
        while True:
            started = time.monotonic()
            seen = follower.look()
            over = follower.is_over(seen)
            show(seen, over)
            if over:
                return
            time.sleep(max(PAUSE_S, SHARE * (time.monotonic() - started)))


@contextmanager
def _shown(console: Console, *, as_json: bool) -> Iterator[Show]:
    """The way to show that fits where it goes; both kinds of lines come only with something new."""
    said = ""
    said_at = float("-inf")

    def print_json(seen: View, over: bool) -> None:
        nonlocal said
        line = json.dumps(_summary(seen, over))
        if line != said:
            said = line
            print(line, flush=True)

    def print_line(seen: View, over: bool) -> None:
        nonlocal said, said_at
        line = progress_line(seen, status(seen))
        if line != said and (over or time.monotonic() - said_at >= PLAIN_INTERVAL_S):
            said, said_at = line, time.monotonic()
            print(line, flush=True)

    if as_json:
        yield print_json
    elif not console.is_terminal:
        yield print_line
    else:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda seen, over: live.update(status_table(seen), refresh=True)


def _summary(seen: View, over: bool) -> dict[str, object]:
    return {**status_summary(seen), "finished": over}
