"""Progress of long work: a bar on a terminal, now and then a plain line elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 10.0
"""Between plain lines: a log should show life, not every step."""

Step = Callable[[int, int], None]
"""Told after every step: steps done, steps in all."""


@contextmanager
def progress(console: Console, description: str) -> Iterator[Step]:
    """Show how far some work is, as long as the block lasts.

    Yields:
        The function to tell steps done and steps in all.
    """
    if console.is_terminal:
        with progress_bar(console, transient=True) as bar:
            task = bar.add_task(description, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def step(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_INTERVAL_S:
            last = time.monotonic()
            console.print(f"{description}: {done:,} of {total:,}")

    yield step


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """A bar with steps done and time left; nothing where there is no terminal.

    Args:
        console: where to show it.
        transient: leave nothing behind at the end.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=transient, disable=not console.is_terminal)
