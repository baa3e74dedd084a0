"""A search as it goes on: a board that stays in place on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from atm_search.search.study import Study
from atm_search.search.trials import TrialRecord
from atm_search.show.following import Follower
from atm_search.show.status import (
    SHOWN,
    Status,
    counts_text,
    frontier_text,
    gain_text,
    progress_line,
    status,
    time_text,
)
from atm_search.show.trials import trial_line
from atm_search.show.view import View

SHARE = 50.0
"""Between two looks at the study passes as many times what a look took: a worker that shows its
progress loses 2 % of its time at most."""

FIRST_LINES = 20
"""Trials that have a line each in a log; later ones only when lines are rare."""

LINE_PAUSE_S = 10.0
"""Between lines of later trials in a log."""

OnTrial = Callable[[TrialRecord, int, int], None]
OnWait = Callable[[int, int, int], None]


class Screen(Protocol):
    """Where progress goes."""

    pause_s: float
    """Between two looks at the study, at least."""

    def trial(self, record: TrialRecord, done: int, total: int) -> None:
        """Say what became of a trial."""

    def study(self, seen: View, now: Status) -> None:
        """Say how the study stands."""


@contextmanager
def trial_progress(
    console: Console, study: Study, *, works_here: bool = True
) -> Iterator[tuple[OnTrial, OnWait]]:
    """Show how a search goes on, as long as the block lasts.

    Args:
        console: where to show it.
        study: what is searched.
        works_here: whether this process runs trials itself, and tells of them between two.

    Yields:
        What a worker, or a supervisor, tells of finished trials, and of waiting.
    """
    follower = Follower(study)
    next_look = time.monotonic()

    def look(about_to: int) -> None:
        nonlocal next_look
        started = time.monotonic()
        if started < next_look:
            return
        seen = follower.look()
        screen.study(seen, status(seen, about_to=about_to))
        ended = time.monotonic()
        next_look = ended + max(screen.pause_s, SHARE * (ended - started))

    def on_trial(record: TrialRecord, done: int, total: int) -> None:
        screen.trial(record, done, total)
        look(int(works_here))

    def on_wait(running: int, done: int, total: int) -> None:
        look(0)

    with _screen(console) as screen:
        if not console.is_terminal:
            next_look += screen.pause_s
            yield on_trial, on_wait
            return
        look(int(works_here))
        yield on_trial, on_wait
        next_look = 0.0
        look(0)  # the board stays


@contextmanager
def _screen(console: Console) -> Iterator[Screen]:
    if not console.is_terminal:
        yield Log(console)
        return
    board = Board()
    with Live(board, console=console, refresh_per_second=2) as live:
        yield Terminal(live, board)


class Board:
    """The study's lines: drawn again and again while it stands, so that its clock goes on."""

    def __init__(self) -> None:
        self._seen: View | None = None
        self._now: Status | None = None
        self._at = 0.0

    def update(self, seen: View, now: Status) -> None:
        """Show another state of the study from now on."""
        self._seen, self._now, self._at = seen, now, time.monotonic()

    def __rich__(self) -> RenderableType:
        if self._seen is None or self._now is None:
            return ""
        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="bold", min_width=len("frontier"))
        lines.add_column()
        counts = ", ".join(counts_text(self._now))
        if counts:
            lines.add_row("trials", Text(counts))
        lines.add_row("frontier", frontier_text(self._seen.points))
        for name in SHOWN:
            if name in self._seen.picks:
                lines.add_row(name, Text(gain_text(self._seen.picks[name], self._seen.score)))
        return Group(self._bar(self._now), lines)

    def _bar(self, now: Status) -> RenderableType:
        bar = Table.grid(padding=(0, 2))
        texts = [f"{now.done}/{now.budget}"]
        if now.seconds_left is not None:
            left = max(0.0, now.seconds_left - (time.monotonic() - self._at))
            texts.append(f"{time_text(left)} left")
        bar.add_row(
            Text("search", style="bold"),
            ProgressBar(total=max(now.budget, 1), completed=now.done, width=32),
            *texts,
        )
        return bar


class Terminal:
    """Trials as lines that scroll away, and the board below them."""

    pause_s = 0.5

    def __init__(self, live: Live, board: Board) -> None:
        self._live, self._board = live, board

    def trial(self, record: TrialRecord, done: int, total: int) -> None:
        """Print the trial's line above the board."""
        line = f"[{done}/{total}] {trial_line(record)}"
        self._live.console.print(line, markup=False, soft_wrap=True)

    def study(self, seen: View, now: Status) -> None:
        """Bring the board up to date."""
        self._board.update(seen, now)
        self._live.refresh()


class Log:
    """Lines for a file: enough to see it alive, few enough to read."""

    pause_s = 60.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = 0
        self._line_at = time.monotonic()

    def trial(self, record: TrialRecord, done: int, total: int) -> None:
        """Print the line of a trial that is one of the first, failed, the last, or long awaited."""
        now = time.monotonic()
        awaited = now - self._line_at >= LINE_PAUSE_S
        if self._lines < FIRST_LINES or awaited or record.reason is not None or done >= total:
            self._lines += 1
            self._line_at = now
            self._print(f"[{done}/{total}] {trial_line(record)}")

    def study(self, seen: View, now: Status) -> None:
        """Print how the study stands."""
        self._print(progress_line(seen, now))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)
