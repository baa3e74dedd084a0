"""YAML files: written and read back equal, refused with the line."""

import json
from pathlib import Path

import pytest
import yaml

from atm_search.deploy import schema
from atm_search.deploy.configuration import Configuration
from atm_search.errors import ConfigurationError


def test_a_configuration_is_read_back_equal(configuration: Configuration, path: Path) -> None:
    again = Configuration.read(path, refuse_edits=True)
    assert again == configuration.with_derived()
    assert again.measurement.seconds == configuration.measurement.seconds
    assert again.build_method() == configuration.build_method()


def test_a_person_finds_what_follows_from_the_figures(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert content["method"]["thresholds"][:2] == [0.95, pytest.approx(0.95 - 0.051271)]
    summary, measured = content["summary"], Configuration.read(path).measurement
    assert summary["delta_ci95"] == [pytest.approx(end, abs=1e-4) for end in measured.delta_ci95]
    assert summary["top1"] == measured.top1
    assert "# How it was measured." in path.read_text()


def test_the_published_schema_is_that_of_the_classes_and_accepts_the_file(path: Path) -> None:
    published = json.loads(schema.SCHEMA_FILE.read_text())
    assert published == schema.json_schema(), "run: python -m atm_search.deploy.schema"
    content = yaml.safe_load(path.read_text())
    assert set(content) <= set(published["properties"])
    assert set(published["required"]) <= set(content)
    described = published["$defs"]["Measurement"]["properties"]["lost"]["description"]
    assert "dense model has right" in described


def test_confirmed_figures_are_read_back_equal_with_their_intervals(
    confirmed: Configuration, tmp_path: Path
) -> None:
    path = tmp_path / "best.yaml"
    confirmed.write(path)
    again = Configuration.read(path, refuse_edits=True)
    assert again == confirmed
    assert again.confirmation is not None
    content = yaml.safe_load(path.read_text())["confirmation"]
    assert content["data"] == {"sha256": "cd" * 32, "source": "noise", "images": 20, "after": 30}
    measured = again.confirmation.measurement
    ends = [pytest.approx(end, abs=1e-4) for end in measured.delta_ci95]
    assert content["summary"]["delta_ci95"] == ends
    first = path.read_text().splitlines()[0]
    assert f"{measured.delta_top1:+.2f} (" in first
    assert first.endswith("on 20 images that the search did not use")
    shown = again.as_confirmed()
    assert (shown.data, shown.measurement) == (again.confirmation.data, measured)
    assert not list(shown.contradictions())


def test_confirmed_figures_that_were_edited_are_refused(
    confirmed: Configuration, tmp_path: Path
) -> None:
    path = tmp_path / "best.yaml"
    confirmed.write(path)
    text = path.read_text()
    place = text.index("top1_hits:", text.index("confirmation:"))
    path.write_text(text[:place] + text[place:].replace("top1_hits: ", "top1_hits: 1", 1))
    line = text[: text.index("top1:", text.index("confirmation:"))].count("\n") + 1
    words = rf"best.yaml, line {line}: confirmation.summary.top1 is .*, measurement gives"
    with pytest.raises(ConfigurationError, match=words):
        Configuration.read(path, refuse_edits=True)
    path.write_text(
        text.replace("  after: 30", "  afterwards: 30", 1).replace("  after: 30", "", 1)
    )
    with pytest.raises(ConfigurationError, match=r"unknown key 'afterwards'. Did you mean 'after'"):
        Configuration.read(path)


def test_a_file_without_confirmed_figures_has_none_to_verify(configuration: Configuration) -> None:
    with pytest.raises(ConfigurationError, match="no confirmed figures: run `atm-search confirm`"):
        configuration.as_confirmed()


def test_a_file_of_the_first_version_is_read(configuration: Configuration, path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    for name in ("pick", "summary"):
        content.pop(name, None)
    del content["method"]["thresholds"]
    path.write_text(yaml.safe_dump(content | {"schema_version": 1}))
    again = Configuration.read(path, refuse_edits=True)
    assert again.with_derived() == configuration.with_derived()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tau0: 0.95", "tau0: 0.94", r"method.thresholds is \[0.95, .*params give \[0.94, "),
        ("tau_min: 0.6", "tau_min: 0.9", "method.thresholds is"),
        ("top1_hits: ", "top1_hits: 1", r"summary.top1 is .*, measurement gives"),
        ("saved_percent: ", "saved_percent: 7", "summary.saved_percent is 7"),
    ],
)
def test_a_file_edited_after_it_was_measured_is_refused_for_production(
    path: Path, old: str, new: str, words: str
) -> None:
    edited(path, old, new)
    Configuration.read(path)
    with pytest.raises(ConfigurationError, match=rf"best.yaml, line \d+: {words}"):
        Configuration.read(path, refuse_edits=True)


def test_a_person_reads_the_cost_and_the_interval_first(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# test_vit.r160_in1k with atm: ")
    assert "GFLOPs" in first
    assert "95 % interval" in first


def edited(path: Path, old: str, new: str) -> int:
    """Edit a file as a person would; the number of the edited line."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("batch_size: 16", "batchsize: 16", r"unknown key 'batchsize'. Did you mean 'batch_size'"),
        ("crop_pct:", "crop_pc:", r"unknown key 'crop_pc'. Did you mean 'crop_pct'"),
        ("batch_size: 16", "batch_size: many", r"protocol.batch_size='many'"),
        ("schema_version: 2", "schema_version: 3", "version 3, this atm-search reads 1 and 2: pip"),
        ("schema_version: 2", "schema_version: x", "version x, this .* export it again"),
        ("schema_version: 2", "version: 1", "no schema_version"),
        ("tau0: 0.95", "tau0: 1.95", r"best.yaml, line \d+: tau0=1.95"),
        ("tau0: 0.95", "tau00: 0.95", r"no parameter 'tau00'"),
        ("name: atm", "name: atom", r"No method 'atom'"),
        ("top1_hits:", "top1_hit:", r"unknown key 'top1_hit'. Did you mean 'top1_hits'"),
        ("model:", "model: [", "is no YAML"),
        (
            "measurement:\n  images: 50",
            "measurement:\n  images: 0",
            r"images=0 is no count of images",
        ),
        ("agreements: ", "agreements: 1", r"agreements=\d+ is no count of 50 images"),
        ("  gained:", "  gained: -1 #", r"gained=-1 is no count"),
        ("  dense_gflops:", "  dense_gflops: 0 #", r"dense_gflops=0.0 is not possible"),
        ("  gflops:", "  gflops: .nan #", r"gflops=nan is not possible"),
        ("  top1_hits:", "  top1_hits: null #", r"best.yaml.*some are missing: give all, or none"),
    ],
)
def test_a_file_edited_wrongly_is_refused_with_the_place(
    path: Path, old: str, new: str, words: str
) -> None:
    edited(path, old, new)
    with pytest.raises(ConfigurationError, match=words):
        Configuration.read(path)


def test_the_line_of_an_unknown_key_is_named(path: Path) -> None:
    line = edited(path, "  dtype: float32", "  dtipe: float32")
    with pytest.raises(ConfigurationError, match=rf"best.yaml, line {line}: unknown key 'dtipe'"):
        Configuration.read(path)


def test_a_missing_key_is_named(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    del content["data"]["sha256"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigurationError, match=r"'data.sha256' is missing"):
        Configuration.read(path)


def test_a_yaml_that_would_run_code_runs_none(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "was_here"
    path.write_text(f"schema_version: !!python/object/apply:os.mkdir ['{target}']\n")
    with pytest.raises(ConfigurationError, match="is no YAML"):
        Configuration.read(path)
    assert not target.exists()


def test_missing_files_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Configuration.read(tmp_path / "none.yaml")
    foreign = tmp_path / "foreign.yaml"
    foreign.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigurationError, match="no atm-search file"):
        Configuration.read(foreign)


def test_writing_where_nothing_can_be_written_leaves_nothing(
    configuration: Configuration, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        configuration.write(tmp_path / "file" / "best.yaml")
