"""Plotly figures."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import plotly.graph_objects as go

from atm_search.errors import InputError
from atm_search.search.dense import Dense
from atm_search.search.frontier import FrontierPoint
from atm_search.search.trials import TrialRecord
from atm_search.show.tables import params_text

PICTURE_FORMATS = (".png", ".svg", ".pdf")

BLUE, GREY, LIGHT_GREY, RED = "#2563eb", "#9ca3af", "#d1d5db", "#dc2626"


def frontier_figure(
    name: str, dense: Dense, records: Iterable[TrialRecord], points: Sequence[FrontierPoint]
) -> go.Figure:
    """Accuracy against GFLOPs: every trial, the frontier with intervals, the dense model.

    The intervals are those of the paired change, drawn around the point: how far it may really be
    from the dense line.
    """
    others = [record for record in records if record.measurement is not None]
    raced = [record for record in others if record.raced]
    figure = go.Figure()
    if raced:
        _add_trials(figure, raced, dense, name="raced out (estimates)", color=LIGHT_GREY)
    full = [record for record in others if not record.raced]
    _add_trials(figure, full, dense, name="trials", color=GREY)
    measured = [point.measurement for point in points]
    figure.add_scatter(
        x=[m.gflops for m in measured],
        y=[m.top1 for m in measured],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [m.delta_ci95[1] - m.delta_top1 for m in measured],
            "arrayminus": [m.delta_top1 - m.delta_ci95[0] for m in measured],
            "thickness": 1,
            "width": 3,
        },
        text=[f"trial {point.number}<br>{params_text(point.params)}" for point in points],
        name="frontier (95 % interval of the change)",
        mode="lines+markers",
        line={"color": BLUE, "shape": "hv", "width": 1.5},
        marker={"size": 8},
        hovertemplate="%{text}<br>%{x:.4f} GFLOPs, top-1 %{y:.2f} %<extra></extra>",
    )
    figure.add_scatter(
        x=[dense.gflops],
        y=[dense.top1],
        name="dense model",
        mode="markers",
        marker={"color": RED, "size": 11, "symbol": "star"},
        hovertemplate="dense<br>%{x:.4f} GFLOPs, top-1 %{y:.2f} %<extra></extra>",
    )
    figure.add_hline(y=dense.top1, line={"color": RED, "width": 1, "dash": "dot"})
    figure.update_layout(
        title=f"{name}: accuracy and compute on {dense.images:,} images",
        xaxis_title="GFLOPs per image (10<sup>9</sup> multiply-adds)",
        yaxis_title="top-1 (%)",
        template="plotly_white",
        legend={"orientation": "h", "y": -0.18},
        width=900,
        height=560,
    )
    return figure


def _add_trials(
    figure: go.Figure, records: Sequence[TrialRecord], dense: Dense, *, name: str, color: str
) -> None:
    """A dot per trial; of a partial measurement where the paired change puts it."""
    measured = [record.measurement for record in records if record.measurement is not None]
    figure.add_scatter(
        x=[m.gflops for m in measured],
        y=[m.top1 if m.images == dense.images else dense.top1 + m.delta_top1 for m in measured],
        text=[f"trial {record.number}<br>{params_text(record.params)}" for record in records],
        name=name,
        mode="markers",
        marker={"color": color, "size": 6, "opacity": 0.6},
        hovertemplate="%{text}<br>%{x:.4f} GFLOPs, top-1 %{y:.2f} %<extra></extra>",
    )


def write_figure(figure: go.Figure, path: Path) -> None:
    """Write a figure as a page that needs no network (.html), or as a picture.

    Raises:
        InputError: the format is unknown, or needs the extra that is not installed.
    """
    if path.suffix == ".html":
        figure.write_html(path)
    elif path.suffix not in PICTURE_FORMATS:
        known = ", ".join((".html", *PICTURE_FORMATS))
        raise InputError(f"{path}: no format '{path.suffix}' for a figure. Use {known}.")
    elif importlib.util.find_spec("kaleido") is None:
        raise InputError(
            f"{path}: pictures need an extra, pip install 'atm-search[images]', and Chrome or "
            "Chromium. A .html file needs neither."
        )
    else:
        figure.write_image(path, scale=2)
