"""A study as one file: a page for people, or figures and tables for papers and scripts."""

import base64
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atm_search.errors import InputError, StudyError
from atm_search.show.figures import frontier_figure, write_figure
from atm_search.show.frontier import frontier_summary
from atm_search.show.gallery import EXAMPLES, trial_png
from atm_search.show.note import commands, note, provenance
from atm_search.show.page import report_page
from atm_search.show.pictures import simple_to_complex
from atm_search.show.subject import Subject
from atm_search.show.view import View

FORMATS = ("html", "png", "svg", "csv", "json")

CONFIRMED_COLUMNS = ("images", "gflops", "top1", "delta_top1")
"""Of a CSV, empty where nothing is confirmed, before the ends of the interval."""


def format_of(path: Path, wanted: str | None) -> str:
    """The format of a report: what is asked for, else what the file's name ends with.

    Raises:
        InputError: there is no such format.
    """
    chosen = wanted or path.suffix.removeprefix(".")
    if chosen not in FORMATS:
        raise InputError(f"{path}: no format '{chosen}' for a report. Use {', '.join(FORMATS)}.")
    return chosen


def write_report(
    view: View, path: Path, *, kind: str, pictures: Mapping[int, str] | None = None
) -> None:
    """Write a study's report.

    Args:
        view: the study.
        path: the file; its folder is made.
        kind: one of FORMATS.
        pictures: token pictures for a page, from `token_pictures`.

    Raises:
        StudyError: the study has nothing to report yet.
        InputError: pictures of figures need the extra that is not installed.
    """
    if not view.points:
        raise StudyError(f"Study '{view.study.name}' has no finished trial to report yet.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in ("png", "svg"):
        write_figure(frontier_figure(view), path, kind=kind)
    elif kind == "csv":
        path.write_text(_rows(view), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(_values(view), indent=2) + "\n", encoding="utf-8")
    else:
        path.write_text(report_page(view, pictures), encoding="utf-8")


def token_pictures(view: View, subject: Subject) -> dict[int, str]:
    """Pictures of what the picks merge, as data URLs by trial."""
    chosen = simple_to_complex(subject.model, subject.shard, EXAMPLES)
    numbers = {point.number for point in view.picks.values()}
    return {
        number: "data:image/png;base64,"
        + base64.b64encode(trial_png(subject, view.records[number], chosen)).decode()
        for number in sorted(numbers)
    }


def _values(view: View) -> dict[str, Any]:
    """What `frontier --with-dominated --json` prints, and what it comes from."""
    return {
        **frontier_summary(view.study, view.records, with_dominated=True),
        "picks": {name: point.number for name, point in view.picks.items()},
        "note": note(view),
        "provenance": [list(fact) for fact in provenance(view.study, view)],
        "commands": [list(line) for line in commands(view)],
    }


def _rows(view: View) -> str:
    """A line of CSV per measured configuration, lists with blanks between their values."""
    measured = frontier_summary(view.study, view.records, with_dominated=True)["measured"]
    rows = []
    for point in measured:
        flat = point | point["params"]
        low, high = flat.pop("delta_ci95") or (None, None)
        del flat["params"]
        other = flat.pop("confirmed") or {}
        timed = flat.pop("latency") or {}
        flat |= {"latency_ms": timed.get("median_ms"), "dense_latency_ms": timed.get("dense_ms")}
        flat["tokens_per_layer"] = " ".join(f"{count:.2f}" for count in flat["tokens_per_layer"])
        flat |= {"delta_ci95_low": low, "delta_ci95_high": high}
        for name in CONFIRMED_COLUMNS:
            flat[f"confirmed_{name}"] = other.get(name)
        low, high = other.get("delta_ci95") or (None, None)
        rows.append(flat | {"confirmed_ci95_low": low, "confirmed_ci95_high": high})
    file = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)  # methods have their own
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
