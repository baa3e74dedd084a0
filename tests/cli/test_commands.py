"""The commands as a person runs them, on a small model and real files."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atm_search.cli.main import main

EVALUATE_KEYS = {
    "model",
    "images",
    "top1",
    "top5",
    "dense_top1",
    "delta_top1",
    "delta_ci95",
    "agreement",
    "kl",
    "kl_se",
    "gflops",
    "dense_gflops",
    "matching_gflops",
    "tokens_per_layer",
    "images_per_second",
    "seconds",
}


class Cli:
    """Runs a command in this process and keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self.monkeypatch.setattr(sys, "argv", ["atm-search", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        self.out, self.err = self.capfd.readouterr()
        return int(caught.value.code or 0)


@pytest.fixture(name="cli")
def _cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    for name in ("ATM_SEARCH_STORAGE", "ATM_SEARCH_DATA", "ATM_SEARCH_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capfd)


@pytest.fixture(scope="session", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 JPEGs in ten class folders, some smooth and some noisy."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(40):
        grain = 4 if number % 2 else 64
        pixels = rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
        path = root / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((180, 160)).save(path)
    return root


@pytest.fixture(name="model")
def _model(tiny_checkpoint: Path, folder: Path) -> list[object]:
    return ["--model", "test_vit", "--checkpoint", tiny_checkpoint, "--data", folder]


def test_the_main_job_from_search_to_yaml_and_back(cli: Cli, model: list[object]) -> None:
    search = ["start", *model, "--batch-size", 16, "--sampler", "tpe", "--seed", 3]
    assert cli(*search, "--trials", 6, "--json") == 0
    started = json.loads(cli.out)
    assert "[6/6] trial" in cli.err
    assert cli(*search, "--trials", 6) == 0
    assert "] trial" not in cli.err  # nothing left to do
    assert cli(*search, "--trials", 8) == 0
    assert "[8/8] trial" in cli.err
    assert "[6/8]" not in cli.err

    assert cli("frontier", "--json") == 0
    frontier = json.loads(cli.out)
    assert started["dense"] == frontier["dense"]
    kinds = frontier["trials"]
    assert kinds["full"] + kinds["raced"] + kinds["reused"] == 8
    assert kinds["images"] <= 8 * 40
    gflops = [point["gflops"] for point in frontier["frontier"]]
    assert gflops == sorted(gflops)
    assert cli("frontier") == 0
    assert all(f"{value:.4f}" in cli.out for value in gflops)

    assert cli("export", "-o", "out") == 0
    files = [Path(line) for line in cli.out.splitlines()]
    assert sorted(files) == sorted(Path("out").iterdir())
    assert len(files) == len(gflops)
    for file, point in zip(files, frontier["frontier"], strict=True):
        assert cli("evaluate", "--config", file, "--json") == 0
        again = json.loads(cli.out)
        timed = {"images_per_second", "seconds"}
        assert {k: v for k, v in again.items() if k not in {"model", *timed}} == {
            k: v for k, v in point.items() if k not in {"trial", "confirmed", *timed}
        }


def test_images_without_labels_are_searched_by_kl_from_start_to_yaml(
    cli: Cli, model: list[object], folder: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "logs"
    flat.mkdir()
    for file in list(folder.rglob("*.jpg"))[:12]:
        (flat / file.name).write_bytes(file.read_bytes())
    search = ["start", *model[:-1], flat, "--trials", 4, "--sampler", "random", "--seed", 0]
    assert cli(*search) == 2
    assert "--objectives kl,gflops" in cli.err
    assert cli(*search, "--objectives", "kl,gflops") == 0
    assert "Optimise KL divergence" in cli.err
    assert "top-1" not in cli.out.replace("needs no labels", "")
    assert cli(*search, "--json") == 0  # the study keeps what it began with
    summary = json.loads(cli.out)
    assert summary["objectives"] == "kl,gflops"
    assert set(summary["reference_point"]) == {"kl", "gflops"}
    assert all(point["top1"] is None for point in summary["frontier"])
    assert cli("export", "-o", "out") == 0
    file = cli.out.splitlines()[0]
    assert "objectives: kl,gflops" in Path(file).read_text()
    assert cli("verify", file) == 0
    assert cli("export", "-o", "best.yaml", "--pick", "lossless") == 2


def test_evaluate_prints_all_that_is_promised(cli: Cli, model: list[object]) -> None:
    point = ["--tau0", 0.95, "--alpha", 0.05, "--tau-min", 0.5, "--split", 3]
    assert cli("evaluate", *model, *point, "--json") == 0
    figures = json.loads(cli.out)
    assert set(figures) >= EVALUATE_KEYS
    assert figures["gflops"] < figures["dense_gflops"]
    assert cli("evaluate", *model, *point) == 0
    assert f"{figures['gflops']:.4f}" in cli.out
    assert cli("evaluate", *model, "--dense", "--json") == 0
    assert json.loads(cli.out)["delta_top1"] == 0.0
    assert cli("evaluate", *model, "--method", "tome", "--r", 8, "--json") == 0
    assert json.loads(cli.out)["tokens_per_layer"][0] == 93  # 101 tokens, 8 of them merged


def test_a_study_keeps_its_precision_when_nobody_says(cli: Cli, model: list[object]) -> None:
    """Also where another would be chosen now: on another machine, or after a change of mind."""
    search = ["start", *model, "--sampler", "random", "--trials"]
    assert cli(*search, 1, "--dtype", "float16") == 0
    assert "Dtype" not in cli.err
    assert cli(*search, 2) == 0
    assert "batch size 100, float16, cpu" in cli.err
    assert cli(*search, 2, "--dtype", "auto") == 0
    assert cli("worker") == 0
    assert cli(*search, 1, "--study", "new") == 0
    chosen = re.search(r"^Dtype    (b?float\d+), because", cli.err, flags=re.MULTILINE)
    assert chosen is not None
    assert f"batch size 100, {chosen[1]}, cpu" in cli.err
    assert cli(*search, 2, "--study", "new") == 0
    assert f"batch size 100, {chosen[1]}, cpu" in cli.err


def test_figures_are_the_same_without_a_cache_with_a_new_one_and_from_it(
    cli: Cli, model: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures() -> dict[str, object]:
        point = ["--tau0", 0.95, "--alpha", 0.05, "--tau-min", 0.5, "--split", 3]
        assert cli("evaluate", *model, *point, "--json") == 0
        timed = ("seconds", "images_per_second")
        return {name: v for name, v in json.loads(cli.out).items() if name not in timed}

    (tmp_path / "file").touch()
    monkeypatch.setenv("ATM_SEARCH_CACHE", str(tmp_path / "file" / "cache"))
    plain = figures()
    assert cli.err.count("Nothing is kept in the cache") == 1
    monkeypatch.setenv("ATM_SEARCH_CACHE", str(tmp_path / "cache"))
    assert figures() == plain
    assert "Nothing is kept" not in cli.err
    monkeypatch.setattr("atm_search.data.folder.decode", lambda *_, **__: pytest.fail("decoded"))
    assert figures() == plain


def test_a_study_file_describes_a_search_and_the_command_line_wins(
    cli: Cli, tiny_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(
        f"model: test_vit\ncheckpoint: {tiny_checkpoint}\ndata: {folder}\n"
        "trials: 50\nsampler: grid\nstep: 7\nspace:\n  split_depth: {high: 3}\n"
        "protocol: {batch_size: 20}\nconstraints: {max_drop: 90}\n"
        "enqueue:\n  - {tau0: 1.0, alpha: 0.02, tau_min: 0.9, split_depth: 3}\n"
    )
    assert cli("start", "mine.yaml", "--trials", 3, "--max-gflops", 1000) == 0
    assert "Study    mine, 3 trials, sampler grid" in cli.err
    assert "Queued   1 start points" in cli.err
    assert "batch size 20" in cli.err
    assert cli("frontier", "--with-dominated", "--json") == 0
    summary = json.loads(cli.out)
    assert summary["study"] == "mine"
    assert summary["constraints"] == {"max_drop": 90.0, "max_gflops": 1000.0}
    kinds = summary["trials"]
    assert len(summary["hypervolume_history"]) == 3
    assert len(summary["measured"]) == kinds["full"] == 3 - kinds["raced"] - kinds["reused"]
    first = next(point for point in summary["measured"] if point["trial"] == 0)
    assert first["params"]["tau0"] == 1.0
    assert all(point["feasible"] for point in summary["measured"])
    on_frontier = {point["trial"] for point in summary["measured"] if point["on_frontier"]}
    assert on_frontier == {point["trial"] for point in summary["frontier"]}
    assert cli("start", "mine.yaml", "--trials", 3) == 2
    assert "made with max_gflops 1000.0, you gave unset" in cli.err


def test_a_grid_measures_its_sub_grid_and_says_so(cli: Cli, model: list[object]) -> None:
    search = ["start", *model, "--sampler", "grid", "--step", 12, "--images", 10]
    assert cli(*search) == 0
    assert "3 trials, sampler grid" in cli.err  # 1 x 1 x 3 x 1
    assert "[3/3] trial" in cli.err
    assert cli(*search, "--trials", 9) == 0
    assert "All of the grid is measured after 3 trials" in cli.err
    assert cli("frontier", "--with-dominated") == 0
    assert "3 configurations on 10 images" in cli.out
    words = " ".join(cli.out.split())
    assert "Hypervolume" in words
    assert "from the reference point top-1" in words


def test_start_points_off_the_grid_leave_no_store(
    cli: Cli, model: list[object], tmp_path: Path
) -> None:
    points = tmp_path / "first.yaml"
    points.write_text("- {tau0: 0.991, alpha: 0.02, tau_min: 0.9, split_depth: 3}\n")
    assert cli("start", *model, "--trials", 2, "--enqueue", points) == 2
    assert "first.yaml, line 1, entry 1: tau0=0.991 is off the grid" in " ".join(cli.err.split())
    assert not list(tmp_path.glob("*.db"))


def test_a_study_of_another_kind_is_refused_and_left_alone(cli: Cli, model: list[object]) -> None:
    search = ["start", *model, "--sampler", "random", "--seed", 0, "--trials", 2]
    assert cli(*search, "--dtype", "float32") == 0
    before = content("atm-search.db")
    assert cli(*search, "--batch-size", 7) == 2
    assert "made with batch_size 100, you gave 7" in cli.err
    assert cli(*search, "--images", 20) == 2
    assert re.search(r"measured on 40 images \(shard \w+\), you gave 20 \(shard \w+\)", cli.err)
    assert cli(*search, "--dtype", "bfloat16") == 2
    assert "made with dtype float32, you gave bfloat16" in cli.err
    assert cli("frontier", "--json") == 0
    assert content("atm-search.db") == before


def content(file: str) -> list[str]:
    """Every row of an SQLite store; its bytes change whenever the log is folded into the file."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "--model", "diet_s", "--dense"], "No model 'diet_s'. Nearest: deit_s"),
        (["evaluate", "--model", "test_resnet", "--dense"], "no timm VisionTransformer"),
        (["evaluate", "--checkpoint", "none.pth", "--dense"], "No checkpoint file at none.pth"),
        (["evaluate", "--tau0", "0.9"], "atm needs a value for alpha, tau_min, split_depth"),
        (
            ["evaluate", "--tau0", "2", "--alpha", "0", "--tau-min", ".9", "--split", "1"],
            "tau0=2.0 is not a usable cosine similarity",
        ),
        (["evaluate", "--method", "tome", "--r", "-1"], "r=-1 is negative"),
        (["evaluate", "--dense", "--r", "3"], "--dense already says what to measure"),
        (["evaluate", "--config", "x.yaml", "--tau0", "0.9"], "leave out --tau0"),
        (["evaluate", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["evaluate", "--dense", "--images", "0"], "0"),
        (["evaluate", "--dense", "--batch-size", "0"], "batch_size=0"),
        (["evaluate", "--dense", "--dtype", "int4"], "dtype 'int4' is not known"),
        (["evaluate", "--dense", "--device", "cuda:99"], "Device 'cuda:99' is not usable"),
        (["evaluate", "--dense", "--data", "nowhere"], "nowhere"),
        (["start", "--sampler", "magic"], "No sampler 'magic'"),
        (["start", "--method", "magic"], "No method 'magic'"),
        (["start", "none.yaml"], "none.yaml cannot be read"),
        (["start", "--enqueue", "none.yaml"], "none.yaml cannot be read"),
        (["start", "--step", "3"], "step=3 is of a grid"),
        (["start", "--sampler", "grid", "--step", "0"], "A step of 0 leads nowhere"),
        (["start", "--max-drop", "-1"], "max_drop=-1.0 is no loss of top-1"),
        (["start", "--max-gflops", "0"], "max_gflops=0.0 leaves no compute"),
        (["start", "--trials", "0"], "0 trials are no search"),
        (["start", "--delta", "0"], "delta=0.0 is no small probability"),
        (["start", "--race-on", "speed"], "No race on 'speed'"),
        (["start", "--no-racing", "--delta", ".1"], "leave out --race-on, --delta and --margin"),
        (["start", "--storage", "oracle://x"], "no store of kind 'oracle'"),
        (["frontier"], "No store at atm-search.db: start a search first"),
        (["frontier", "--storage", "sqlite:///no/such/dir.db"], "No folder"),
        (["export"], "No store at atm-search.db"),
        (["download", "imagenet"], "No free data set 'imagenet'. Known: imagenette"),
        (["evaluate", "--no-such-option"], "No such option"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    cli: Cli, arguments: list[str], words: str, tmp_path: Path
) -> None:
    assert cli(*arguments) == 2
    assert words in " ".join(cli.err.replace("│", " ").split())
    assert "Traceback" not in cli.err
    assert not list(tmp_path.iterdir())  # nothing half written


def test_a_real_model_without_images_is_told_where_to_get_some(
    cli: Cli, tiny_checkpoint: Path
) -> None:
    assert cli("evaluate", "--model", "test_vit", "--checkpoint", tiny_checkpoint, "--dense") == 2
    assert "atm-search download imagenette" in cli.err


def test_corrupt_images_are_named_and_skipped_on_request(
    cli: Cli, tiny_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    for source in folder.rglob("*.jpg"):
        copy = tmp_path / "images" / source.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    broken = tmp_path / "images" / "class3" / "13.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    run = ["evaluate", "--model", "test_vit", "--checkpoint", tiny_checkpoint]
    run += ["--data", tmp_path / "images", "--dense", "--json"]
    assert cli(*run) == 2
    assert "1 of 40 images" in cli.err
    assert "class3/13.jpg" in cli.err
    assert cli(*run, "--skip-corrupt") == 0
    assert json.loads(cli.out)["images"] == 39
    assert "Skipped  1 corrupt images, first class3/13.jpg" in cli.err


def test_the_environment_names_data_store_and_checkpoints(
    cli: Cli,
    tiny_checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATM_SEARCH_CHECKPOINTS", str(tiny_checkpoint.parent))
    monkeypatch.setenv("ATM_SEARCH_DATA", str(folder))
    monkeypatch.setenv("ATM_SEARCH_STORAGE", f"sqlite:///{tmp_path}/elsewhere.db")
    assert cli("start", "--model", "test_vit", "--trials", 1, "--sampler", "random") == 0
    assert (tmp_path / "elsewhere.db").exists()
    assert cli("frontier", "-o", "frontier.html") == 0
    page = (tmp_path / "frontier.html").read_text()
    assert "test_vit" in page
    assert '<script src="http' not in page  # opens without a network
    assert cli("frontier", "-o", "frontier.gif") == 2
    assert "no format '.gif'" in cli.err


def test_help_answers_at_once_and_every_command_has_an_example() -> None:
    command = [sys.executable, "-m", "atm_search"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - started)
    for name in ("start", "worker", "studies", "frontier", "export", "evaluate", "download"):
        assert name in done.stdout
        page = subprocess.run([*command, name, "--help"], capture_output=True, text=True)
        assert page.returncode == 0
        assert "Example: atm-search" in page.stdout
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, atm_search.cli.main; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.strip() == "False"  # what makes help fast, whatever the machine
    assert min(seconds) < 2.0


def test_ctrl_c_leaves_the_store_clean_and_the_same_command_continues(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    """A real process, interrupted in the middle of its search."""
    command = [sys.executable, "-m", "atm_search", "start", "--model", "test_vit"]
    command += ["--checkpoint", str(tiny_checkpoint), "--data", str(folder)]
    command += ["--sampler", "random", "--seed", "5", "--trials"]
    environment = {**os.environ, "ATM_SEARCH_STORAGE": f"sqlite:///{tmp_path}/study.db"}
    with subprocess.Popen(
        [*command, "5000"], stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "[3/5000]" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "the same command continues" in " ".join(rest.split())
    listing = [sys.executable, "-c", _STATES, f"sqlite:///{tmp_path}/study.db"]
    states = json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)
    assert "RUNNING" not in states
    finished = states.count("COMPLETE")
    done = subprocess.run(
        [*command, str(finished + 3)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert f"[{finished + 3}/{finished + 3}]" in done.stderr
    states = json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)
    assert states.count("COMPLETE") == finished + 3


_STATES = """
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name=None, storage=sys.argv[1])
print(json.dumps([trial.state.name for trial in study.trials]))
"""
