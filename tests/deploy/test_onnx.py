"""Exported graphs answer as the model does, for any batch size; what cannot be exported says so."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from atm_search.data.shard import Shard
from atm_search.deploy.configuration import Configuration
from atm_search.deploy.freeze import freeze
from atm_search.deploy.onnx import METADATA, session, write_dense_onnx, write_onnx
from atm_search.deploy.sections import MethodSection
from atm_search.deploy.trace import export, fixed_counts
from atm_search.errors import ConfigurationError, ModelError
from atm_search.measure.evaluator import Evaluator
from atm_search.merging.fixed import Fixed
from atm_search.merging.method import Method
from atm_search.merging.tome import Tome
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, load_model

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")


@pytest.fixture(scope="module")
def frozen(configuration: Configuration, evaluator: Evaluator) -> Configuration:
    return freeze(configuration, evaluator)


@pytest.fixture(scope="module")
def images(tiny_model: LoadedModel, tiny_shard: Shard) -> Tensor:
    return tiny_model.prepare(tiny_shard.images)


@pytest.fixture(scope="module")
def written(
    frozen: Configuration, tiny_model: LoadedModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The frozen configuration as an ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert write_onnx(frozen, tiny_model, path) < 1e-3
    return path


def answers(model: LoadedModel, method: Method, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return run(model.network, method, images).logits


def test_onnx_runtime_answers_as_pytorch_for_any_batch_size(
    frozen: Configuration,
    written: Path,
    tiny_model: LoadedModel,
    images: Tensor,
    tmp_path: Path,
) -> None:
    runtime = session(written, threads=1)
    method = frozen.build_method()
    for batch in (1, 7, 50):
        [logits] = runtime.run(None, {"images": images[:batch].numpy()})
        expected = answers(tiny_model, method, images[:batch])
        assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-4)
    carried = runtime.get_modelmeta().custom_metadata_map[METADATA]
    (tmp_path / "carried.yaml").write_text(carried)
    assert Configuration.read(tmp_path / "carried.yaml").method == frozen.method


def test_the_dense_model_is_exported_in_the_same_way(
    tiny_model: LoadedModel, images: Tensor, tmp_path: Path
) -> None:
    write_dense_onnx(tiny_model, tmp_path / "dense.onnx")
    [logits] = session(tmp_path / "dense.onnx").run(None, {"images": images[:5].numpy()})
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(logits), tiny_model.network(images[:5]), atol=1e-4)


def test_a_model_without_its_head_is_exported_as_one_that_gives_features(
    configuration: Configuration, tiny_checkpoint: Path, images: Tensor, tmp_path: Path
) -> None:
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu", headless=True)
    method = Tome(r=9)
    changes = {
        "model": configuration.model.model_copy(update={"headless": True}),
        "method": MethodSection(name=method.name, params=method.params()),
    }
    wanted = configuration.model_copy(update=changes)
    assert write_onnx(wanted, model, tmp_path / "model.onnx") < 1e-3
    runtime = session(tmp_path / "model.onnx")
    assert [output.name for output in runtime.get_outputs()] == ["feature"]
    [features] = runtime.run(None, {"images": images[:7].numpy()})
    assert features.shape == (7, model.network.embed_dim)
    expected = answers(model, method, images[:7])
    assert torch.allclose(torch.from_numpy(features), expected, atol=1e-4)


@pytest.mark.parametrize(
    "method", [Fixed(r=(20, 0, 25, 9, 7, 3), split_depth=2), Tome(r=9, inflection=-0.5)]
)
def test_torch_export_gives_the_models_answers(
    tiny_model: LoadedModel, images: Tensor, method: Method
) -> None:
    module = export(tiny_model, method).module()
    for batch in (1, 9):
        with torch.inference_mode():
            exported = module(images[:batch])
        assert torch.allclose(exported, answers(tiny_model, method, images[:batch]), atol=1e-5)


def test_equal_tokens_merge_in_the_same_order_everywhere(
    frozen: Configuration, written: Path, tiny_model: LoadedModel, images: Tensor
) -> None:
    """A flat image has nothing but ties, which an unstable sort would break in its own way."""
    flat = torch.zeros_like(images[:2])
    flat[1, :, :40] = 1.0
    [logits] = session(written).run(None, {"images": flat.numpy()})
    expected = answers(tiny_model, frozen.build_method(), flat)
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-4)


def test_what_takes_its_counts_from_the_batch_is_refused(
    configuration: Configuration, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="`atm-search freeze` it first"):
        write_onnx(configuration, tiny_model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_network_that_cannot_be_followed_is_refused(tiny_checkpoint: Path) -> None:
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")

    def peek(module: object, arguments: tuple[Tensor]) -> None:
        if arguments[0].sum() > 0:  # depends on the values: no graph holds both ways
            raise AssertionError

    model.network.norm.register_forward_pre_hook(peek)
    with pytest.raises(ModelError, match=r"test_vit\S* cannot be exported: "):
        export(model, Tome(r=5))


def test_tome_is_a_fixed_schedule(tiny_model: LoadedModel) -> None:
    fixed = fixed_counts(Tome(r=8, inflection=0.5), depth=6)
    assert fixed.r == (4, 5, 7, 8, 10, 12)
    assert not fixed.cls_only_last_block


def test_a_path_that_cannot_be_written_is_named(
    frozen: Configuration, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_onnx(frozen, tiny_model, tmp_path / "file" / "model.onnx")
