"""From a file to a model for a service: the right weights, many threads, evaluation only."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

import atm_search
from atm_search.deploy.configuration import Configuration
from atm_search.errors import CheckpointError, ConfigurationError, ModelError
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel


def images(batch: int, model: LoadedModel) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, *model.preprocessing.input_size, generator=generator)


@pytest.mark.parametrize("batch", [1, 3])
def test_load_gives_the_model_that_was_measured(
    path: Path, configuration: Configuration, tiny_model: LoadedModel, batch: int
) -> None:
    module, method = atm_search.load(path), configuration.build_method()
    assert not any(parameter.requires_grad for parameter in module.parameters())
    with torch.inference_mode():
        given = images(batch, tiny_model)
        assert torch.equal(module(given), run(tiny_model.network, method, given).logits)


def test_threads_that_share_a_model_get_the_answers_of_a_serial_run(
    path: Path, tiny_model: LoadedModel
) -> None:
    module = atm_search.load(path)
    requests = [images(batch, tiny_model) for batch in (1, 7, 2, 16, 3, 5, 1, 9) * 4]

    def answer(request: Tensor) -> Tensor:
        with torch.inference_mode():
            return module(request)

    serial = [answer(request) for request in requests]
    with ThreadPoolExecutor(max_workers=8) as pool:
        for alone, shared in zip(serial, pool.map(answer, requests), strict=True):
            assert torch.equal(alone, shared)


def test_training_mode_is_refused_unless_asked_for(path: Path, tiny_model: LoadedModel) -> None:
    request = images(2, tiny_model)
    with pytest.raises(ModelError, match=r"call eval\(\).*trainable=True"):
        atm_search.load(path).train()(request)
    module = atm_search.load(path, trainable=True).train()
    module(request).square().sum().backward()
    gradient = module.network.blocks[0].attn.qkv.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_other_weights_are_refused_unless_forced(
    path: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    state = tiny_model.network.state_dict()
    state["head.bias"] = state["head.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="are not those that were measured"):
        atm_search.load(path, checkpoint=tmp_path / "other.pth")
    module = atm_search.load(path, checkpoint=tmp_path / "other.pth", force=True)
    assert torch.equal(module.network.head.bias, state["head.bias"])


def test_a_file_edited_after_it_was_measured_is_refused_unless_forced(path: Path) -> None:
    path.write_text(path.read_text().replace("tau0: 0.95", "tau0: 0.9"))
    with pytest.raises(ConfigurationError, match="edited after it was measured"):
        atm_search.load(path)
    assert "tau0=0.9," in str(atm_search.load(path, force=True))
