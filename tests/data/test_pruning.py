"""The cache pruned: what is old, what was left unfinished, and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atm_search.data.pruning import duration_s, entries, prune
from atm_search.errors import DataError

HOLD = """
import sys
from pathlib import Path
from atm_search.data.cache import Cache
def build(file):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
Cache(Path(sys.argv[1]), print).obtain(
    "images", "f" * 64, load=lambda path: path.read_bytes() if path.exists() else None, build=build
)
"""


@pytest.fixture(name="cache")
def _cache(tmp_path: Path) -> Path:
    """Three entries, used 1, 20 and 40 days ago, and files that are none."""
    for kind, letter, days in (("images", "a", 1), ("dense", "b", 20), ("images", "c", 40)):
        file = tmp_path / kind / (letter * 64)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 1000)
        os.utime(file, (time.time() - days * 86400,) * 2)
    for name in ("notes.txt", "images/holiday.jpg", "images/" + "d" * 63):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "images" / ("e" * 64)).symlink_to(tmp_path / "notes.txt")
    return tmp_path


def names(cache: Path) -> set[str]:
    return {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}


def test_what_was_not_used_for_long_goes_and_nothing_else(cache: Path) -> None:
    before = names(cache)
    removed, left = prune(cache, unused_since=time.time() - duration_s("30d"))
    assert [(entry.kind, entry.path.name[0], entry.bytes) for entry in removed] == [
        ("images", "c", 1000)
    ]
    assert [entry.path.name[0] for entry in left] == ["b", "a"]
    assert before - names(cache) == {"images/" + "c" * 64}
    removed, left = prune(cache, unused_since=float("inf"))
    assert (len(removed), left) == (2, [])
    assert names(cache) == {
        "notes.txt",
        "images/holiday.jpg",
        "images/" + "d" * 63,
        "images/" + "e" * 64,
    }


def test_an_unfinished_entry_goes_if_nobody_writes_it(cache: Path) -> None:
    left_behind = cache / "dense" / ("9" * 64 + ".unfinished")
    left_behind.write_bytes(b"half")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        removed, left = prune(cache, unused_since=0.0)
        assert [entry.path for entry in removed] == [left_behind]
        assert [entry.path.name for entry in left if entry.unfinished] == ["f" * 64 + ".unfinished"]
        writer.communicate("")
    assert (cache / "images" / ("f" * 64)).read_bytes() == b"half"
    assert not any(entry.unfinished for entry in entries(cache))


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert prune(tmp_path / "none", unused_since=float("inf")) == ([], [])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43200), ("1.5d", 129600), ("2w", 1209600)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "3 months", "1e3d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is no time: use minutes"):
        duration_s(text)
