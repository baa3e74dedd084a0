"""The studies of a store as a table and as plain values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from atm_search.search.overview import Overview

COLUMNS = ("model", "method", "images", "trials", "running", "failed", "frontier", "last activity")


def studies_table(studies: Sequence[Overview], *, store: str) -> Table:
    """A row per study, in the order of their making.

    Args:
        studies: from `overview`.
        store: its address, without a password.
    """
    count = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}"
    table = Table(title=escape(f"{store}: {count}"), title_justify="left")
    table.add_column("study")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading in COLUMNS[:2] else "right")
    for study in studies:
        if study.problem is not None:
            table.add_row(escape(study.name), escape(study.problem))
            continue
        last = study.last_activity
        table.add_row(
            escape(study.name),
            study.model,
            study.method,
            f"{study.images:,}",
            f"{study.done}/{study.budget}",
            str(study.running),
            str(study.failed),
            str(study.frontier),
            "" if last is None else f"{last:%Y-%m-%d %H:%M:%S}",
        )
    return table


def studies_summary(studies: Sequence[Overview]) -> list[dict[str, Any]]:
    """The same for JSON; times in local time with their offset from UTC."""
    return [
        asdict(study)
        | {
            "last_activity": None
            if study.last_activity is None
            else study.last_activity.astimezone().isoformat()
        }
        for study in studies
    ]
