"""Images without labels and models without a classifier head, from search to deployment."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import atm_search

Cli = Callable[..., tuple[int, str, str]]
TRIALS = 5


@pytest.fixture(name="flat")
def _flat(tmp_path: Path) -> Path:
    """24 pictures of which nobody knows the classes."""
    rng = np.random.default_rng(0)
    (tmp_path / "logs").mkdir()
    for number in range(24):
        pixels = rng.integers(0, 256, (5 + number % 3, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 160)).save(tmp_path / "logs" / f"{number}.png")
    return tmp_path / "logs"


@pytest.fixture(name="search")
def _search(tiny_checkpoint: Path, flat: Path) -> list[object]:
    model = ["start", "--model", "test_vit", "--checkpoint", tiny_checkpoint, "--data", flat]
    model += ["--images", 12, "--batch-size", 4, "--dtype", "float32", "--sampler", "random"]
    return [*model, "--seed", 1, "--trials", TRIALS, "--no-racing"]


def done(answer: tuple[int, str, str]) -> str:
    code, out, said = answer
    assert code == 0, said
    return out


@pytest.mark.parametrize(
    ("objectives", "score"), [("kl,gflops", "kl"), ("feature,gflops", "feature")]
)
def test_what_needs_no_labels_works_without(
    cli: Cli, search: list[object], tmp_path: Path, objectives: str, score: str
) -> None:
    done(cli(*search, "--objectives", objectives))
    summary = json.loads(done(cli("frontier", "--with-dominated", "-o", "frontier.html", "--json")))
    points = summary["frontier"]
    assert summary["objectives"] == objectives
    assert [point[score] for point in points] == sorted(p[score] for p in points)[::-1]
    assert (summary["dense"]["top1"], summary["kl_to_top1"]) == (None, None)
    page = Path("frontier.html").read_text()
    assert "standard error" in page
    assert '"text":"lossless"' not in page

    done(cli("report", "-o", "report.html"))
    data = re.findall(r'id="data">(.*?)</script>', Path("report.html").read_text(), re.S)[0]
    assert "fidelity" not in json.loads(data)["figures"]
    assert not re.search(r"\bnan\b|NaN", data)
    done(cli("report", "-o", "report.csv"))
    with Path("report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row[score]) for row in rows] == [row[score] for row in summary["measured"]]
    assert {row["top1"] for row in rows} == {""}

    best = points[0]["trial"]
    shown = json.loads(done(cli("show", best, "--json")))
    assert shown["standing"].startswith("On the frontier")
    for trial in range(TRIALS):
        assert "top-1" not in done(cli("show", trial)).replace("unknown", "").replace(
            "top-1   ", ""
        )
    assert "knee" in done(cli("status"))

    compared = json.loads(done(cli("compare", "--at", points[-1]["gflops"] + 1, "--json")))
    assert compared["by"] == score
    assert compared["methods"][0]["at"][0][score] == min(point[score] for point in points)
    assert "without loss" not in done(cli("compare"))

    confirmed = json.loads(done(cli("confirm", "--json")))
    assert confirmed["images"]["count"] == 12
    bias = [point["confirmed"][score] - point["search"][score] for point in confirmed["points"]]
    assert [point["bias"] for point in confirmed["points"]] == pytest.approx(bias)
    assert confirmed["bias"][score] == pytest.approx(sum(bias) / len(bias))
    assert "flatters" in done(cli("confirm"))


def test_a_model_is_searched_without_its_head_and_deployed_so(
    cli: Cli, search: list[object], tiny_model: object
) -> None:
    done(cli(*search[:-1], "--objectives", "feature,gflops", "--race-on", "feature"))
    file = Path(done(cli("export", "--pick", "knee", "-o", "best.yaml")).strip())
    text = file.read_text()
    assert "headless: true" in text
    assert "pooled feature at cosine distance" in text
    done(cli("verify", file, "--batch-size", "4,12"))
    evaluated = json.loads(done(cli("evaluate", "--config", file, "--json")))
    assert evaluated["kl"] is None
    assert yaml.safe_load(text)["measurement"]["feature"] == pytest.approx(evaluated["feature"])
    model = atm_search.load(file, device="cpu")
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 160, 160)).shape == (2, model.network.embed_dim)


def test_weights_without_a_head_ask_for_the_objectives_that_need_none(
    cli: Cli, search: list[object], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    state = {k: v for k, v in load_file(tiny_checkpoint).items() if not k.startswith("head.")}
    save_file(state, tmp_path / "backbone.safetensors")
    search[search.index(tiny_checkpoint)] = tmp_path / "backbone.safetensors"
    code, _, said = cli(*search)
    assert code == 2
    assert "no classifier head" in said
    assert "--objectives feature,gflops" in said
    done(cli(*search, "--objectives", "feature,gflops"))
    code, _, said = cli(*search[:-1], "--objectives", "feature,gflops", "--race-on", "kl")
    assert (code, "use --race-on feature" in said) == (2, True)


def test_a_head_of_its_own_kind_leaves_no_feature(cli: Cli, tiny_checkpoint: Path) -> None:
    start = ["start", "--model", "lvvit_s", "--checkpoint", tiny_checkpoint]
    code, _, said = cli(*start, "--objectives", "feature,gflops")
    assert code == 2
    assert "no pooled feature" in said


def test_labels_of_another_set_are_refused_with_what_does_without(
    cli: Cli, search: list[object], flat: Path, tmp_path: Path
) -> None:
    for number, file in enumerate(sorted(flat.iterdir())):
        (tmp_path / "other" / f"{20 + number % 4}").mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "other" / f"{20 + number % 4}" / file.name)
    search[search.index(flat)] = tmp_path / "other"
    code, _, said = cli(*search)
    assert code == 2
    assert "labels the model has no class for" in said
    assert "--objectives kl,gflops" in said
    code, _, said = cli(*search, "--objectives", "kl,gflops")
    assert (code, "Labels none" in said) == (0, True)


def test_a_model_that_says_the_same_of_all_images_is_refused(
    cli: Cli, search: list[object], flat: Path
) -> None:
    """Here because all the images are the same one."""
    first, *others = sorted(flat.iterdir())
    for other in others:
        other.write_bytes(first.read_bytes())
    code, _, said = cli(*search, "--objectives", "kl,gflops")
    assert code == 1, said
    assert "gives the same output for all of 12 images" in " ".join(said.split())
