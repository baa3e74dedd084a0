"""Models without a classifier head: how far the pooled feature moves."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from atm_search.data.shard import Shard
from atm_search.errors import InputError, MeasurementError, ModelError
from atm_search.measure.evaluator import Answers, Evaluator, check_varied
from atm_search.measure.measurement import Measurement
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Race, RaceRules, Rival
from atm_search.merging.tome import Tome
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, load_model

METHOD = Tome(r=6)


@pytest.fixture(scope="module", name="backbone")
def _backbone(tiny_checkpoint: Path) -> LoadedModel:
    return load_model("test_vit", checkpoint=tiny_checkpoint, device="cpu", headless=True)


@pytest.fixture(scope="module", name="evaluator")
def _evaluator(backbone: LoadedModel, tiny_shard: Shard) -> Evaluator:
    return Evaluator(backbone, tiny_shard.first(20), batch_size=8)


def test_the_feature_is_that_of_timm_without_a_head(
    backbone: LoadedModel, tiny_model: LoadedModel, tiny_checkpoint: Path, tiny_shard: Shard
) -> None:
    own = timm.create_model("test_vit", num_classes=0).eval()
    state = {k: v for k, v in load_file(tiny_checkpoint).items() if not k.startswith("head.")}
    own.load_state_dict(state)
    images = backbone.prepare(tiny_shard.images[:3])
    with torch.inference_mode():
        assert torch.equal(backbone.network(images), own(images))
        whole = tiny_model.network
        pooled = whole.forward_head(whole.forward_features(images), pre_logits=True)
        assert torch.equal(backbone.network(images), pooled)
    assert not backbone.has_head
    assert backbone.weights_digest != tiny_model.weights_digest


def test_the_distance_is_one_minus_the_cosine(
    evaluator: Evaluator, backbone: LoadedModel, tiny_shard: Shard
) -> None:
    measured = evaluator.measure(METHOD)
    dense, merged = [], []
    with torch.inference_mode():
        for start in (0, 8, 16):
            images = backbone.prepare(tiny_shard.images[start : min(start + 8, 20)])
            dense.append(backbone.network(images).double())
            merged.append(run(backbone.network, METHOD, images).logits.double())
    expected = 1.0 - torch.cosine_similarity(torch.cat(dense), torch.cat(merged))
    assert measured.feature == pytest.approx(float(expected.mean()), rel=1e-4)
    assert measured.feature_se == pytest.approx(float(expected.std() / 20**0.5), rel=1e-3)
    assert (measured.kl, measured.agreements, measured.top1_hits) == (None, None, None)
    assert measured.distance == measured.feature
    assert evaluator.measure(None).feature == 0.0
    assert evaluator.measure(Tome(r=0)).feature == 0.0


def test_weights_without_a_head_give_a_model_without(
    tiny_checkpoint: Path, backbone: LoadedModel, tmp_path: Path
) -> None:
    state = {k: v for k, v in load_file(tiny_checkpoint).items() if not k.startswith("head.")}
    save_file(state, tmp_path / "backbone.safetensors")
    found = load_model("test_vit", checkpoint=tmp_path / "backbone.safetensors", device="cpu")
    assert not found.has_head
    assert found.weights_digest == backbone.weights_digest
    with pytest.raises(ModelError, match="no pooled feature"):
        load_model("dinov2_s", checkpoint=tiny_checkpoint, headless=True)


def test_a_race_goes_by_the_feature(evaluator: Evaluator) -> None:
    own = Race()
    full = evaluator.measure(METHOD, race=own)
    assert own.outcomes.hits is None
    assert float(own.outcomes.distances.mean(dtype=float)) == pytest.approx(full.feature, rel=0.01)
    near = Outcomes.of(None, own.outcomes.distances.astype(float) / 50, [0.0] * 3)
    race = Race([Rival(7, near)], RaceRules("feature"))
    part = evaluator.measure(METHOD, race=race)
    assert race.stopped_by == 7
    assert part.images < 20


def test_serialised_measurements_stay_readable_both_ways(
    evaluator: Evaluator, tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    of_feature = evaluator.measure(METHOD)
    assert Measurement.from_dict(of_feature.to_dict()) == of_feature
    of_classes = Evaluator(tiny_model, tiny_shard.first(8), batch_size=8).measure(METHOD)
    before = {  # as the version before there were features wrote it
        "images", "top1_hits", "top5_hits", "dense_top1_hits", "dense_top5_hits", "lost", "gained",
        "agreements", "kl", "kl_se", "gflops", "dense_gflops", "matching_gflops",
        "tokens_per_layer", "seconds",
    }  # fmt: skip
    assert set(of_classes.to_dict()) == before
    assert Measurement.from_dict(of_classes.to_dict()) == of_classes
    with pytest.raises(InputError, match="check: flavour"):
        Measurement.from_dict(of_classes.to_dict() | {"flavour": 1})
    with pytest.raises(InputError, match="check: kl"):
        Measurement.from_dict({k: v for k, v in of_classes.to_dict().items() if k != "kl"})
    with pytest.raises(MeasurementError, match="Give either agreements, kl"):
        replace(of_classes, kl=None)


def test_a_constant_feature_is_refused(evaluator: Evaluator) -> None:
    check_varied(evaluator.dense())
    with pytest.raises(MeasurementError, match="same output for all of 4 images"):
        check_varied(Answers.score(torch.ones(4, 9), None, has_head=False))


def test_answers_are_told_beside_the_dense_ones(tiny_model: LoadedModel, tiny_shard: Shard) -> None:
    agreed: list[bool] = []

    def on_answers(ours: Answers, dense: Answers) -> None:
        same = ours.agrees(dense)
        assert same is not None
        agreed.extend(same.tolist())

    evaluator = Evaluator(tiny_model, tiny_shard, batch_size=16)
    measured = evaluator.measure(METHOD, on_answers=on_answers)
    assert (len(agreed), sum(agreed)) == (measured.images, measured.agreements)
