"""Trials as they come in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from atm_search.search.trials import TrialRecord
from atm_search.show.progress import progress_bar
from atm_search.show.tables import params_text, saving

OnTrial = Callable[[TrialRecord, int, int], None]
OnWait = Callable[[int, int, int], None]


@contextmanager
def trial_progress(
    console: Console,
    done: int,
    total: int,
    *,
    waiting: str = "Waiting for {running} trials of other workers",
) -> Iterator[tuple[OnTrial, OnWait]]:
    """A line per trial, and on a terminal a bar below them, as long as the block lasts.

    Args:
        console: where to show it.
        done: finished trials of the study at the beginning.
        total: trials in all.
        waiting: stands before the bar while there is nothing to do here.

    Yields:
        What a worker tells of finished trials, and of waiting for other workers.
    """
    with progress_bar(console) as bar:
        task = bar.add_task("Trials", completed=done, total=total)

        def on_trial(record: TrialRecord, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="Trials")
            bar.console.print(
                f"[{done}/{total}] {trial_line(record)}", markup=False, soft_wrap=True
            )

        def on_wait(running: int, done: int, total: int) -> None:
            description = waiting.format(running=running)
            bar.update(task, completed=done, total=total, description=description)

        yield on_trial, on_wait


def trial_line(record: TrialRecord) -> str:
    """What became of a trial, in one line."""
    start = f"trial {record.number}: {params_text(record.params)}"
    if record.lost:
        return f"{start} | its worker died or fell silent"
    if record.interrupted:
        return f"{start} | interrupted, queued again"
    measured = record.measurement
    if measured is None:
        return f"{start} | failed: {record.reason}"
    again = "" if record.reused_from is None else f" (as trial {record.reused_from})"
    return (
        f"{start} | top-1 {measured.top1:.2f} % ({measured.delta_top1:+.2f}), "
        f"{measured.gflops:.4f} GFLOPs ({saving(measured)}){again}"
    )
