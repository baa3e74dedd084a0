"""A study's page: the same for the dashboard, where it keeps itself up to date, and for a report.

What the page shows is one JSON value; `static/page.js` draws it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from atm_search.show.charts import (
    fidelity_figure,
    hypervolume_figure,
    importance_figure,
    thresholds_figure,
    thresholds_of,
    tokens_figure,
)
from atm_search.show.figures import frontier_figure
from atm_search.show.frontier import frontier_summary, param_columns
from atm_search.show.importance import importance
from atm_search.show.note import caveats, commands, note, provenance
from atm_search.show.tables import settings_text
from atm_search.show.view import View

STATIC = Path(__file__).with_name("static")


def figures(view: View, *, history: Sequence[float]) -> dict[str, go.Figure]:
    """Every figure of a study by name; those that there is nothing for yet are left out.

    Args:
        view: the study.
        history: hypervolume after every finished trial, which takes a while to compute.
    """
    found: dict[str, go.Figure | None] = {"frontier": frontier_figure(view)}
    if view.points:
        found["fidelity"] = fidelity_figure(view)
        found["tokens"] = tokens_figure(view)
        found["thresholds"] = thresholds_figure(view)
        found["hypervolume"] = hypervolume_figure(
            history, view.score.unit, latency=view.study.objectives.latency
        )
    shares = importance(view.study)
    if shares:
        found["importance"] = importance_figure(shares)
    return {name: figure for name, figure in found.items() if figure is not None}


def page_data(view: View) -> str:
    """All that a page shows, as JSON; its frontier is that of `frontier --json`."""
    summary = frontier_summary(view.study, view.records)
    names: dict[int, list[str]] = {}
    for name, point in view.picks.items():
        names.setdefault(point.number, []).append(name.replace("_", " "))
    for row, point in zip(summary["frontier"], view.points, strict=True):
        row["settings"] = settings_text(point)
        row["pick"] = ", ".join(names.get(row["trial"], []))
        thresholds = thresholds_of(row["method"], row["params"], row["tokens_per_layer"])
        row["thresholds"] = thresholds
    content: dict[str, Any] = {
        "study": view.study.name,
        "note": note(view),
        "caveats": caveats(view),
        "provenance": provenance(view.study, view),
        "commands": commands(view),
        "summary": summary,
        "columns": param_columns(view.points),
    }
    drawn = ", ".join(
        f"{json.dumps(name)}: {to_json(figure, validate=False)}"
        for name, figure in figures(view, history=summary["hypervolume_history"]).items()
    )
    return f'{json.dumps(content)[:-1]}, "figures": {{{drawn}}}}}'


def report_page(view: View, pictures: Mapping[int, str] | None = None) -> str:
    """One HTML file with all of it, which needs no network to open.

    Args:
        view: the study.
        pictures: token pictures as data URLs, by trial.
    """
    data = page_data(view)
    data = f'{data[:-1]}, "pictures": {json.dumps(pictures or {})}}}'
    # "</" would end the script element early; with a backslash it is the same text in JSON.
    data = data.replace("</", "<\\/")
    page = (STATIC / "page.html").read_text(encoding="utf-8")
    script = (STATIC / "page.js").read_text(encoding="utf-8")
    for place, content in (
        (
            '<link rel="stylesheet" href="/frontier/page.css">',
            f"<style>{(STATIC / 'page.css').read_text(encoding='utf-8')}</style>",
        ),
        (
            '<script src="/frontier/plotly.min.js"></script>',
            f"<script>{get_plotlyjs()}</script>",
        ),
        (
            '<script src="/frontier/page.js"></script>',
            f'<script type="application/json" id="data">{data}</script><script>{script}</script>',
        ),
    ):
        assert place in page
        page = page.replace(place, content)
    return page
