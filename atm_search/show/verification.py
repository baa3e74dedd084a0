"""A verification as a table, and what the batch size does."""

from collections.abc import Mapping

from rich.table import Table

from atm_search.deploy.verify import Check, Verification
from atm_search.measure.measurement import Measurement
from atm_search.search.scores import FEATURE, KL
from atm_search.show.tables import saving


def verification_table(verification: Verification, *, title: str) -> Table:
    """A row per figure: the file's, today's, how far they may differ, and whether they do."""
    table = Table(
        title=title,
        title_justify="left",
        caption=f"Rule: {verification.rule}.",
        caption_justify="left",
    )
    table.add_column("figure")
    for heading in ("file", "measured", "difference", "allowed"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for check in verification.checks:
        table.add_row(
            check.name,
            _number(check.expected),
            _number(check.measured),
            _number(check.measured - check.expected, sign="+"),
            _number(check.allowed) if check.allowed > 1e-4 else "none",
            _verdict(check),
        )
    return table


def batch_size_table(measurements: Mapping[int, Measurement]) -> Table:
    """A row per batch size, one at least: what batch-adaptive merging makes of it."""
    table = Table(title="By batch size", title_justify="left")
    first = next(iter(measurements.values()))
    labelled, score = first.has_labels, KL if first.has_head else FEATURE
    quality = ("top-1", "change", "95 % interval") if labelled else (score.title,)
    for heading in ("batch size", "GFLOPs", "saved", *quality):
        table.add_column(heading, justify="right", no_wrap=True)
    for batch_size, measured in measurements.items():
        low, high = measured.delta_ci95
        accuracy = (f"{measured.top1:.2f}", f"{measured.delta_top1:+.2f}")
        table.add_row(
            str(batch_size),
            f"{measured.gflops:.4f}",
            saving(measured),
            *((*accuracy, f"{low:+.2f} to {high:+.2f}") if labelled else (score.text(measured),)),
        )
    return table


def _number(value: float, *, sign: str = "") -> str:
    return f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign}.4f}"


def _verdict(check: Check) -> str:
    return "holds" if check.holds else "differs"
