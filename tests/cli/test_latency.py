"""A search for latency as a person runs it: from start to the exported file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from atm_search.deploy.configuration import Configuration
from atm_search.errors import ConfigurationError

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="model")
def _model(tiny_checkpoint: Path, tmp_path: Path) -> list[object]:
    """The tiny model and 20 pictures in ten class folders."""
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = tmp_path / "images" / f"class{number % 10}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).resize((160, 160)).save(path)
    model = ["--model", "test_vit", "--checkpoint", tiny_checkpoint, "--data", tmp_path / "images"]
    return [*model, "--batch-size", 5, "--dtype", "float32", "--sampler", "random", "--seed", 1]


LATENCY = ["--objectives", "top1,gflops,latency"]


def test_latency_is_searched_shown_and_exported(cli: Cli, model: list[object]) -> None:
    start = ["start", *model, "--images", 10, "--latency-batch-size", 2]
    code, out, said = cli(*start, *LATENCY, "--trials", 4, "--json")
    assert code == 0, said
    assert "Latency a batch of 2 takes the dense model" in said
    assert "top-1 and GFLOPs; and the median latency of a batch" in said
    found = json.loads(out)
    assert found["latency"]["batch_size"] == 2
    assert list(found["reference_point"]) == ["top1", "gflops", "latency_ms"]
    assert found["reference_point"]["latency_ms"] == found["dense"]["latency_ms"] > 0
    for point in found["frontier"]:
        assert point["latency"]["device"] == found["latency"]["device"]
        assert point["latency"]["median_ms"] > 0
    # Resumed without a word of it: the study knows.
    code, out, said = cli("start", *model, "--images", 10, "--trials", 5)
    assert code == 0, said
    assert " x ms, from the reference point" in " ".join(out.split())
    assert "median time of a batch of 2 on" in " ".join(out.split())
    code, _, said = cli("start", *model, "--images", 10, "--trials", 6, "--latency-batch-size", 3)
    assert (code, "made with latency.batch_size 2, you gave 3" in said) == (2, True)
    assert cli("export", "--pick", "latency:1e6", "-o", "best.yaml")[0] == 0
    content = yaml.safe_load(Path("best.yaml").read_text())
    assert content["study"]["objectives"] == "top1,gflops,latency"
    assert "or less for a batch of 2" in content["pick"]["reason"]
    timed = content["measurement"]["latency"]
    assert (timed["batch_size"], timed["device"]) == (2, content["protocol"]["device"])
    assert "ms for a batch of 2 on" in Path("best.yaml").read_text().splitlines()[0]
    assert Configuration.read(Path("best.yaml"), refuse_edits=True).measurement.latency is not None
    assert cli("verify", "best.yaml")[0] == 0
    assert cli("confirm", "--json")[0] == 0  # latency stays that of the search
    assert cli("export", "--pick", "latency:1e6", "-o", "best.yaml")[0] == 0
    code, _, said = cli("export", "--pick", "latency:0.000001", "-o", "best.yaml")
    assert (code, "No configuration answers a batch of 2 in 1e-06 ms" in said) == (2, True)
    for report in ("report.html", "report.csv"):
        assert cli("report", "-o", report)[0] == 0
    assert "ms per batch of 2" in Path("report.html").read_text()
    assert "latency_ms" in Path("report.csv").read_text().splitlines()[0]
    edited = Path("best.yaml").read_text().replace("median_ms:", "medain_ms:")
    Path("best.yaml").write_text(edited)
    with pytest.raises(ConfigurationError, match=r"'medain_ms'. Did you mean 'median_ms'"):
        Configuration.read(Path("best.yaml"))


def test_a_worker_on_another_device_is_refused(cli: Cli, model: list[object]) -> None:
    assert cli("start", *model, *LATENCY, "--images", 10, "--trials", 1)[0] == 0
    code, _, said = cli("worker")
    assert (code, "All of its trials are finished" in said) == (0, True)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        code, _, said = cli("start", *model, "--images", 10, "--trials", 2)
        assert code == 2
        assert f"made with latency.device {_device(said)}, {threads} thread" in said
        assert f"{threads + 1} threads. Use --study to begin another" in said
        torch.set_num_threads(threads)
        assert cli("start", *model, "--images", 10, "--trials", 2)[0] == 0
        _more_to_do()
        torch.set_num_threads(threads + 1)
        code, _, said = cli("worker")
        assert code == 2
        assert "Latencies of two devices do not compare" in said
        assert cli("confirm", "--images", 5)[0] == 0  # of accuracy, on any device
    finally:
        torch.set_num_threads(threads)


def _device(said: str) -> str:
    return said.partition("latency.device ")[2].partition(", ")[0]


def _more_to_do() -> None:
    """Set a budget of three as another start would."""
    from atm_search.search.store import open_store
    from atm_search.search.study import PLAN, load

    storage = open_store("atm-search.db", create=False)
    study = load(storage)
    study.optuna.set_user_attr(PLAN, study.plan.to_dict() | {"budget": 3})
    storage.engine.dispose()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*LATENCY, "--workers", 2], "workers that share a device disturb each other's latencies"),
        (["--latency-batch-size", 2], "such as --objectives guided,latency"),
        ([*LATENCY, "--latency-batch-size", 11], "latency_batch_size=11 cannot be timed: use 1"),
        ([*LATENCY, "--latency-batch-size", 0], "latency_batch_size=0 cannot be timed"),
        (["--objectives", "latency"], "No objectives 'latency'. Known: top1,gflops"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_a_study_begins(
    cli: Cli, model: list[object], words: list[object], message: str
) -> None:
    code, _, said = cli("start", *model, "--images", 10, "--device", "cpu", *words)
    assert code == 2
    assert message in said
    assert cli("studies")[0] == 2 or "test_vit" not in cli("studies")[1]
