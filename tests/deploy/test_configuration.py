"""YAML files: written and read back equal, loaded as a model, refused with the line."""

from pathlib import Path

import pytest
import torch
import yaml

import atm_search
from atm_search.data.shard import Shard
from atm_search.deploy.configuration import (
    Configuration,
    DataSection,
    MethodSection,
    ModelSection,
    ProtocolSection,
    StudySection,
)
from atm_search.errors import CheckpointError, ConfigurationError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.provenance import versions
from atm_search.merging.atm import Atm
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel

METHOD = Atm(tau0=0.95, alpha=0.05, tau_min=0.6, split_depth=3)


@pytest.fixture(scope="module", name="configuration")
def _configuration(tiny_model: LoadedModel, tiny_shard: Shard) -> Configuration:
    return Configuration(
        model=ModelSection(
            name=tiny_model.name,
            weights_sha256=tiny_model.weights_digest,
            weights_source=tiny_model.weights_source,
            preprocessing=tiny_model.preprocessing,
        ),
        method=MethodSection(name=METHOD.name, params=METHOD.params()),
        protocol=ProtocolSection(batch_size=16, dtype="float32", device="a test machine"),
        data=DataSection(sha256=tiny_shard.digest, source="noise", images=len(tiny_shard)),
        measurement=Evaluator(tiny_model, tiny_shard, batch_size=16).measure(METHOD),
        versions=versions(),
        study=StudySection(name="test", trial=3),
    )


@pytest.fixture(name="path")
def _path(configuration: Configuration, tmp_path: Path) -> Path:
    path = tmp_path / "best.yaml"
    configuration.write(path)
    return path


def test_a_configuration_is_read_back_equal(configuration: Configuration, path: Path) -> None:
    again = Configuration.read(path)
    assert again == configuration
    assert again.measurement.seconds == configuration.measurement.seconds
    assert again.build_method() == METHOD


def test_a_person_reads_the_cost_and_the_interval_first(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# test_vit.r160_in1k with atm: ")
    assert "GFLOPs" in first
    assert "95 % interval" in first


def test_load_gives_the_model_that_was_measured(path: Path, tiny_model: LoadedModel) -> None:
    module = atm_search.load(path)
    size = tiny_model.preprocessing.input_size
    for batch in (1, 3):
        images = torch.randn(batch, *size, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            assert torch.equal(module(images), run(tiny_model.network, METHOD, images).logits)


def test_other_weights_are_refused(path: Path, tiny_model: LoadedModel, tmp_path: Path) -> None:
    state = tiny_model.network.state_dict()
    state["head.bias"] = state["head.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="are not those that were measured"):
        atm_search.load(path, checkpoint=tmp_path / "other.pth")


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
        ("schema_version: 1", "schema_version: 2", "has schema version 2, this atm-search reads 1"),
        ("schema_version: 1", "version: 1", "no schema_version"),
        ("tau0: 0.95", "tau0: 1.95", r"tau0=1.95"),
        ("tau0: 0.95", "tau00: 0.95", r"no parameter 'tau00'"),
        ("name: atm", "name: atom", r"No method 'atom'"),
        ("top1_hits:", "top1_hit:", r"unknown key 'top1_hit'. Did you mean 'top1_hits'"),
        ("model:", "model: [", "is no YAML"),
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
