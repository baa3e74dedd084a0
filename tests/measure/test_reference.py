"""The dense model's answers are computed once, and never other than the model gives them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atm_search.data.cache import Cache
from atm_search.data.shard import Shard
from atm_search.errors import MeasurementError
from atm_search.measure.evaluator import Evaluator
from atm_search.merging.atm import Atm
from atm_search.models.zoo import LoadedModel, load_model

SOME = Atm(tau0=0.9, alpha=0.05, tau_min=0.5, split_depth=3)


class Counting:
    """Evaluators of one model that share a cache; counts the dense model's forward passes."""

    def __init__(self, model: LoadedModel, shard: Shard, directory: Path) -> None:
        self.model, self.shard = model, shard
        self.notes: list[str] = []
        self.cache = Cache(directory, self.notes.append)
        self.forwards = 0
        model.network.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.forwards += 1

    def evaluator(self) -> Evaluator:
        """A new one, as another process would make it."""
        self.forwards = 0
        return Evaluator(self.model, self.shard, batch_size=16, cache=self.cache)


@pytest.fixture(name="counting")
def _counting(tiny_checkpoint: Path, tiny_shard: Shard, tmp_path: Path) -> Counting:
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")
    return Counting(model, tiny_shard, tmp_path / "cache")


def entry(counting: Counting) -> Path:
    (found,) = counting.cache.directory.rglob("dense/*")
    return found


def test_a_second_evaluator_runs_no_dense_model_and_gives_the_same_numbers(
    counting: Counting, tiny_model: LoadedModel
) -> None:
    plain = Evaluator(tiny_model, counting.shard, batch_size=16).measure(SOME)
    assert counting.evaluator().measure(SOME) == plain
    assert counting.forwards == 4  # batches of 16 of 50 images
    again = counting.evaluator()
    assert again.measure(SOME) == plain
    assert counting.forwards == 0
    fresh = Evaluator(tiny_model, counting.shard, batch_size=16).dense()
    for name, tensor in fresh.known().items():
        assert getattr(again.dense(), name).equal(tensor), name


def test_what_decides_the_answers_is_told_apart(counting: Counting) -> None:
    model, shard = counting.model, counting.shard
    others = [
        Evaluator(other, images, batch_size=batch_size, cache=counting.cache)
        for other, images, batch_size in (
            (model, shard, 16),
            (model, shard, 10),
            (model, shard.first(20), 16),
            (model, replace(shard, digest="0" * 64), 16),
            (replace(model, weights_digest="0" * 64), shard, 16),
            (replace(model, preprocessing=replace(model.preprocessing, crop_pct=0.5)), shard, 16),
            (model.in_dtype("bfloat16"), shard, 16),
        )
    ]
    for number, other in enumerate(others, start=1):
        other.dense()
        assert len(list(counting.cache.directory.rglob("dense/*"))) == number


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_measured_again(counting: Counting, damage: str) -> None:
    plain = counting.evaluator().measure(SOME)
    content = bytearray(entry(counting).read_bytes())
    content[1000] ^= 1
    spoilt = {"cut": content[:-1], "flipped": content, "empty": b""}[damage]
    entry(counting).write_bytes(spoilt)
    assert counting.evaluator().measure(SOME) == plain
    assert counting.forwards == 4
    assert counting.evaluator().measure(SOME) == plain
    assert counting.forwards == 0


def test_a_cache_that_cannot_be_written_costs_a_note(counting: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    counting.cache = Cache(tmp_path / "file" / "cache", counting.notes.append)
    evaluator = counting.evaluator()
    evaluator.measure(SOME)
    evaluator.measure(SOME)
    assert counting.forwards == 4
    assert len(counting.notes) == 1


def test_answers_that_are_not_finite_are_not_kept(counting: Counting) -> None:
    counting.model.network.head.weight.data[0, 0] = torch.nan
    with pytest.raises(MeasurementError, match="not finite"):
        counting.evaluator().dense()
    assert not list(counting.cache.directory.rglob("dense/*"))
