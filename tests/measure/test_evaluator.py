"""Measurements of a small model, checked against what can be worked out another way."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atm_search.data.folder import read_folder
from atm_search.data.shard import Shard
from atm_search.errors import InputError, MeasurementError, ParameterError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.measurement import Measurement
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Race, Rival
from atm_search.merging.atm import Atm
from atm_search.merging.tome import Tome
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, load_model

SOME = Atm(tau0=0.9, alpha=0.05, tau_min=0.5, split_depth=3)


@pytest.fixture(scope="module", name="evaluator")
def _evaluator(tiny_model: LoadedModel, tiny_shard: Shard) -> Evaluator:
    return Evaluator(tiny_model, tiny_shard, batch_size=16)


def test_a_measurement_counts_what_the_models_answer(
    evaluator: Evaluator, tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    measured = evaluator.measure(SOME)
    dense, merged = [], []
    with torch.inference_mode():
        for start in range(0, 50, 16):
            images = tiny_model.prepare(tiny_shard.images[start : start + 16])
            dense.append(tiny_model.network(images))
            merged.append(run(tiny_model.network, SOME, images).logits)
    a, b = torch.cat(dense).double(), torch.cat(merged).double()
    labels = tiny_shard.labels
    right_a, right_b = a.argmax(1) == labels, b.argmax(1) == labels
    assert measured.images == 50
    assert measured.top1_hits == int(right_b.sum())
    assert measured.dense_top1_hits == int(right_a.sum())
    assert measured.lost == int((right_a & ~right_b).sum())
    assert measured.gained == int((right_b & ~right_a).sum())
    assert measured.agreements == int((a.argmax(1) == b.argmax(1)).sum())
    assert measured.top5_hits == int((b.topk(5).indices == labels[:, None]).any(1).sum())
    kl = (a.softmax(1) * (a.log_softmax(1) - b.log_softmax(1))).sum(1)
    assert measured.kl == pytest.approx(float(kl.mean()), rel=1e-4, abs=1e-7)
    assert measured.kl_se == pytest.approx(float(kl.std() / 50**0.5), rel=1e-3, abs=1e-7)
    assert measured.gflops < measured.dense_gflops
    assert measured.delta_top1 == pytest.approx(measured.top1 - measured.dense_top1)


def test_the_same_call_gives_the_same_numbers(
    evaluator: Evaluator, tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    once = evaluator.measure(SOME)
    assert evaluator.measure(SOME) == once
    assert Evaluator(tiny_model, tiny_shard, batch_size=16).measure(SOME) == once


def test_the_batch_size_is_part_of_what_atm_does(
    tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    tokens = {
        size: Evaluator(tiny_model, tiny_shard, batch_size=size).measure(SOME).tokens_per_layer
        for size in (1, 7, 50)
    }
    assert len(set(tokens.values())) == 3


def test_tokens_per_layer_are_means_over_images_of_unequal_batches(
    tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    evaluator = Evaluator(tiny_model, tiny_shard, batch_size=48)
    total = torch.zeros(tiny_model.depth, dtype=torch.float64)
    with torch.inference_mode():
        for images, _ in tiny_shard.batches(48):
            out = run(tiny_model.network, SOME, tiny_model.prepare(images))
            total += torch.tensor(out.mlp_tokens) * len(images)
    assert evaluator.measure(SOME).tokens_per_layer == pytest.approx((total / 50).tolist())


def test_the_dense_model_measured_as_a_configuration_changes_nothing(evaluator: Evaluator) -> None:
    dense = evaluator.measure(None)
    assert (dense.lost, dense.gained, dense.kl, dense.agreement) == (0, 0, 0.0, 100.0)
    assert dense.gflops == dense.dense_gflops == evaluator.dense_gflops
    assert dense == evaluator.measure(Tome(r=0))


def test_progress_counts_images(evaluator: Evaluator) -> None:
    seen: list[tuple[int, int]] = []
    evaluator.measure(SOME, lambda done, total: seen.append((done, total)))
    assert seen == [(16, 50), (32, 50), (48, 50), (50, 50)]


def test_a_race_sees_every_image_and_ends_a_measurement_with_its_first_ones(
    evaluator: Evaluator,
) -> None:
    own = Race()
    full = evaluator.measure(SOME, race=own)
    assert full == evaluator.measure(SOME)
    assert int(own.outcomes.hits.sum()) == full.top1_hits
    assert float(own.outcomes.distances.mean()) == pytest.approx(full.kl, rel=0.01)
    assert own.outcomes.gflops.tolist()[0] > 0
    perfect = Outcomes.of([True] * 50, [0.0] * 50, [0.0] * 4)
    race = Race([Rival(3, perfect)])
    part = evaluator.measure(SOME, race=race)
    assert race.stopped_by == 3
    assert part.images == len(race.outcomes) < 50
    assert part.top1_hits == int(own.outcomes.hits[: part.images].sum())


def test_outputs_that_are_not_finite_are_no_measurement(
    tiny_checkpoint: Path, tiny_shard: Shard
) -> None:
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")
    model.network.head.weight.data[0, 0] = torch.nan
    with pytest.raises(MeasurementError, match="images 0 to 15 are not finite"):
        Evaluator(model, tiny_shard, batch_size=16).measure(SOME)


@pytest.mark.parametrize(("fits", "advice"), [(5, "4 would: use --batch-size 4"), (0, "not even")])
def test_a_batch_that_does_not_fit_in_memory_is_refused_with_one_that_does(
    tiny_checkpoint: Path, tiny_shard: Shard, fits: int, advice: str
) -> None:
    """A module in the network gives out, as the allocator of a GPU does."""
    model = load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu")

    def allocate(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.network.blocks[2].mlp.register_forward_pre_hook(allocate)
    evaluator = Evaluator(model, tiny_shard, batch_size=16)
    with pytest.raises(MeasurementError, match=f"A batch of 16 images does not fit .* {advice}"):
        evaluator.measure(SOME)


def test_wrong_requests_are_refused(
    evaluator: Evaluator, tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    with pytest.raises(ParameterError, match="batch_size=0"):
        Evaluator(tiny_model, tiny_shard, batch_size=0)
    with pytest.raises(ParameterError, match="split_depth=9 is beyond the model's 6 blocks"):
        evaluator.measure(replace(SOME, split_depth=9))


def test_a_measurement_survives_json_without_loss(evaluator: Evaluator) -> None:
    measured = evaluator.measure(SOME)
    again = Measurement.from_dict(json.loads(json.dumps(measured.to_dict())))
    assert again == measured
    assert again.seconds == measured.seconds
    assert again.figures() == measured.figures()
    with pytest.raises(InputError, match="check: extra"):
        Measurement.from_dict(measured.to_dict() | {"extra": 1})


# Rows of arXiv 2505.15160, Table A2: the extremes and the middle; the README has all 13.
@pytest.mark.parametrize("row", [0, 6, 12])
def test_published_gflops_of_deit_tiny_are_reproduced(
    row: int, shared: Path, real_evaluator: Evaluator
) -> None:
    with (shared / "reference" / "atm_published.csv").open() as file:
        rows = [
            line
            for line in csv.DictReader(file)
            if (line["table"], line["model"], line["fine_tuned"]) == ("A2", "deit_t", "0")
            and line["tau0"]
        ]
    assert len(rows) == 13
    published = rows[row]
    method = Atm(
        tau0=float(published["tau0"]),
        alpha=float(published["alpha"]),
        tau_min=float(published["tau_min"]),
        split_depth=9,
    )
    measured = real_evaluator.measure(method)
    assert measured.gflops == pytest.approx(float(published["gflops"]), rel=0.01)


def test_dense_deit_tiny_is_the_published_model(real_evaluator: Evaluator) -> None:
    dense = real_evaluator.measure(None)
    assert dense.gflops == pytest.approx(1.254, abs=0.0005)
    assert dense.top1 == pytest.approx(78.7, abs=0.5)


@pytest.fixture(scope="module", name="real_evaluator")
def _real_evaluator(shared: Path, deit_tiny_checkpoint: Path) -> Evaluator:
    """DeiT-Tiny on 1,000 ImageNet images, batch 100, resize 248."""
    model = load_model("deit_t", checkpoint=deit_tiny_checkpoint, device="cpu")
    shard = read_folder(
        shared / "data" / "imagenet-sample-1000",
        transform=model.preprocessing.pixels,
        num_classes=model.num_classes,
    )
    return Evaluator(model, shard, batch_size=100)
