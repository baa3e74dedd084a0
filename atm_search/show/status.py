"""How far a search is: counts, pace, and time left."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.markup import escape
from rich.table import Table

from atm_search.search.frontier import FrontierPoint
from atm_search.search.scores import Score
from atm_search.show.tables import saving, settings_text
from atm_search.show.view import View

RECENT = 20
"""Finished trials that the pace is taken from."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Trials of a study by what became of them; pace and time left of what is going on."""

    done: int
    """Finished, raced and reused ones included: what the budget counts."""
    budget: int
    running: int
    queued: int
    raced: int
    """Stopped early, because others are surely better."""
    reused: int
    """Finished at no cost: their configuration was measured before."""
    failed: int
    images_per_second: float | None
    """Of all workers together, over the last trials; None while there are too few."""
    seconds_left: float | None
    """At the pace of the last trials; None if nothing runs."""


def status(view: View) -> Status:
    """How far a study is."""
    states = Counter(trial.state for trial in view.trials)
    done, budget = states[TrialState.COMPLETE], view.study.plan.budget
    pace = _pace(view)
    running = states[TrialState.RUNNING]
    return Status(
        done=done,
        budget=budget,
        running=running,
        queued=states[TrialState.WAITING],
        raced=len(view.raced),
        reused=sum(record.measured and record.reused_from is not None for record in view.records),
        failed=sum(record.reason is not None for record in view.records),
        images_per_second=None if pace is None else pace[1],
        seconds_left=(budget - done) / pace[0] if pace and running and budget > done else None,
    )


def status_text(now: Status) -> str:
    """The same in one line."""
    parts = [f"{now.done} of {now.budget} trials"]
    for count, word in (
        (now.running, "running"),
        (now.queued, "queued"),
        (now.raced, "raced out"),
        (now.reused, "reused"),
        (now.failed, "failed"),
    ):
        if count:
            parts.append(f"{count} {word}")
    if now.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(now.seconds_left))} left")
    if now.running and now.images_per_second is not None:
        parts.append(f"{now.images_per_second:,.0f} images/s")
    return ", ".join(parts)


def status_table(view: View) -> Table:
    """A line each for progress and the picks."""
    name = escape(view.study.name)
    table = Table(title=name, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("progress", status_text(status(view)))
    for pick, point in view.picks.items():
        table.add_row(pick, pick_text(point, view.score))
    if not view.points:
        table.add_row("frontier", "no finished trial yet")
    return table


def status_summary(view: View) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "study": view.study.name,
        **asdict(status(view)),
        "picks": {name: point.number for name, point in view.picks.items()},
    }


def pick_text(point: FrontierPoint, score: Score) -> str:
    """A configuration and what it gives, in one line."""
    m = point.measurement
    quality = f"{score.title} {score.text(m)} {score.unit}".rstrip()
    if score.is_accuracy:
        low, high = m.delta_ci95
        quality = f"top-1 {m.top1:.2f} % ({m.delta_top1:+.2f}, {low:+.2f} to {high:+.2f})"
    if point.confirmation is not None:
        quality += f", confirmed {score.text(point.confirmation.measurement)}"
    return (
        f"trial {point.number}: {m.gflops:.4f} GFLOPs ({saving(m)}), {quality}, "
        f"{settings_text(point)}"
    )


def _pace(view: View) -> tuple[float, float] | None:
    """Trials and images per second over the last measured trials; None of fewer than three."""
    last = _recent(view.trials)
    if len(last) < 3:
        return None
    times = [trial.datetime_complete for trial in last if trial.datetime_complete is not None]
    seconds = max((times[-1] - times[0]).total_seconds(), 1e-3)
    records = {record.number: record for record in view.records}
    images = sum(
        record.measurement.images
        for trial in last[1:]
        if (record := records[trial.number]).measurement and record.reused_from is None
    )
    return (len(last) - 1) / seconds, images / seconds


def _recent(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    finished = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.datetime_complete is not None
    ]
    return sorted(finished, key=lambda trial: trial.datetime_complete or datetime.min)[-RECENT:]
