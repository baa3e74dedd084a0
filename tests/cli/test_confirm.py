"""Confirmation as a person runs it, on the built-in model and on a folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """40 pictures in ten class folders."""
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = tmp_path / "images" / f"class{number % 10}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).resize((160, 160)).save(path)
    return tmp_path / "images"


@pytest.fixture(name="model")
def _model(tiny_checkpoint: Path, folder: Path) -> list[object]:
    model = ["--model", "test_vit", "--checkpoint", tiny_checkpoint, "--data", folder]
    return [*model, "--batch-size", 10, "--dtype", "float32", "--sampler", "random", "--seed", 1]


def test_the_demo_is_confirmed_on_the_images_that_follow_those_of_the_search(cli: Cli) -> None:
    start = ["start", "--images", 40, "--batch-size", 20, "--trials", 3, "--sampler", "random"]
    assert cli(*start, "--seed", 2, "--dtype", "float32")[0] == 0
    code, out, said = cli("confirm", "--images", 30, "--json")
    assert code == 0, said
    assert "Confirm 30 images" in said
    found = json.loads(out)
    assert found["images"]["count"] == 30
    assert found["dense"]["search"]["images"] == 40
    for point in found["points"]:
        search, confirmed = point["search"], point["confirmed"]
        assert (search["images"], confirmed["images"]) == (40, 30)
        assert point["bias"] == pytest.approx(search["delta_top1"] - confirmed["delta_top1"])
    mean = sum(point["bias"] for point in found["points"]) / len(found["points"])
    assert found["bias"]["top1"] == pytest.approx(mean)
    low, high = found["bias"]["top1_ci95"]
    assert low < mean < high
    code, out, _ = cli("confirm", "--images", 30)
    assert code == 0
    assert f"{mean:+.2f} points" in " ".join(out.split())
    code, _, said = cli("confirm", "--images", 5000)
    assert (code, "5,000 validation images" in said) == (2, True)


def test_the_rest_of_a_folder_confirms_and_is_kept_in_the_study(
    cli: Cli, model: list[object], folder: Path
) -> None:
    assert cli("start", *model, "--images", 20, "--trials", 3)[0] == 0
    code, out, said = cli("confirm", "--json")
    assert code == 0, said
    found = json.loads(out)
    assert found["images"]["count"] == 20
    again = json.loads(cli("confirm", "--data", folder, "--json")[1])
    assert again == found  # kept, to the seconds that it took, and the same images by another way
    other = json.loads(cli("confirm", "--images", 10, "--json")[1])
    assert other["images"]["count"] == 10
    assert other["images"]["shard_digest"] != found["images"]["shard_digest"]


def test_confirmed_figures_are_shown_beside_the_search_s_and_exported(
    cli: Cli, model: list[object]
) -> None:
    assert cli("start", *model, "--images", 20, "--trials", 4)[0] == 0
    export = ["export", "--pick", "knee", "-o", "knee.yaml"]
    code, _, said = cli(*export)
    assert code == 0
    assert "Judged by the search's own figures, which flatter" in said
    content = yaml.safe_load(Path("knee.yaml").read_text())
    assert "flatter" in content["pick"]["judged_by"]
    assert "confirmation" not in content
    code, _, said = cli("verify", "knee.yaml", "--confirmed")
    assert (code, "no confirmed figures" in said) == (2, True)
    confirmed = json.loads(cli("confirm", "--json")[1])
    code, _, said = cli(*export)
    assert code == 0
    assert "Judged by confirmed figures, of 20 images that the search did not use." in said
    content = yaml.safe_load(Path("knee.yaml").read_text())
    [point] = [p for p in confirmed["points"] if p["trial"] == content["study"]["trial"]]
    section = content["confirmation"]
    assert section["data"]["sha256"] == confirmed["images"]["shard_digest"]
    assert (section["data"]["images"], section["data"]["after"]) == (20, 20)
    assert section["summary"]["top1"] == pytest.approx(point["confirmed"]["top1"])
    assert section["summary"]["delta_ci95"] == pytest.approx(
        point["confirmed"]["delta_ci95"], abs=1e-4
    )
    assert "confirmed figures" in content["pick"]["judged_by"]
    assert cli("verify", "knee.yaml", "--confirmed")[0] == 0
    assert cli("verify", "knee.yaml")[0] == 0
    assert cli("export", "-o", "all")[0] == 0  # all of the frontier: nothing is judged
    files = [yaml.safe_load(file.read_text()) for file in Path("all").iterdir()]
    assert len(files) == len(confirmed["points"])
    assert all("confirmation" in file and "judged_by" not in file["pick"] for file in files)
    summary = json.loads(cli("frontier", "--json")[1])
    for row, point in zip(summary["frontier"], confirmed["points"], strict=True):
        assert row["confirmed"]["top1"] == point["confirmed"]["top1"]
        assert row["top1"] == point["search"]["top1"]
    assert "Confirmed: the change on 20 images" in " ".join(cli("frontier")[1].split())
    assert cli("report", "-o", "report.csv")[0] == 0
    assert "confirmed_ci95_high" in Path("report.csv").read_text().splitlines()[0]
    assert cli("report", "-o", "report.html")[0] == 0
    page = Path("report.html").read_text()
    assert "confirmed change, other images" in page
    assert "The picks are judged by confirmed figures" in page


def test_a_search_on_all_images_leaves_none_to_confirm_on(cli: Cli, model: list[object]) -> None:
    assert cli("start", *model, "--trials", 1)[0] == 0
    code, _, said = cli("confirm")
    assert code == 2
    assert "none is left to confirm on: give other images with --data" in said


def test_images_that_the_search_used_confirm_nothing(
    cli: Cli, model: list[object], folder: Path, tmp_path: Path
) -> None:
    assert cli("start", *model, "--images", 20, "--trials", 1)[0] == 0
    copies = tmp_path / "copies"
    shutil.copytree(folder, copies)
    for file in copies.rglob("*.png"):
        file.rename(file.with_name(f"renamed{file.name}"))  # names do not matter
    code, _, said = cli("confirm", "--data", copies)
    assert code == 2
    assert "20 of 40 images of" in said
    assert "are among the 20 that the search chose by" in said


def test_what_cannot_be_confirmed_is_said(
    cli: Cli, model: list[object], folder: Path, tmp_path: Path
) -> None:
    assert cli("confirm")[0] == 2
    assert cli("start", *model, "--images", 20, "--trials", 1)[0] == 0
    folder.rename(tmp_path / "elsewhere")
    code, _, said = cli("confirm", "--data", tmp_path / "elsewhere")
    assert code == 2
    assert "No images to measure test_vit" in said
