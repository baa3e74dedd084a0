"""`start` on a model with published configurations, and with thresholds free in every block."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atm_search.search.store import open_store
from atm_search.search.study import load

Cli = Callable[..., tuple[int, str, str]]
POINTS = [
    {"tau0": 1.0, "alpha": 0.02, "tau_min": 0.9, "split_depth": 3},
    {"tau0": 1.0, "alpha": 0.03, "tau_min": 0.851, "split_depth": 3},
    {"tau0": 0.98, "alpha": 0.05, "tau_min": 0.8, "split_depth": 3},
    {"tau0": 0.98, "alpha": 0.05, "tau_min": 0.7, "split_depth": 3},
]


@pytest.fixture(name="file")
def _file(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A study file of the tiny model, with a publication; on the built-in images."""
    file = tmp_path / "mine.yaml"
    points = "\n".join(f"    - {{params: {json.dumps(p)}, gflops: 1.0, top1: 50}}" for p in POINTS)
    file.write_text(
        "model: demo\nsampler: random\nseed: 1\nprotocol: {images: 20, batch_size: 20}\n"
        "published:\n  source: a paper\n  dense: {gflops: 1.1, top1: 51}\n"
        f"  points:\n{points}\n"
    )
    return file


def searched(name: str) -> list[dict[str, float]]:
    """Parameters of a study's trials, by number."""
    study = load(open_store("atm-search.db", create=False), name)
    names = [item.name for item in study.identity.space.ranges]
    return [{name: record.params[name] for name in names} for record in study.records()]


def test_a_new_study_begins_at_the_published_points_and_says_so_once(cli: Cli, file: Path) -> None:
    code, _, said = cli("start", file, "--trials", 9)
    assert code == 0
    assert (
        "Queued 3 of 4 configurations published in a paper; 1 are not on the grid and were moved "
        "to it; 1 lie outside of what is searched (not with --no-warm-start)" in said
    )
    first = searched("mine")
    assert first[:3] == [POINTS[0], POINTS[1] | {"tau_min": 0.85}, POINTS[2]]
    code, _, said = cli("start", file, "--trials", 10)
    assert code == 0
    assert "Queued" not in said
    assert searched("mine")[:9] == first

    code, _, said = cli("start", file, "--trials", 3, "--study", "small")
    assert "Queued 1 of 4" in said
    code, _, said = cli("start", file, "--trials", 3, "--study", "cold", "--no-warm-start")
    assert code == 0
    assert "Queued" not in said
    assert POINTS[0] not in searched("cold")

    code, _, said = cli("start", file, "--trials", 9, "--study", "free", "--space", "layerwise")
    assert code == 0
    assert "configurations from the frontier of study 'mine' (not with" in said
    free = searched("free")
    assert [point["drop_2"] + point["drop_12"] for point in free[:2]] == [0, 0]
    assert {tuple(p[name] for name in POINTS[0]) for p in free[:2]} <= {
        tuple(point.values()) for point in searched("mine")
    }
    assert any(point["drop_2"] > 0 for point in free[3:])
    code, _, said = cli("start", file, "--trials", 12, "--space", "layerwise")
    assert code == 2
    assert "made with method atm, you gave atm-layerwise" in said


def test_a_model_that_nothing_is_published_of_begins_cold(cli: Cli) -> None:
    search = ["start", "--images", 20, "--trials", 3, "--sampler", "random"]
    code, _, said = cli(*search)
    assert code == 0
    assert "Queued" not in said
    code, _, said = cli(*search, "--study", "asked", "--warm-start")
    assert code == 0
    assert "Queued nothing: no configuration of atm is published" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--space", "free"], "No space 'free'. Known: eq1, layerwise"),
        (["--space", "layerwise", "--method", "tome"], "--space layerwise is of atm"),
    ],
)
def test_a_space_that_is_none_is_refused(
    cli: Cli, arguments: list[str], words: str, tmp_path: Path
) -> None:
    code, _, said = cli("start", *arguments)
    assert code == 2
    assert words in said
    assert not list(tmp_path.iterdir())
