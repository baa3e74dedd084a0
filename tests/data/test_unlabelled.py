"""Folders that do not say which image is of which class."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from atm_search.data.folder import read_folder
from atm_search.data.shard import Shard, shard_digest
from atm_search.errors import DataError, MeasurementError
from atm_search.measure.evaluator import Answers, Evaluator, check_varied
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Race, RaceRules, Rival
from atm_search.merging.tome import Tome
from atm_search.models.zoo import LoadedModel


def write(root: Path, *names: str) -> None:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * shade, 5, 9)).save(root / name)


def read(root: Path, *, need_labels: bool) -> Shard:
    def transform(image: Image.Image) -> object:
        return torch.full((3, 4, 4), image.getpixel((0, 0))[0], dtype=torch.uint8)  # type: ignore[index,arg-type]

    return read_folder(root, transform=transform, num_classes=10, need_labels=need_labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("a.png", "b.png", "c.png"), "lie directly in"),
        (("logs/a.png", "logs/b.png", "other/c.png"), "which folder is which class"),
        (("2024/a.png", "2024/b.png", "2025/c.png"), "labels the model has no class for"),
    ],
)
def test_images_without_classes_are_read_if_no_labels_are_needed(
    tmp_path: Path, names: tuple[str, ...], why: str
) -> None:
    write(tmp_path, *names)
    shard = read(tmp_path, need_labels=False)
    assert shard.labels is None
    assert why in shard.why_unlabelled
    assert sorted(shard.names) == sorted(names)
    assert "no labels" in repr(shard)
    assert next(shard.batches(2))[1] is None
    assert shard.first(2).labels is None
    with pytest.raises(DataError, match=r"--objectives kl,gflops"):
        read(tmp_path, need_labels=True)


def test_labels_that_are_there_are_taken_though_not_needed(tmp_path: Path) -> None:
    write(tmp_path, "0/a.png", "7/b.png")
    shard = read(tmp_path, need_labels=False)
    assert shard.labels is not None
    assert sorted(shard.labels.tolist()) == [0, 7]
    assert shard_digest([b"x"], None) != shard_digest([b"x"], [0])


def test_a_measurement_without_labels_says_all_that_needs_none(
    tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    labelled = Evaluator(tiny_model, tiny_shard.first(8), batch_size=4)
    blind = Evaluator(tiny_model, replace(tiny_shard.first(8), labels=None), batch_size=4)
    race = Race()
    one, other = labelled.measure(Tome(r=3)), blind.measure(Tome(r=3), race=race)
    assert other.top1_hits is None
    assert race.outcomes.hits is None
    assert (one.kl, one.agreements, one.gflops) == (other.kl, other.agreements, other.gflops)
    text = race.outcomes.to_text()
    again = Outcomes.from_text(text)
    assert again.hits is None
    assert again.distances.tolist() == race.outcomes.distances.tolist()


def test_races_without_labels_are_on_kl() -> None:
    rival = Rival(0, Outcomes.of(None, [0.01] * 400, [0.5] * 4))
    race = Race([rival], RaceRules(on="kl"))
    going = [race.add(None, [0.9] * 100, 1.0) for _ in range(1)]
    assert going == [False]
    assert race.stopped_by == 0


def test_a_dense_model_that_answers_everything_alike_is_refused(
    tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    check_varied(Answers(torch.tensor([[-1.0, -2.0], [-2.0, -1.0]])))
    with pytest.raises(MeasurementError, match="same output for all of 3 images"):
        check_varied(Answers(torch.zeros(3, 5)))
    alike = replace(tiny_shard, images=tiny_shard.images[:1].expand_as(tiny_shard.images))
    with pytest.raises(MeasurementError, match="same output for all of 50 images"):
        Evaluator(tiny_model, alike, batch_size=16).measure(None)
