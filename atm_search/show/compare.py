"""Methods side by side, as a table and as plain values."""

from typing import Any

from rich.table import Table

from atm_search.search.compare import Comparison
from atm_search.search.frontier import FrontierPoint
from atm_search.show.tables import saving


def comparison_table(comparison: Comparison) -> Table:
    """A row per method: top-1 with the interval of its change at each budget, and lossless cost."""
    dense = comparison.dense
    table = Table(
        title=f"{comparison.model} on {dense.images:,} images: dense top-1 {dense.top1:.2f} % at "
        f"{dense.gflops:.4f} GFLOPs",
        title_justify="left",
        caption=_caption(comparison),
        caption_justify="left",
    )
    table.add_column("method")
    table.add_column("measured", justify="right")
    for budget in comparison.budgets:
        table.add_column(f"top-1 at {budget:g} GFLOPs", justify="right")
    table.add_column("GFLOPs without loss", justify="right")
    for contender in comparison.contenders:
        table.add_row(
            contender.method,
            str(contender.measured),
            *(_accuracy(point) for point in contender.at),
            _cost(contender.lossless),
        )
    return table


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    dense = comparison.dense
    return {
        "model": comparison.model,
        "dense": {"images": dense.images, "top1": dense.top1, "gflops": dense.gflops},
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


def _accuracy(point: FrontierPoint | None) -> str:
    if point is None:
        return "-"
    measured = point.measurement
    low, high = measured.delta_ci95
    return f"{measured.top1:.2f}\n{measured.delta_top1:+.2f} ({low:+.2f} to {high:+.2f})"


def _cost(point: FrontierPoint | None) -> str:
    if point is None:
        return "-"
    measured = point.measurement
    low, high = measured.delta_ci95
    return f"{measured.gflops:.4f} ({saving(measured)})\n{low:+.2f} to {high:+.2f}"


def _caption(comparison: Comparison) -> str:
    lines = [
        "Of each method the most accurate configuration within the cost, with its change against "
        "the dense model in percentage points and the 95 % interval (paired); and the cheapest "
        "that has lost nothing on these images. The best of many looks better than it is: "
        "confirm on other images."
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
