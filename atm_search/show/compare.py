"""Methods side by side, as a table and as plain values."""

from typing import Any

from rich.table import Table

from atm_search.search.compare import Comparison, Priced
from atm_search.search.dense import Dense
from atm_search.search.scores import Score

LAST_BLOCK = {True: "class token", False: "all tokens", None: "as measured"}
"""What goes through the MLP of the last block."""


def comparison_table(comparison: Comparison) -> Table:
    """A row per method: its best at each budget with the uncertainty, and its lossless cost.

    Twice, if GFLOPs can be counted with and without all tokens in the last block.
    """
    dense, score = comparison.dense, comparison.score
    accuracy = f"top-1 {dense.top1:.2f} % at " if dense.has_labels else ""
    table = Table(
        title=f"{comparison.model} on {dense.images:,} images: dense {accuracy}"
        f"{dense.gflops:.4f} GFLOPs",
        title_justify="left",
        caption=_caption(comparison),
        caption_justify="left",
    )
    table.add_column("last block")
    table.add_column("method")
    table.add_column("measured", justify="right")
    for budget in comparison.budgets:
        table.add_column(f"{score.title} at {budget:g} GFLOPs", justify="right")
    if score.is_accuracy:
        table.add_column("GFLOPs without loss", justify="right")
    for index, contender in enumerate(comparison.contenders):
        if index and contender.prefix_only != comparison.contenders[index - 1].prefix_only:
            table.add_section()
        table.add_row(
            LAST_BLOCK[contender.prefix_only],
            contender.method,
            str(contender.measured),
            *(_quality(point, score) for point in contender.at),
            *([_cost(contender.lossless, dense)] if score.is_accuracy else []),
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
                "last_block": LAST_BLOCK[contender.prefix_only],
                "measured": contender.measured,
                "at": [_values(point) for point in contender.at],
                "lossless": _values(contender.lossless),
            }
            for contender in comparison.contenders
        ],
    }


def _quality(priced: Priced | None, score: Score) -> str:
    if priced is None:
        return "-"
    measured = priced.point.measurement
    text = score.text(measured)
    return f"{measured.top1:.2f}\n{text}" if score.is_accuracy else text


def _cost(priced: Priced | None, dense: Dense) -> str:
    if priced is None:
        return "-"
    low, high = priced.point.measurement.delta_ci95
    saved = 100.0 * (priced.gflops / dense.gflops - 1.0)
    return f"{priced.gflops:.4f} ({saved:+.1f} %)\n{low:+.2f} to {high:+.2f}"


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
    if any(contender.prefix_only is not None for contender in comparison.contenders):
        lines.append(
            "Last block: its MLP sees the class token alone, which is lossless in this model and "
            "worth some 5 %, or all tokens; alike for all methods, whatever was measured. What was "
            "measured with the class token alone counts there as if the last block merged nothing."
        )
    return " ".join(lines)


def _values(priced: Priced | None) -> dict[str, Any] | None:
    if priced is None:
        return None
    point = priced.point
    figures = point.measurement.figures() | {"gflops": priced.gflops}
    return {"trial": point.number, "params": dict(point.params), **figures}
