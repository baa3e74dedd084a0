"""Reports: one file each, with the figures that `frontier --json` prints."""

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest

from atm_search.errors import InputError, StudyError
from atm_search.search.study import Study
from atm_search.show.frontier import frontier_summary
from atm_search.show.report import format_of, token_pictures, write_report
from atm_search.show.subject import open_subject
from atm_search.show.view import View


def embedded(page: str) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    data = json.loads(text)
    assert isinstance(data, dict)
    return data


def test_a_page_needs_nothing_else_and_has_the_figures_of_frontier_json(
    seen: View, study: Study, tmp_path: Path
) -> None:
    write_report(seen, tmp_path / "report.html", kind="html")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'<(script|link)\b[^>]*(src|href)="(?!data:)', page)  # all of it inside
    data = embedded(page)
    summary = data["summary"]
    assert isinstance(summary, dict)
    for row in summary["frontier"]:
        row.pop("pick")
        row.pop("thresholds")
        row.pop("settings")
    assert summary == json.loads(json.dumps(frontier_summary(study, study.records())))
    assert data["pictures"] == {}


def test_a_page_has_token_pictures_of_the_picks_on_request(seen: View, tmp_path: Path) -> None:
    pictures = token_pictures(seen, open_subject(seen.study))
    assert set(pictures) == {point.number for point in seen.picks.values()}
    write_report(seen, tmp_path / "report.html", kind="html", pictures=pictures)
    assert "data:image/png;base64,iVBOR" in (tmp_path / "report.html").read_text()


def test_csv_and_json_hold_every_measured_configuration(seen: View, tmp_path: Path) -> None:
    write_report(seen, tmp_path / "deep" / "report.json", kind="json")
    values = json.loads((tmp_path / "deep" / "report.json").read_text())
    write_report(seen, tmp_path / "report.csv", kind="csv")
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [point["trial"] for point in values["measured"]]
    for row, measured in zip(rows, values["measured"], strict=True):
        assert float(row["gflops"]) == measured["gflops"]
        assert float(row["tau0"]) == measured["params"]["tau0"]
        assert len(row["tokens_per_layer"].split()) == 12
    assert {"provenance", "commands", "picks", "hypervolume"} <= set(values)


def test_formats_go_by_name_unless_said(tmp_path: Path) -> None:
    assert format_of(Path("a.csv"), None) == "csv"
    assert format_of(Path("a.csv"), "json") == "json"
    with pytest.raises(InputError, match="no format 'gif' for a report"):
        format_of(Path("a.gif"), None)


def test_a_study_without_a_finished_trial_has_nothing_to_report(seen: View, tmp_path: Path) -> None:
    empty = dataclasses.replace(seen, trials=[], records=[])
    with pytest.raises(StudyError, match="no finished trial to report yet"):
        write_report(empty, tmp_path / "report.html", kind="html")
    assert not list(tmp_path.iterdir())
