"""Methods side by side, as a table and as plain values."""

from typing import Any

from rich.table import Table

from atm_search.search.compare import Comparison
from atm_search.search.frontier import FrontierPoint
from atm_search.search.scores import Score
from atm_search.show.tables import saving


def comparison_table(comparison: Comparison) -> Table:
    """A row per method: its best at each budget with the uncertainty, and its lossless cost."""
    dense, score = comparison.dense, comparison.score
    accuracy = f"top-1 {dense.top1:.2f} % at " if dense.has_labels else ""
    table = Table(
        title=f"{comparison.model} on {dense.images:,} images: dense {accuracy}"
        f"{dense.gflops:.4f} GFLOPs",
        title_justify="left",
        caption=_caption(comparison),
        caption_justify="left",
    )
    table.add_column("method")
    table.add_column("measured", justify="right")
    for budget in comparison.budgets:
        table.add_column(f"{score.title} at {budget:g} GFLOPs", justify="right")
    if score.is_accuracy:
        table.add_column("GFLOPs without loss", justify="right")
    for contender in comparison.contenders:
        table.add_row(
            contender.method,
            str(contender.measured),
            *(_quality(point, score) for point in contender.at),
            *([_cost(contender.lossless)] if score.is_accuracy else []),
        )
    return table


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    dense = comparison.dense
    return {
        "model": comparison.model,
        "dense": {
            "images": dense.images,
            "top1": dense.top1 if dense.has_labels else None,
            "gflops": dense.gflops,
        },
        "by": comparison.score.name,
        "at": list(comparison.budgets),
        "methods": [
            {
                "method": contender.method,
                "measured": contender.measured,
                "at": [_values(point) for point in contender.at],
                "lossless": _values(contender.lossless),
            }
            for contender in comparison.contenders
        ],
    }


def _quality(point: FrontierPoint | None, score: Score) -> str:
    if point is None:
        return "-"
    text = score.text(point.measurement)
    return f"{point.measurement.top1:.2f}\n{text}" if score.is_accuracy else text


def _cost(point: FrontierPoint | None) -> str:
    if point is None:
        return "-"
    measured = point.measurement
    low, high = measured.delta_ci95
    return f"{measured.gflops:.4f} ({saving(measured)})\n{low:+.2f} to {high:+.2f}"


def _caption(comparison: Comparison) -> str:
    score = comparison.score
    lines = [
        "Of each method the most accurate configuration within the cost, with its change against "
        "the dense model in percentage points and the 95 % interval (paired); and the cheapest "
        "that has lost nothing on these images."
        if score.is_accuracy
        else f"Of each method the configuration within the cost whose {score.title} from the dense "
        "model is the least, with its standard error; no labels say what that costs in accuracy.",
        "The best of many looks better than it is: confirm on other images.",
    ]
    found = comparison.last_block
    if len(found) > 1:
        lines.append(
            "Not alike: only prefix tokens go through the last block's MLP, lossless and worth "
            f"some 5 %, for {', '.join(found[True])}; not for {', '.join(found[False])}."
        )
    return " ".join(lines)


def _values(point: FrontierPoint | None) -> dict[str, Any] | None:
    if point is None:
        return None
    return {"trial": point.number, "params": dict(point.params), **point.measurement.figures()}
