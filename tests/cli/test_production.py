"""From a finished search to production, as a person goes: export, verify, freeze, ONNX."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from atm_search.cli.main import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", name="searched")
def _searched(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a finished search of the tiny model."""
    root = tmp_path_factory.mktemp("searched")
    rng = np.random.default_rng(0)
    for number in range(40):
        grain = 4 if number % 2 else 64
        pixels = rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
        path = root / "images" / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).resize((180, 160)).save(path)
    words = ["start", "--model", "test_vit", "--checkpoint", tiny_checkpoint]
    words += ["--data", root / "images", "--batch-size", 16, "--sampler", "random", "--seed", 3]
    words += [
        "--dtype",
        "float32",
        "--trials",
        6,
        "--storage",
        root / "atm-search.db",
        "--study",
        "tiny",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["atm-search", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
    assert not caught.value.code
    return root


@pytest.fixture(name="best")
def _best(cli: Cli, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration with the most top-1, in a file."""
    monkeypatch.setenv("ATM_SEARCH_STORAGE", str(searched / "atm-search.db"))
    assert cli("export", "--pick", "budget:99", "-o", "best.yaml")[0] == 0
    return tmp_path / "best.yaml"


def test_export_picks_by_a_rule_and_says_so_in_the_file(cli: Cli, best: Path) -> None:
    content = yaml.safe_load(best.read_text())
    assert content["pick"]["rule"] == "budget:99"
    assert "at 99 GFLOPs or less" in content["pick"]["reason"]
    number = content["study"]["trial"]
    assert cli("export", "--pick", f"trial:{number}", "-o", "same.yml")[0] == 0
    same = yaml.safe_load(Path("same.yml").read_text())
    assert same["measurement"] == content["measurement"]
    code, out, _ = cli("export", "--pick", "knee", "-o", "picked")
    assert code == 0
    assert Path(out.strip()).parent == Path("picked")
    code, _, err = cli("export", "--pick", "lossless", "--tolerance", 100, "-o", "picked")
    assert code == 0 or "No configuration is lossless" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pick", "best"], "No rule 'best' to pick by. Known: lossless, knee,"),
        (["--pick", "budget:0.0001"], "costs 0.0001 GFLOPs or less: the cheapest, trial"),
        (["--pick", "trial:77"], "Trial 77 has no measurement"),
        (["--pick", "knee", "--tolerance", "1"], "--tolerance goes with --pick lossless"),
        (["-o", "all.yaml"], "is one file: say which configuration with --pick"),
    ],
)
def test_export_refuses_what_it_cannot_pick(
    cli: Cli, best: Path, words: list[str], said: str
) -> None:
    code, _, err = cli("export", *words)
    assert code == 2
    assert said in err


def test_verify_passes_on_what_export_wrote_and_fails_after_an_edit(cli: Cli, best: Path) -> None:
    code, out, _ = cli("verify", best, "--batch-size", "1,16", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["holds"]
    assert [row["batch_size"] for row in found["batch_sizes"]] == [1, 16]
    assert found["batch_sizes"][1]["gflops"] == found["measured"]["gflops"]
    content = yaml.safe_load(best.read_text())
    tau_min = content["method"]["params"]["tau_min"]
    best.write_text(best.read_text().replace(f"tau_min: {tau_min}", "tau_min: 0.5"))
    code, out, _ = cli("verify", best)
    assert code == 1
    assert "does not hold" in out
    assert "differs" in out
    assert "Edited: method.thresholds is" in out
    assert cli("freeze", best)[0] == 2


def test_verify_on_other_images_says_by_which_rule(cli: Cli, best: Path, searched: Path) -> None:
    code, out, _ = cli("verify", best, "--data", searched / "images", "--images", 30)
    assert code in (0, 1)
    assert "Rule: on other images" in out
    assert cli("verify", best, "--batch-size", "8,x")[0] == 2


def test_verify_in_another_precision_says_by_which_rule(cli: Cli, best: Path) -> None:
    code, out, _ = cli("verify", best, "--dtype", "bfloat16")
    assert code in (0, 1)
    assert "another dtype (bfloat16, not float32)" in " ".join(out.split())
    code, out, _ = cli("verify", best, "--dtype", "auto")
    assert code in (0, 1)
    assert "Rule: on the same images" in out
    code, _, err = cli("verify", best, "--dtype", "int8")
    assert code == 2
    assert "dtype 'int8' is not known" in err


def test_a_frozen_configuration_becomes_an_onnx_model(cli: Cli, best: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    code, _, err = cli("export-onnx", best)
    assert code == 2
    assert "`atm-search freeze` it first" in err
    code, out, _ = cli("freeze", best, "--json")
    assert code == 0
    frozen = json.loads(out)
    assert frozen["file"] == "best-frozen.yaml" or frozen["file"].endswith("/best-frozen.yaml")
    assert frozen["method"] == "fixed"
    before = yaml.safe_load(best.read_text())["measurement"]["gflops"]
    assert frozen["gflops"] == pytest.approx(before, rel=0.01)
    assert cli("verify", frozen["file"])[0] == 0
    code, out, err = cli("export-onnx", frozen["file"], "-o", "model.onnx")
    assert (code, out.strip()) == (0, "model.onnx")
    assert "float32 [batch, 3, 160, 160]" in err
    assert "ONNX Runtime gives PyTorch's logits within" in err
    assert Path("model.onnx").stat().st_size > 1000
    code, _, err = cli("freeze", frozen["file"])
    assert code == 2
    assert "Nothing to freeze" in err


def test_other_weights_are_refused_unless_forced(
    cli: Cli, best: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(tiny_checkpoint)
    state["head.bias"] = state["head.bias"] + 1
    save_file(state, tmp_path / "other.safetensors")
    code, _, err = cli("verify", best, "--checkpoint", tmp_path / "other.safetensors")
    assert code == 2
    assert "are not those that were measured" in err
    code, _, err = cli("verify", best, "--checkpoint", tmp_path / "other.safetensors", "--force")
    assert code in (0, 1)
    assert "are of other weights" in err


@pytest.mark.parametrize("command", ["export", "verify", "freeze", "export-onnx"])
def test_help_has_an_example(cli: Cli, command: str) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert f"Example: atm-search {command}" in out
