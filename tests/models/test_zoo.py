"""Loading real files: wherever weights come from, and what a wrong one is told."""

import argparse
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from atm_search.errors import CheckpointError, ModelError, ParameterError
from atm_search.models.recipes import RECIPES
from atm_search.models.reduction import reads_prefix_only
from atm_search.models.zoo import load_model


@pytest.fixture(name="state")
def _state(tiny_checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(tiny_checkpoint)


def test_all_ways_to_the_same_weights_give_the_same_digest(
    tiny_checkpoint: Path,
    state: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = load_model("test_vit", checkpoint=tiny_checkpoint).weights_digest
    bare, wrapped = tmp_path / "bare.pth", tmp_path / "wrapped.pth"
    torch.save(state, bare)
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, wrapped)
    assert load_model("test_vit", checkpoint=bare).weights_digest == digest
    assert load_model("test_vit", checkpoint=wrapped).weights_digest == digest
    monkeypatch.setenv("ATM_SEARCH_CHECKPOINTS", str(tiny_checkpoint.parent))
    model = load_model("test_vit")
    assert model.weights_digest == digest
    assert model.weights_source == str(tiny_checkpoint)
    assert model.name == "test_vit.r160_in1k"
    assert model.num_classes == 10  # the head of the file decides


def test_other_weights_give_another_digest(
    tiny_checkpoint: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state["head.bias"][3] += 1e-6
    save_file(state, tmp_path / "other.safetensors")
    other = load_model("test_vit", checkpoint=tmp_path / "other.safetensors")
    assert other.weights_digest != load_model("test_vit", checkpoint=tiny_checkpoint).weights_digest


def test_the_hub_cache_serves_a_model_offline(tmp_path: Path) -> None:
    """A cache as huggingface_hub lays it out, made by hand, and a process without network."""
    torch.manual_seed(0)
    repository = tmp_path / "models--timm--test_vit.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(timm.create_model("test_vit").state_dict(), snapshot / "model.safetensors")
    script = (
        "from atm_search.models.zoo import load_model;"
        "m = load_model('test_vit'); print(m.name, m.weights_source, m.num_classes)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "test_vit.r160_in1k timm hub 1000"


def test_weights_that_are_nowhere_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    script = (
        "from atm_search.models.zoo import load_model\n"
        "try: load_model('deit_t')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("ATM_SEARCH_CHECKPOINTS", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("CheckpointError No weights for 'deit_tiny_patch16_224.fb_in1k'")
    assert "ATM_SEARCH_CHECKPOINTS is not set. Pass --checkpoint FILE." in done.stdout


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_without_weights_on_the_hub_says_where_they_are_published(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATM_SEARCH_CHECKPOINTS", raising=False)
    words = f"No weights for '{name}': .* is not set. Pass --checkpoint FILE. Official: .*"
    with pytest.raises(CheckpointError, match=words + re.escape(RECIPES[name].repository)):
        load_model(name)
    monkeypatch.setenv("ATM_SEARCH_CHECKPOINTS", str(tmp_path))
    with pytest.raises(CheckpointError, match=f"holds no {name}.safetensors or "):
        load_model(name)


@pytest.mark.parametrize("file", ["lvvit_t.safetensors", "lvvit_t.pth"])
def test_a_folder_of_checkpoints_may_hold_ours_or_the_official_file(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = RECIPES["lvvit_t"].build(num_classes=10).state_dict()
    if file.endswith("pth"):
        torch.save({"state_dict": state, "args": argparse.Namespace(lr=0.1)}, tmp_path / file)
    else:
        save_file(state, tmp_path / file)
    monkeypatch.setenv("ATM_SEARCH_CHECKPOINTS", str(tmp_path))
    model = load_model("lvvit_t", device="cpu")
    assert (model.name, model.depth, model.num_classes) == ("lvvit_t", 12, 10)
    assert model.weights_source == str(tmp_path / file)


def test_preprocessing_is_that_of_the_official_evaluation() -> None:
    crops = {name: recipe.preprocessing.crop_pct for name, recipe in RECIPES.items()}
    assert {name for name, crop in crops.items() if crop == 1.0} == {"lvvit_m", "lvvit_m_cls"}
    assert {crops[name] for name in crops if "mae" in name or "dinov2" in name} == {0.875}
    assert {crops[name] for name in ("lvvit_t", "lvvit_s", "t2t_vit_14", "t2t_vit_19")} == {0.9}


def test_proportional_attention_is_off_for_mae_alone(tmp_path: Path) -> None:
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    tiny = replace(RECIPES["mae_b"], build=partial(RECIPES["mae_b"].build, **small))
    torch.save({"model": tiny.build().state_dict()}, tmp_path / "mae.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "mae_b", tiny)
        model = load_model("mae_b", checkpoint=tmp_path / "mae.pth", device="cpu")
    assert not model.prop_attn
    assert not reads_prefix_only(model.network)
    assert load_model("demo", device="cpu").prop_attn


def test_deit_3_takes_the_official_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = timm.create_model("deit3_small_patch16_224", num_classes=10).state_dict()
    official = {re.sub(r"ls(\d).gamma", r"gamma_\1", name): x for name, x in expected.items()}
    assert official.keys() != expected.keys()
    torch.save({"model": official}, tmp_path / "deit_3_small_224_1k.pth")
    model = load_model(
        "deit3_small_patch16_224", checkpoint=tmp_path / "deit_3_small_224_1k.pth", device="cpu"
    )
    assert all(torch.equal(x, expected[name]) for name, x in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("diet_small_patch16_224", "Nearest: deit_small_patch16_224"),
        ("zzz", "Use deit_t, deit_s, deit_b, demo, .*lvvit_s, .* or a timm VisionTransformer"),
        ("lvit_s", "Nearest: lvvit_s"),
        ("deit_tiny_patch16_224.nope", "Invalid pretrained tag"),
        ("test_resnet", "ResNet is no timm VisionTransformer"),
    ],
)
def test_unknown_and_unfit_models_are_refused(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(name)


def test_wrong_weights_are_refused_key_by_key(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    del state["blocks.0.attn.qkv.weight"]
    state["surprise"] = torch.zeros(1)
    state["norm.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_model("test_vit", checkpoint=tmp_path / "wrong.safetensors")
    message = str(caught.value)
    assert "1 missing (blocks.0.attn.qkv.weight)" in message
    assert "1 unexpected (surprise)" in message
    assert "1 of another shape (norm.bias [3] instead of [64])" in message


def test_weights_for_another_image_size_are_not_resampled_in_silence(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state["pos_embed"] = torch.zeros(1, 197, 64)
    save_file(state, tmp_path / "larger.safetensors")
    with pytest.raises(CheckpointError, match="made for 197 positions"):
        load_model("test_vit", checkpoint=tmp_path / "larger.safetensors")


def test_a_file_that_could_run_code_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"model": subprocess.Popen}, path)
    with pytest.raises(CheckpointError, match="could run code of its author"):
        load_model("test_vit", checkpoint=path)


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="No checkpoint file at"):
        load_model("test_vit", checkpoint=path)
    path.write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match=name):
        load_model("test_vit", checkpoint=path)


def test_crop_pct_overrides_the_models_own(tiny_checkpoint: Path) -> None:
    model = load_model("test_vit", checkpoint=tiny_checkpoint, crop_pct=0.875)
    assert model.preprocessing.crop_pct == 0.875
    with pytest.raises(ParameterError, match=r"crop_pct=1.5"):
        load_model("test_vit", checkpoint=tiny_checkpoint, crop_pct=1.5)


@pytest.mark.parametrize("option", [{"device": "cuda:99"}, {"device": "abacus"}, {"dtype": "int8"}])
def test_unusable_devices_and_dtypes_are_refused(
    tiny_checkpoint: Path, option: dict[str, str]
) -> None:
    with pytest.raises(ParameterError, match=next(iter(option.values()))):
        load_model("test_vit", checkpoint=tiny_checkpoint, **option)


def test_the_demo_model_is_part_of_the_package() -> None:
    model = load_model("demo", device="cpu")
    assert model.weights_source == "built in"
    assert (model.depth, model.num_classes) == (12, 10)
    tokens = model.network.patch_embed.num_patches + model.network.num_prefix_tokens
    assert tokens == 197
