"""A confirmed frontier as a table and as plain values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from atm_search.search.confirmation import Bias, ConfirmedPoint, still_best
from atm_search.search.study import Study
from atm_search.show.tables import change_text


def confirmation_table(study: Study, points: Sequence[ConfirmedPoint]) -> Table:
    """A row per frontier point, its search beside its confirmation, and one for the dense model.

    Args:
        study: whose frontier it is.
        points: from `confirm`, one at least.
    """
    first = points[0].confirmation
    images = f"{study.dense.images:,} images of the search, {first.measurement.images:,} others"
    table = Table(
        title=escape(f"Frontier of {study.name}, {images} ({first.source})"),
        title_justify="left",
        caption=_caption(study, points),
        caption_justify="left",
    )
    for heading in (
        "GFLOPs",
        "confirmed",
        "change of top-1",
        "confirmed",
        "top-1",
        "confirmed",
        "trial",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    best = still_best(points, latency=study.objectives.latency)
    for item in points:
        search, other = item.point.measurement, item.confirmation.measurement
        table.add_row(
            f"{search.gflops:.4f}",
            f"{other.gflops:.4f}",
            change_text(search),
            change_text(other),
            f"{search.top1:.2f}",
            f"{other.top1:.2f}{'' if item.point.number in best else ' -'}",
            str(item.point.number),
        )
    table.add_section()
    dense = points[0].confirmation.measurement
    table.add_row(
        f"{study.dense.gflops:.4f}",
        f"{dense.dense_gflops:.4f}",
        "",
        "",
        f"{study.dense.top1:.2f}",
        f"{dense.dense_top1:.2f}",
        "dense",
    )
    return table


def confirmation_summary(study: Study, points: Sequence[ConfirmedPoint]) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    first = points[0].confirmation
    other, bias = first.measurement, Bias.of(points)
    best = still_best(points, latency=study.objectives.latency)
    return {
        "study": study.name,
        "images": {
            "count": other.images,
            "shard_digest": first.shard_digest,
            "source": first.source,
        },
        "dense": {
            "search": {"images": study.dense.images, "top1": study.dense.top1},
            "confirmed": {"images": other.images, "top1": other.dense_top1},
        },
        "bias": asdict(bias)
        | {"top1_ci95": [bias.top1 - bias.half_width, bias.top1 + bias.half_width]},
        "points": [
            {
                "trial": item.point.number,
                "method": item.point.method,
                "params": dict(item.point.params),
                "search": item.point.measurement.figures(),
                "confirmed": item.confirmation.measurement.figures(),
                "bias": item.bias,
                "on_confirmed_frontier": item.point.number in best,
            }
            for item in points
        ],
    }


def _caption(study: Study, points: Sequence[ConfirmedPoint]) -> str:
    bias = Bias.of(points)
    low, high = bias.top1 - bias.half_width, bias.top1 + bias.half_width
    lines = [
        "Changes against the dense model on the same images, in percentage points, with their 95 % "
        "interval (paired).",
        f"On average the search flatters the change of top-1 by {bias.top1:+.2f} points (95 % "
        f"interval at most {low:+.2f} to {high:+.2f}); the other images cost {bias.gflops:+.2f} % "
        "GFLOPs.",
    ]
    if len(still_best(points, latency=study.objectives.latency)) < len(points):
        lines.append("A minus marks what another point beats in both on the other images.")
    return " ".join(lines)
