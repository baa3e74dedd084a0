"""The precision that is chosen when nobody says."""

from pathlib import Path

import pytest
import torch

from atm_search.data.cache import Cache
from atm_search.data.shard import Shard
from atm_search.measure.precision import automatic, has_bfloat16
from atm_search.models.zoo import LoadedModel, load_model

CPU = torch.device("cpu")


@pytest.fixture(name="bfloat16")
def _bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that computes in bfloat16, whether or not it is faster here."""
    monkeypatch.setattr("atm_search.measure.precision.has_bfloat16", lambda device: True)


def test_a_cpu_has_bfloat16_if_it_has_the_instructions() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        pytest.skip("no list of this processor's instructions")
    words = set(flags.read_text().split())
    assert has_bfloat16(CPU) == bool(words & {"avx512_bf16", "amx_bf16"})


def test_a_device_without_bfloat16_stays_with_float32(
    tiny_model: LoadedModel, tiny_shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atm_search.measure.precision.has_bfloat16", lambda device: False)
    model, reason = automatic(tiny_model, tiny_shard, batch_size=16)
    assert model is tiny_model
    assert reason.startswith("float32, because this device")


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_is_taken_where_top1_stays_and_the_choice_is_made_once(
    tiny_checkpoint: Path, tiny_shard: Shard, tmp_path: Path
) -> None:
    cache = Cache(tmp_path, pytest.fail)
    chosen, reason = automatic(
        load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu"),
        tiny_shard,
        batch_size=16,
        cache=cache,
    )
    assert chosen.dtype_name == "bfloat16"
    assert reason.startswith("bfloat16, because dense top-1 changes by ")
    assert reason.endswith("on 50 images")
    again = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")
    again.network.register_forward_hook(lambda *_: pytest.fail("measured a second time"))
    assert automatic(again, tiny_shard, batch_size=16, cache=cache)[1] == reason


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_that_loses_top1_is_not_taken(tiny_checkpoint: Path, tiny_shard: Shard) -> None:
    """A head whose answers hang on what bfloat16 rounds away."""
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")
    head = model.network.head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(1000.0)
        head.bias[1] = 1000.01  # the same as the others in bfloat16, of which the first wins
    labels = torch.ones(50, dtype=torch.int64)
    shard = Shard(tiny_shard.images, labels, tiny_shard.names, "0" * 64, "all of one class")
    chosen, reason = automatic(model, shard, batch_size=16)
    assert chosen is model
    assert reason.startswith("float32, because in bfloat16 dense top-1 changes by -100.00 points")


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_that_overflows_is_not_taken(tiny_checkpoint: Path, tiny_shard: Shard) -> None:
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")
    model.network.head.bias.data[0] = 3.4e38  # rounds up to infinity in bfloat16
    chosen, reason = automatic(model, tiny_shard, batch_size=16)
    assert chosen is model
    assert reason == "float32, because outputs in bfloat16 are not finite"
