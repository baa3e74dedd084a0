"""Real data beside the checkout, if it is there, and small models made on the spot."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from safetensors.torch import save_file

from atm_search.data.shard import Shard, shard_digest
from atm_search.models.cpu import keep_freed_memory
from atm_search.models.zoo import LoadedModel, load_model

STUB = Path(__file__).parent / "search" / "stub_worker.py"
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATM_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _memory() -> None:
    """As in every program of ours that measures: page faults took a fifth of the time."""
    keep_freed_memory()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real weights and images; tests that need it are skipped without."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def deit_tiny_checkpoint(shared: Path) -> Path:
    return shared / "data" / "deit_tiny_patch16_224.fb_in1k.safetensors"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's smallest ViT (test_vit: 6 blocks, 100 patches), for 10 classes."""
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=10)
    path = tmp_path_factory.mktemp("weights") / "test_vit.r160_in1k.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> LoadedModel:
    return load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def tiny_shard(tiny_model: LoadedModel) -> Shard:
    """50 noise images for the tiny model, half of them smooth, labels evenly spread."""
    generator = torch.Generator().manual_seed(1)
    _, height, width = tiny_model.preprocessing.input_size
    coarse = torch.rand(50, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = torch.rand(50, 3, height, width, generator=generator)
    images[::2] = (images[::2] + noise[::2]) / 2
    pixels = (images * 255).to(torch.uint8)
    labels = torch.arange(50) % 10
    digest = shard_digest([image.numpy().tobytes() for image in pixels], labels.tolist())
    return Shard(pixels, labels, tuple(f"{i}" for i in range(50)), digest, "noise")


@pytest.fixture(scope="session")
def stub() -> ModuleType:
    """A model's stand-in, for searches of milliseconds."""
    spec = importlib.util.spec_from_file_location("stub_worker", STUB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
