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

SHOWN = ("lossless", "knee")
"""Picks that are watched while a search runs."""

PICKED = ("gflops", "dense_gflops", "top1", "delta_top1", "delta_ci95", "kl", "feature")
"""Figures of a pick in JSON."""

IDLE_S = 30.0
"""Without any trial for so long, a search was not slow but stopped."""


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


def status(view: View, *, about_to: int = 0) -> Status:
    """How far a study is.

    Args:
        view: the study.
        about_to: trials that are begun as soon as this is said; they count as running.
    """
    states = Counter(trial.state for trial in view.trials)
    done, budget = states[TrialState.COMPLETE], view.study.plan.budget
    pace = _pace(view)
    running = states[TrialState.RUNNING]
    running += max(0, min(about_to, budget - done - running))
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
    parts = [f"{now.done} of {now.budget} trials", *counts_text(now)]
    if now.seconds_left is not None:
        parts.append(f"{time_text(now.seconds_left)} left")
    return ", ".join(parts)


def counts_text(now: Status) -> list[str]:
    """What became of the trials, and the pace of those that run: every part that is not zero."""
    parts = []
    for count, word in (
        (now.running, "running"),
        (now.queued, "queued"),
        (now.raced, "raced out"),
        (now.reused, "reused"),
        (now.failed, "failed"),
    ):
        if count:
            parts.append(f"{count} {word}")
    if now.running and now.images_per_second is not None:
        parts.append(f"{now.images_per_second:,.0f} images/s")
    return parts


def time_text(seconds: float) -> str:
    """Such as 1:02:03, or 2 days, 1:02:03."""
    return str(timedelta(seconds=round(seconds)))


def progress_line(seen: View, now: Status) -> str:
    """How a study stands, and its picks, in one line."""
    known = [(name, seen.picks[name]) for name in SHOWN if name in seen.picks]
    picks = [f"{name} {gain_text(point, seen.score)}" for name, point in known]
    return "; ".join([status_text(now), *picks])


def status_table(view: View) -> Table:
    """A line each for progress, the frontier and the picks."""
    name = escape(view.study.name)
    table = Table(title=name, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("progress", status_text(status(view)))
    table.add_row("frontier", frontier_text(view.points))
    for pick, point in view.picks.items():
        table.add_row(pick.replace("_", " "), pick_text(point, view.score))
    return table


def status_summary(view: View) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "study": view.study.name,
        **asdict(status(view)),
        "frontier": len(view.points),
        "picks": {name: _pick_values(point) for name, point in view.picks.items()},
    }


def frontier_text(points: Sequence[FrontierPoint]) -> str:
    """How many configurations a frontier has, and what they cost."""
    if not points:
        return "no finished trial yet"
    low, high = points[0].measurement.gflops, points[-1].measurement.gflops
    return f"{len(points)} configurations, {low:.4f} to {high:.4f} GFLOPs"


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


def gain_text(point: FrontierPoint, score: Score) -> str:
    """What a configuration saves and loses, short enough for a terminal of 80 columns."""
    m = point.measurement
    cost = f"{m.gflops:.4f} GFLOPs ({saving(m)})"
    return f"trial {point.number}: {cost}, {score.title} {score.text(m)}"


def _pick_values(point: FrontierPoint) -> dict[str, Any]:
    figures = point.measurement.figures()
    return {"trial": point.number, **{name: figures[name] for name in PICKED}}


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
    """The last finished trials, by their end, since the search last stood still."""
    finished = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.datetime_complete is not None
    ]
    last = sorted(finished, key=lambda trial: trial.datetime_complete or datetime.min)[-RECENT:]
    recent: list[FrozenTrial] = []
    begun = datetime.max
    for trial in reversed(last):
        ended = trial.datetime_complete or begun
        if recent and (begun - ended).total_seconds() > IDLE_S:
            break
        recent.append(trial)
        begun = min(begun, trial.datetime_start or ended)
    return recent[::-1]
