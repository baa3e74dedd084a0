"""A confirmed frontier as a table and as plain values."""

import math
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from atm_search.search.confirmation import Bias, ConfirmedPoint, still_best
from atm_search.search.study import Study


def confirmation_table(study: Study, points: Sequence[ConfirmedPoint]) -> Table:
    """A row per frontier point, its search beside its confirmation, and one for the dense model.

    Args:
        study: whose frontier it is.
        points: from `confirm`, one at least.
    """
    first, score = points[0].confirmation, points[0].score
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
        f"change of {score.title}" if score.is_accuracy else score.title,
        "confirmed",
        *(("top-1", "confirmed") if score.is_accuracy else ()),
        "trial",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    best = still_best(points, latency=study.objectives.latency)
    for item in points:
        search, other = item.point.measurement, item.confirmation.measurement
        table.add_row(
            f"{search.gflops:.4f}",
            f"{other.gflops:.4f}",
            score.text(search),
            score.text(other),
            *((f"{search.top1:.2f}", f"{other.top1:.2f}") if score.is_accuracy else ()),
            f"{item.point.number}{'' if item.point.number in best else ' -'}",
        )
    table.add_section()
    dense = points[0].confirmation.measurement
    table.add_row(
        f"{study.dense.gflops:.4f}",
        f"{dense.dense_gflops:.4f}",
        "",
        "",
        *((f"{study.dense.top1:.2f}", f"{dense.dense_top1:.2f}") if score.is_accuracy else ()),
        "dense",
    )
    return table


def confirmation_summary(study: Study, points: Sequence[ConfirmedPoint]) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    first = points[0].confirmation
    other = first.measurement
    best = still_best(points, latency=study.objectives.latency)
    return {
        "study": study.name,
        "images": {
            "count": other.images,
            "shard_digest": first.shard_digest,
            "source": first.source,
        },
        "dense": {
            "search": {"images": study.dense.images, "top1": _or_none(study.dense.top1)},
            "confirmed": {"images": other.images, "top1": _or_none(other.dense_top1)},
        },
        "bias": _bias(points),
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


def _bias(points: Sequence[ConfirmedPoint]) -> dict[str, Any]:
    """By the name of the score, such as top1, and top1_ci95."""
    bias, name = Bias.of(points), points[0].score.name
    interval = [bias.mean - bias.half_width, bias.mean + bias.half_width]
    return {
        name: bias.mean,
        "half_width": bias.half_width,
        "gflops": bias.gflops,
        f"{name}_ci95": interval,
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _caption(study: Study, points: Sequence[ConfirmedPoint]) -> str:
    bias, score = Bias.of(points), points[0].score
    what = "the change of top-1" if score.is_accuracy else score.title
    ends = (bias.mean, bias.mean - bias.half_width, bias.mean + bias.half_width)
    mean, low, high = (f"{value:+.{score.digits}f}" for value in ends)
    lines = [
        "Changes against the dense model on the same images, in percentage points, with their 95 % "
        "interval (paired)."
        if score.is_accuracy
        else f"{score.title[0].upper()}{score.title[1:]} from the dense model on the same images, "
        "with its standard error.",
        f"On average the search flatters {what} by {' '.join(filter(None, (mean, score.unit)))} "
        f"(95 % interval at most {low} to {high}); the other images cost {bias.gflops:+.2f} % "
        "GFLOPs.",
    ]
    if len(still_best(points, latency=study.objectives.latency)) < len(points):
        lines.append("A minus marks what another point beats in both on the other images.")
    return " ".join(lines)
