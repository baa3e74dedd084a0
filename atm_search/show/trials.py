"""Trials and their rules in words."""

from collections.abc import Mapping
from typing import Any

from atm_search.measure.measurement import Measurement
from atm_search.search.scores import FEATURE, KL
from atm_search.search.trials import TrialRecord
from atm_search.search.warm_start import WarmStart
from atm_search.show.tables import saving, settings_text


def warm_start_text(known: WarmStart, queued: int) -> str:
    """What a new search begins with."""
    notes = [f"{queued} of {len(known.points) + known.outside} configurations {known.source}"]
    if known.moved:
        notes.append(f"{known.moved} are not on the grid and were moved to it")
    if known.outside:
        notes.append(f"{known.outside} lie outside of what is searched")
    return f"Queued   {'; '.join(notes)} (not with --no-warm-start)"


def trial_line(record: TrialRecord) -> str:
    """What became of a trial, in one line."""
    start = f"trial {record.number}: {settings_text(record)}"
    if record.lost:
        return f"{start} | its worker died or fell silent"
    if record.interrupted:
        return f"{start} | interrupted, queued again"
    measured = record.measurement
    if measured is None:
        return f"{start} | failed: {record.reason}"
    figures = (
        f"{start} | {_quality(measured)}{_distance(measured)}, "
        f"{measured.gflops:.4f} GFLOPs ({saving(measured)})"
        + ("" if measured.latency is None else f", {measured.latency_ms:.2f} ms")
    )
    if record.reused_from is not None:
        return f"{figures} (as trial {record.reused_from})"
    if record.raced:
        lost = f"{measured.images:,} images, dominated by trial {record.stopped_by}"
        return f"{figures}, raced out after {lost}"
    return figures


def _quality(measured: Measurement) -> str:
    if not measured.has_labels:
        return ""
    return f"top-1 {measured.top1:.2f} % ({measured.delta_top1:+.2f}), "


def _distance(measured: Measurement) -> str:
    score = KL if measured.has_head else FEATURE
    return f"{score.title} {measured.distance:.{score.digits}f}"


def racing_text(racing: Mapping[str, Any]) -> str:
    """A study's race rules in words."""
    if racing["on"] == "off":
        return "off: every trial takes all images"
    margin = f", margin {racing['margin']:g}" if racing["margin"] else ""
    return f"on {racing['on']}, delta {racing['delta']:g}{margin}"
