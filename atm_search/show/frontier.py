"""The frontier as a table and as plain values."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from atm_search.search.dense import Dense
from atm_search.search.frontier import FrontierPoint, hypervolume, reference_point
from atm_search.show.tables import saving


def frontier_table(name: str, dense: Dense, points: Sequence[FrontierPoint]) -> Table:
    """A row per frontier point, from the fewest GFLOPs to the most, and one for the dense model."""
    table = Table(
        title=f"Frontier of {name}: {len(points)} configurations on {dense.images:,} images",
        title_justify="left",
        caption="Change of top-1 against the dense model on the same images, in percentage "
        "points, with its 95 % interval (paired).",
        caption_justify="left",
    )
    for heading in ("GFLOPs", "saved", "top-1", "change", "95 % interval", "trial"):
        table.add_column(heading, justify="right", no_wrap=True)
    columns = _params(points)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for point in points:
        measured = point.measurement
        low, high = measured.delta_ci95
        table.add_row(
            f"{measured.gflops:.4f}",
            saving(measured),
            f"{measured.top1:.2f}",
            f"{measured.delta_top1:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            str(point.number),
            *(str(point.params.get(name, "")) for name in columns),
        )
    table.add_section()
    table.add_row(f"{dense.gflops:.4f}", "", f"{dense.top1:.2f}", "", "", "dense")
    return table


def _params(points: Sequence[FrontierPoint]) -> list[str]:
    """Parameters worth a column: all but switches, which a study does not vary."""
    names = dict.fromkeys(name for point in points for name in point.params)
    return [
        name
        for name in names
        if not all(isinstance(point.params.get(name), bool) for point in points)
    ]


def frontier_summary(name: str, dense: Dense, points: Sequence[FrontierPoint]) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    top1, gflops = reference_point(dense)
    return {
        "study": name,
        "dense": {"images": dense.images, "top1": dense.top1, "gflops": dense.gflops},
        "hypervolume": hypervolume(points, dense),
        "reference_point": {"top1": top1, "gflops": gflops},
        "frontier": [
            {
                "trial": point.number,
                "method": point.method,
                "params": dict(point.params),
                **point.measurement.figures(),
            }
            for point in points
        ],
    }
