"""The naive loop of the benchmarks, written apart, gives the numbers that ours gives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from atm_search.measure.evaluator import Evaluator
from atm_search.measure.setup import open_shard
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method
from atm_search.merging.tome import Tome
from atm_search.models.zoo import load_model

NAIVE = Path(__file__).resolve().parents[2] / "benchmarks" / "naive.py"


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of two images, smooth ones so that tokens are alike, and a checkpoint."""
    root = tmp_path_factory.mktemp("naive")
    generator = np.random.default_rng(0)
    for number in range(20):
        name = root / "images" / f"class{number % 10}" / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((180, 180), Image.Resampling.BILINEAR).save(name)
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=10)
    save_file(network.state_dict(), root / "test_vit.safetensors")
    return root


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (
            Atm(tau0=0.95, alpha=0.05, tau_min=0.7, split_depth=3),
            "--tau0 0.95 --alpha 0.05 --tau-min 0.7 --split 3",
        ),
        (Tome(r=8), "--r 8"),
    ],
    ids=["atm", "tome"],
)
def test_the_naive_loop_and_ours_give_the_same_numbers(
    folder: Path, method: Method, options: str
) -> None:
    checkpoint = folder / "test_vit.safetensors"
    model = load_model("test_vit", checkpoint=checkpoint, device="cpu")
    shard = open_shard(model, data=folder / "images")
    ours = Evaluator(model, shard, batch_size=8).measure(method)
    (folder / "names.txt").write_text("\n".join(shard.names))
    command = [sys.executable, str(NAIVE), "--data", shard.source, "--model", "test_vit"]
    command += ["--names", str(folder / "names.txt"), "--checkpoint", str(checkpoint)]
    command += ["--num-classes", "10", "--batch-size", "8", "--workers", "0", *options.split()]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    naive = json.loads(ran.stdout)["trial"]
    assert ours.gflops < ours.dense_gflops
    assert naive["images"] == ours.images
    assert naive["top1_hits"] == ours.top1_hits
    assert naive["gflops"] == pytest.approx(ours.gflops, rel=1e-12)
