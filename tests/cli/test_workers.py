"""Workers as a person runs them: several under `start`, one that joins, and what they refuse."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atm_search.cli.workers import worker_commands, worker_count
from atm_search.errors import ParameterError
from atm_search.search.store import open_store
from atm_search.search.study import PLAN, load

Cli = Callable[..., tuple[int, str, str]]
COMMAND = [sys.executable, "-m", "atm_search"]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """20 JPEGs in ten class folders."""
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = tmp_path / "images" / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).resize((160, 160)).save(path)
    return tmp_path / "images"


@pytest.fixture(name="begun")
def _begun(cli: Cli, tiny_checkpoint: Path, folder: Path) -> Callable[[int], None]:
    """A study of the tiny model with one finished trial; sets its budget as another start would."""
    model = ["--model", "test_vit", "--checkpoint", tiny_checkpoint, "--data", folder]
    options = ["--images", 10, "--batch-size", 5, "--sampler", "random", "--seed", 1]
    code, _, said = cli("start", *model, *options, "--trials", 1)
    assert code == 0, said

    def set_budget(budget: int) -> None:
        storage = open_store("atm-search.db", create=False)
        study = load(storage)
        study.optuna.set_user_attr(PLAN, study.plan.to_dict() | {"budget": budget})
        storage.engine.dispose()

    return set_budget


def test_a_worker_joins_with_nothing_but_the_store(cli: Cli, begun: Callable[[int], None]) -> None:
    code, _, said = cli("worker")
    assert (code, "All of its trials are finished" in said) == (0, True)
    begun(3)
    code, _, said = cli("worker", "--storage", "atm-search.db", "--study", "test_vit")
    assert code == 0
    assert "[2/3] trial 1" in said
    assert "[3/3] trial 2" in said
    assert "The study has 3 of 3 trials." in said
    code, out, _ = cli("studies", "--json")
    assert code == 0
    (study,) = json.loads(out)
    assert (study["name"], study["done"], study["budget"]) == ("test_vit", 3, 3)
    assert (study["images"], study["running"], study["failed"]) == (10, 0, 0)
    assert cli("studies")[1].count("test_vit") == 2  # study and model


def test_a_worker_without_the_study_s_images_or_weights_says_what_to_pass(
    cli: Cli, begun: Callable[[int], None], folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    begun(3)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    code, _, said = cli("worker")
    assert code == 2
    assert "No images to measure test_vit.r160_in1k on" in said
    assert "--data DIR or ATM_SEARCH_DATA" in said
    assert cli("worker", "--data", elsewhere, "--device", "cuda:99")[0] == 2
    for file in sorted(elsewhere.rglob("*.jpg")):
        Image.new("RGB", (160, 160)).save(file)
    code, _, said = cli("worker", "--data", elsewhere)
    assert code == 2
    assert re.search(r"measured on 10 images \(shard \w+\), you gave 10 \(shard \w+\)", said)
    assert "Pass the same to this worker with --checkpoint and --data" in said
    assert cli("worker", "--checkpoint", tmp_path / "none.pth")[0] == 2
    assert cli("worker", "--study", "other")[0] == 2
    assert json.loads(cli("studies", "--json")[1])[0]["done"] == 1


def test_two_workers_share_a_search_and_a_third_that_joins_finishes_it(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    """Two terminals: Ctrl-C in the one of `start`; the worker in the other does the rest."""
    environment = os.environ | {"ATM_SEARCH_STORAGE": f"sqlite:///{tmp_path}/atm.db"}
    environment |= {"OMP_NUM_THREADS": "1"}
    start = [*COMMAND, "start", "--model", "test_vit", "--checkpoint", str(tiny_checkpoint)]
    start += ["--data", str(folder), "--sampler", "random", "--workers", "2", "--trials", "120"]
    start += ["--batch-size", "1"]  # slow, so that the third joins long before the end
    with subprocess.Popen(start, stderr=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if "Workers" in line:  # the study is there, and its workers are on their way
                break
        with subprocess.Popen(
            [*COMMAND, "worker"], stderr=subprocess.PIPE, text=True, env=environment
        ) as second:
            assert second.stderr is not None
            for line in second.stderr:
                if "/120] trial" in line:
                    break
            first.send_signal(signal.SIGINT)
            asked = time.monotonic()
            said = first.stderr.read()
            assert first.wait() == 130, said
            assert time.monotonic() - asked < 20
            joined = second.stderr.read()
            assert second.wait() == 0, joined
    assert "The study has 120 of 120 trials." in joined
    storage = open_store(environment["ATM_SEARCH_STORAGE"], create=False)
    states = Counter(record.state.name for record in load(storage).records())
    storage.engine.dispose()
    assert states["COMPLETE"] == 120
    assert "RUNNING" not in states


def test_a_supervised_worker_ends_when_its_supervisor_is_killed(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"ATM_SEARCH_STORAGE": f"sqlite:///{tmp_path}/atm.db"}
    start = [*COMMAND, "start", "--model", "test_vit", "--checkpoint", str(tiny_checkpoint)]
    start += ["--data", str(folder), "--sampler", "random", "--workers", "2", "--trials", "9000"]
    with subprocess.Popen(start, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "[1/9000]" in line:
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        process.kill()
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{child}/cmdline").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_store_s_address_stays_out_of_the_command_line() -> None:
    commands = worker_commands(
        2,
        address="postgresql://me:s3cret@host/db",
        study="s",
        checkpoint=Path("weights.pth"),
        data=None,
        device="cpu",
    )
    assert "s3cret" not in str([command.argv for command in commands])
    assert commands[0].environment["ATM_SEARCH_STORAGE"] == "postgresql://me:s3cret@host/db"
    numbers = [command.argv[-1] for command in commands]
    assert numbers == ["0", "1"]
    assert list(commands[0].argv[-4:-2]) == ["--checkpoint", "weights.pth"]


def test_workers_are_pinned_to_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert worker_count(None, "auto") == 2
    assert worker_count(None, "cpu") == 1
    commands = worker_commands(
        3, address="a.db", study="s", checkpoint=None, data=None, device="auto"
    )
    pins = [command.environment["CUDA_VISIBLE_DEVICES"] for command in commands]
    assert pins == ["4", "6", "4"]


def test_cores_are_shared_out_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    common = {"address": "a.db", "study": "s", "checkpoint": None, "data": None, "device": "cpu"}
    threads = [c.environment["OMP_NUM_THREADS"] for c in worker_commands(3, **common)]
    assert threads == ["2", "2", "2"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in worker_commands(3, **common)[0].environment


def test_no_worker_is_refused() -> None:
    with pytest.raises(ParameterError, match="--workers 0: a search needs one or more"):
        worker_count(0, "cpu")
