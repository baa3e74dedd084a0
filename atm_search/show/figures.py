"""The frontier as a Plotly figure, and figures as files."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from atm_search.errors import InputError
from atm_search.measure.measurement import Measurement
from atm_search.search.frontier import FrontierPoint
from atm_search.search.scores import TOP1, Score
from atm_search.search.study_file import PublishedSection
from atm_search.search.trials import TrialRecord
from atm_search.show.picks import NAMES
from atm_search.show.tables import params_text, settings_text
from atm_search.show.view import View

PICTURE_FORMATS = (".png", ".svg", ".pdf")

BLUE, GREY, LIGHT, RED, GREEN, ORANGE = (
    "#2563eb",
    "#9ca3af",
    "#d1d5db",
    "#dc2626",
    "#16a34a",
    "#d97706",
)
RIVALS = ("#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#b45309", "#0f766e", "#a21caf", "#57534e")
AXES = {
    "top1": "top-1 (%)",
    "kl": "KL divergence from the dense model (nats)",
    "feature": "cosine distance of the feature from the dense model's",
}
"""Title of a score's axis."""


def frontier_figure(view: View) -> go.Figure:
    """The score against GFLOPs: every trial, the frontier with error bars, what it compares with.

    Bars of top-1 are 95 % intervals of the paired change, drawn around the point: how far it may
    really be from the dense line. Accuracies of other images, those of early-stopped trials and of
    published figures, are drawn at their own change from the dense line. Without labels the score
    is a distance from the dense model, downwards the better, and bars are its standard error.
    Where latency is an objective too, a second panel has it on its axis.
    """
    return _with_latency(view) if view.study.objectives.latency else _by_gflops(view)


def _by_gflops(view: View) -> go.Figure:
    figure = go.Figure()
    dense, published, score = view.study.dense, view.published, view.score
    if score.is_accuracy:
        _add_lossless(figure, view)
    _add_trials(figure, view)
    if published is not None:
        _add_published(figure, published, dense.top1)
    for (name, points), colour in zip(view.rivals.items(), RIVALS, strict=False):
        _add_line(figure, points, score, name=name, colour=colour)
    bars = "95 % interval" if score.is_accuracy else "standard error"
    _add_line(figure, view.points, score, name=f"frontier, {bars}", colour=BLUE, error=True)
    _add_confirmed(figure, view)
    _add_picks(figure, view)
    figure.add_scatter(
        x=[dense.gflops],
        y=[score.of_dense(dense)],
        text=["dense"],
        name="dense model",
        mode="markers",
        marker={"color": RED, "size": 12, "symbol": "star"},
        hovertemplate=_hover(score),
    )
    figure.add_hline(y=score.of_dense(dense), line={"color": RED, "width": 1, "dash": "dot"})
    figure.update_layout(
        title=f"{view.study.name}: {score.title} and compute on {dense.images:,} images",
        xaxis_title="GFLOPs per image (10<sup>9</sup> multiply-adds)",
        yaxis_title=AXES[score.name],
        yaxis_range=_range(view),
        template="plotly_white",
        legend={"orientation": "h", "y": -0.18},
        width=900,
        height=560,
        uirevision="zoom",  # a page that redraws keeps what its reader zoomed to
    )
    return figure


def _with_latency(view: View) -> go.Figure:
    """Two panels with one axis of accuracy: against GFLOPs, and against latency.

    Points of a frontier with three objectives lie behind each other in either panel, so no line
    joins them.
    """
    figure = _by_gflops(view)
    dense, score = view.study.dense, view.score
    figure.update_traces(mode="markers", selector={"mode": "lines+markers"})
    raced = {record.number for record in view.raced}
    timed = [
        (record.number, m, record.params)
        for record in view.records
        if (m := record.measurement) is not None and m.latency is not None
    ]
    best = [(point.number, point.measurement, point.params) for point in view.points]
    for name, rows, colour, symbol, size in (
        ("raced out", [row for row in timed if row[0] in raced], LIGHT, "x", 6),
        ("trials", [row for row in timed if row[0] not in raced], GREY, "circle", 6),
        ("frontier", best, BLUE, "circle", 8),
    ):
        figure.add_scatter(
            x=[m.latency_ms for _, m, _ in rows],
            y=[score.estimate(m, dense) for _, m, _ in rows],
            text=[f"{name}, trial {number}<br>{params_text(given)}" for number, _, given in rows],
            error_y=_intervals([m for _, m, _ in rows], score) if name == "frontier" else None,
            customdata=[number for number, _, _ in rows],
            mode="markers",
            marker={"color": colour, "size": size, "symbol": symbol},
            hovertemplate=_hover(score, "%{x:.2f} ms"),
            showlegend=False,
            xaxis="x2",
        )
    figure.add_scatter(
        x=[dense.latency_ms],
        y=[score.of_dense(dense)],
        text=["dense"],
        mode="markers",
        marker={"color": RED, "size": 12, "symbol": "star"},
        hovertemplate=_hover(score, "%{x:.2f} ms"),
        showlegend=False,
        xaxis="x2",
    )
    batch_size = view.study.identity.protocol["latency"]["batch_size"]
    figure.update_layout(
        xaxis={"domain": [0.0, 0.48]},
        xaxis2={"domain": [0.53, 1.0], "anchor": "y", "title": f"ms per batch of {batch_size}"},
        width=1200,
    )
    return figure


def write_figure(figure: go.Figure, path: Path, *, kind: str | None = None) -> None:
    """Write a figure as a page that needs no network (.html), or as a picture.

    Args:
        figure: what to write.
        path: the file.
        kind: such as svg; None goes by the file's name.

    Raises:
        InputError: the format is unknown, or needs the extra that is not installed.
    """
    suffix = path.suffix if kind is None else f".{kind}"
    if suffix == ".html":
        figure.write_html(path)
    elif suffix not in PICTURE_FORMATS:
        known = ", ".join((".html", *PICTURE_FORMATS))
        raise InputError(f"{path}: no format '{suffix}' for a figure. Use {known}.")
    elif importlib.util.find_spec("kaleido") is None:
        raise InputError(
            f"{path}: pictures need an extra, pip install 'atm-search[images]', and Chrome or "
            "Chromium. A .html file needs neither."
        )
    else:
        figure.write_image(path, format=suffix.removeprefix("."), scale=2)


def _add_lossless(figure: go.Figure, view: View) -> None:
    figure.add_hrect(
        y0=view.study.dense.top1,
        y1=100,
        fillcolor=GREEN,
        opacity=0.06,
        line_width=0,
        annotation_text="lossless",
        annotation_position="bottom left",
        annotation_font_color=GREEN,
    )


def _add_trials(figure: go.Figure, view: View) -> None:
    """What is measured, and apart from it what was stopped early or breaks a constraint."""
    raced = {record.number for record in view.raced}
    measured = [record for record in view.records if record.measurement is not None]
    full = [record for record in measured if record.number not in raced]
    groups = (
        ("raced out (estimate)", [r for r in measured if r.number in raced], LIGHT, "x"),
        ("breaks a constraint", [r for r in full if r.feasible is False], ORANGE, "circle-open"),
        ("trials", [r for r in full if r.feasible is not False], GREY, "circle"),
    )
    for name, records, colour, symbol in groups:
        if records or name == "trials":
            _add_markers(figure, records, view, name=name, colour=colour, symbol=symbol)


def _add_markers(
    figure: go.Figure,
    records: Sequence[TrialRecord],
    view: View,
    *,
    name: str,
    colour: str,
    symbol: str,
) -> None:
    pairs = [(record, m) for record in records if (m := record.measurement) is not None]
    score, dense = view.score, view.study.dense
    figure.add_scatter(
        x=[m.gflops for _, m in pairs],
        y=[score.estimate(m, dense) for _, m in pairs],
        text=[f"trial {r.number}, {m.images:,} images<br>{settings_text(r)}" for r, m in pairs],
        customdata=[record.number for record, _ in pairs],
        name=name,
        mode="markers",
        marker={
            "color": colour,
            "size": 6,
            "opacity": 0.7,
            "symbol": symbol,
            "line": {"color": colour, "width": 1},
        },
        hovertemplate=_hover(score),
    )


def _add_published(figure: go.Figure, published: PublishedSection, top1: float) -> None:
    """Published points at their own change from their own dense model."""
    points = sorted(published.points, key=lambda point: point.gflops)
    figure.add_scatter(
        x=[point.gflops for point in points],
        y=[top1 + point.top1 - published.dense.top1 for point in points],
        text=[f"published: top-1 {p.top1:.2f} %<br>{params_text(p.params)}" for p in points],
        name=f"published change ({published.source})",
        mode="lines+markers",
        line={"color": "#111827", "width": 1, "dash": "dash"},
        marker={"size": 5, "symbol": "diamond"},
        hovertemplate=_hover(TOP1),
    )


def _add_line(
    figure: go.Figure,
    points: Sequence[FrontierPoint],
    score: Score,
    *,
    name: str,
    colour: str,
    error: bool = False,
) -> None:
    measured = [point.measurement for point in points]
    figure.add_scatter(
        x=[m.gflops for m in measured],
        y=[score.of(m) for m in measured],
        error_y=_intervals(measured, score) if error else None,
        text=[f"{name.split(',')[0]}, trial {p.number}<br>{settings_text(p)}" for p in points],
        # Only of this study: others' numbers are not for a click.
        customdata=[point.number for point in points] if error else None,
        name=name,
        mode="lines+markers",
        line={"color": colour, "shape": "hv", "width": 1.5},
        marker={"size": 8 if error else 6},
        hovertemplate=_hover(score),
    )


def _add_confirmed(figure: go.Figure, view: View) -> None:
    """Confirmed points, at their own change from the dense line; none if nothing is confirmed."""
    pairs = [(point, c.measurement) for point in view.points if (c := point.confirmation)]
    if not pairs:
        return
    score = view.score
    figure.add_scatter(
        x=[m.gflops for _, m in pairs],
        y=[score.of_dense(view.study.dense) + score.change(m) for _, m in pairs],
        error_y=_intervals([m for _, m in pairs], score),
        text=[
            f"confirmed on {m.images:,} others, trial {p.number}<br>{settings_text(p)}"
            for p, m in pairs
        ],
        customdata=[point.number for point, _ in pairs],
        name="confirmed change, other images",
        mode="markers",
        marker={"color": ORANGE, "size": 8, "symbol": "diamond-open"},
        hovertemplate=_hover(score),
    )


def _intervals(measured: Sequence[Measurement], score: Score) -> dict[str, Any]:
    """Error bars."""
    bars = [score.bars(m) for m in measured]
    return {
        "type": "data",
        "symmetric": False,
        "array": [above for _, above in bars],
        "arrayminus": [below for below, _ in bars],
        "thickness": 1,
        "width": 3,
    }


def _add_picks(figure: go.Figure, view: View) -> None:
    """Rings around the picks, with their names."""
    by_number: dict[int, list[str]] = {}
    for name, point in view.picks.items():
        by_number.setdefault(point.number, []).append(name.replace("_", " "))
    points = {point.number: point for point in view.points}
    chosen = [points[number].measurement for number in by_number]
    figure.add_scatter(
        x=[m.gflops for m in chosen],
        y=[view.score.of(m) for m in chosen],
        text=[" and ".join(names) for names in by_number.values()],
        textposition="top left",
        textfont={"color": BLUE, "size": 11},
        name=", ".join(NAMES).replace("_", " "),
        mode="markers+text",
        marker={"size": 15, "color": "rgba(0,0,0,0)", "line": {"color": BLUE, "width": 1.5}},
        hoverinfo="skip",
        showlegend=False,
    )


def _hover(score: Score, cost: str = "%{x:.4f} GFLOPs") -> str:
    unit = " %" if score.is_accuracy else f" {score.unit}".rstrip()
    value = f"{score.title} %{{y:.{score.digits}f}}{unit}"
    return f"%{{text}}<br>{cost}, {value}<extra></extra>"


def _range(view: View) -> list[float]:
    """From just below the frontier to just above it: useless trials far off are cut off."""
    score, dense = view.score, view.score.of_dense(view.study.dense)
    ends = [dense - 1, dense + 0.5] if score.is_accuracy else [dense]
    for point in view.points:
        confirmed = [] if point.confirmation is None else [point.confirmation.measurement]
        for measured in (point.measurement, *confirmed):
            value = dense + score.change(measured)
            below, above = score.bars(measured)
            ends += [value - below, value + above]
    low, high = min(ends), max(ends)
    margin = 0.05 * ((high - low) or 1.0)
    return [low - margin, high + margin]
