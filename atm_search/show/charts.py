"""Figures beside the frontier: progress, importance, tokens and thresholds over depth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from atm_search.errors import ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.registry import build
from atm_search.search.frontier import FrontierPoint, measured_points
from atm_search.show.figures import BLUE, GREEN, GREY, ORANGE
from atm_search.show.view import View

MOST_LINES = 12
"""Frontier points drawn over depth: more lines than that cannot be told apart."""

FIT_STEPS = 20
"""Of the prediction's band, from 0 to the largest KL."""

WIDTH, HEIGHT = 560, 380


def hypervolume_figure(
    history: Sequence[float], unit: str = "points", *, latency: bool = False
) -> go.Figure:
    """Hypervolume of the frontier after every finished trial; flat means nothing is gained.

    Args:
        history: from `hypervolume_history`.
        unit: of the score that the frontier is of.
        latency: whether the frontier has milliseconds too.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=list(range(1, len(history) + 1)),
        y=history,
        mode="lines",
        line={"color": BLUE, "shape": "hv"},
        hovertemplate="after %{x} trials: %{y:.4f}<extra></extra>",
    )
    return _laid_out(
        figure,
        "Hypervolume",
        "finished trials",
        f"{unit} x GFLOPs".removeprefix(" x ") + (" x ms" if latency else ""),
    )


def importance_figure(importance: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """How much each parameter matters for each objective, from `importance`."""
    figure = go.Figure()
    for (objective, shares), colour in zip(importance.items(), (BLUE, GREEN, ORANGE), strict=False):
        figure.add_bar(
            y=list(shares),
            x=list(shares.values()),
            name=objective,
            orientation="h",
            marker_color=colour,
            hovertemplate="%{y}: %{x:.2f} of " + objective + "<extra></extra>",
        )
    figure.update_layout(showlegend=True, barmode="group")
    return _laid_out(figure, "Parameter importance (PED-ANOVA)", "share", None)


def fidelity_figure(view: View) -> go.Figure | None:
    """Change of top-1 over KL of what is measured in full, the fit, and what it can predict.

    None without labels, or of too few configurations.
    """
    found, images = view.relation, view.study.dense.images
    if found is None:
        return None
    points = measured_points(view.records, view.study.dense)
    figure = go.Figure()
    figure.add_scatter(
        x=[point.measurement.distance for point in points],
        y=[point.measurement.delta_top1 for point in points],
        customdata=[point.number for point in points],
        mode="markers",
        marker={"color": GREY, "size": 6},
        name="measured in full",
        hovertemplate="trial %{customdata}: KL %{x:.4f}, %{y:+.2f} points<extra></extra>",
    )
    kl = [found.largest_kl * step / FIT_STEPS for step in range(FIT_STEPS + 1)]
    first = points[0].measurement
    full = [replace(first, images=images, kl=value, kl_se=0.0) for value in kl]
    band = [predicted.ci95 for m in full if (predicted := found.predict(m, images)) is not None]
    if band:
        figure.add_scatter(
            x=[*kl, *reversed(kl)],
            y=[*(high for _, high in band), *(low for low, _ in reversed(band))],
            fill="toself",
            fillcolor="rgba(37, 99, 235, 0.12)",
            line={"width": 0},
            name="95 % prediction interval",
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[0.0, found.largest_kl],
        y=[0.0, found.slope * found.largest_kl],
        mode="lines",
        line={"color": BLUE, "dash": "dot" if found.is_weak else "solid"},
        name="fit, too weak to trust" if found.is_weak else "fit",
        hoverinfo="skip",
    )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.25})
    title = f"KL and top-1, rank correlation {found.rank_correlation:+.2f}"
    return _laid_out(figure, title, "KL from the dense model (nats)", "change of top-1 (points)")


def tokens_figure(view: View) -> go.Figure:
    """Mean tokens that enter each block's MLP, a line per frontier point (the paper's Figure 6)."""
    figure = go.Figure()
    for point, colour in _coloured(view.points):
        tokens = point.measurement.tokens_per_layer
        _add_depth_line(figure, point, tokens, colour, "%{y:.1f} tokens")
    return _laid_out(figure, "Tokens per block of the frontier", "block", "tokens")


def thresholds_figure(view: View) -> go.Figure | None:
    """Similarity threshold of every block, a line per frontier point; None without thresholds."""
    figure = go.Figure()
    for point, colour in _coloured(view.points):
        thresholds = thresholds_of(point.method, point.params, point.measurement.tokens_per_layer)
        if thresholds is not None:
            _add_depth_line(figure, point, thresholds, colour, "threshold %{y:.3f}")
    if not figure.data:
        return None
    return _laid_out(figure, "Thresholds of the frontier", "block", "cosine similarity")


def thresholds_of(
    method: str, params: Mapping[str, object], blocks: Sequence[object]
) -> tuple[float, ...] | None:
    """Threshold of every block; None of a method that has none, or is not installed here."""
    try:
        built = build(method, params)
    except ParameterError:
        return None
    return built.thresholds(len(blocks)) if isinstance(built, Atm) else None


def _coloured(points: Sequence[FrontierPoint]) -> Iterator[tuple[FrontierPoint, str]]:
    """Up to MOST_LINES points, evenly spread over the frontier, dark the cheapest."""
    count = min(MOST_LINES, len(points))
    last = max(count - 1, 1)
    for place in range(count):
        colour = sample_colorscale("Viridis", [0.9 * place / last])[0]
        yield points[round(place * (len(points) - 1) / last)], colour


def _add_depth_line(
    figure: go.Figure, point: FrontierPoint, values: Sequence[float], colour: str, hover: str
) -> None:
    figure.add_scatter(
        x=list(range(1, len(values) + 1)),
        y=list(values),
        name=f"{point.measurement.gflops:.3f} G",
        customdata=[point.number] * len(values),
        mode="lines+markers",
        line={"color": colour, "width": 1.5},
        marker={"size": 4},
        hovertemplate=f"trial {point.number}, block %{{x}}: {hover}<extra></extra>",
    )
    figure.update_layout(showlegend=True)


def _laid_out(figure: go.Figure, title: str, x: str, y: str | None) -> go.Figure:
    figure.update_layout(
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        yaxis_automargin=True,
        template="plotly_white",
        width=WIDTH,
        height=HEIGHT,
        margin={"t": 50, "b": 50, "l": 60, "r": 20},
        uirevision="zoom",
    )
    return figure
