"""A small finished search of the demo model, and views of it."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from atm_search.cli.main import app
from atm_search.search.store import open_store
from atm_search.search.study import Study, create_or_resume, load
from atm_search.show.view import View, open_view

SEARCH = ["--model", "demo", "--images", "40", "--sampler", "random", "--seed", "1"]
PUBLISHED = "{tau0: 1.0, alpha: 0.015, tau_min: 0.945, split_depth: 9}"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with two studies of the same images: `demo` (ATM) and `rival` (ToMe)."""
    folder = tmp_path_factory.mktemp("search")
    file, points = folder / "demo.db", folder / "first.yaml"
    points.write_text(f"- {PUBLISHED}\n")
    address = ["--storage", str(file), *SEARCH]
    atm = [*address, "--trials", "9", "--study", "demo", "--enqueue", str(points)]
    app(["start", *atm], standalone_mode=False)
    tome = [*address, "--trials", "3", "--study", "rival", "--method", "tome"]
    app(["start", *tome], standalone_mode=False)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # tests copy the file alone
    return file


@pytest.fixture
def study(store: Path) -> Iterator[Study]:
    """The study `demo`; not to be changed."""
    storage = open_store(str(store), create=False)
    yield load(storage, "demo")
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture
def seen(study: Study) -> View:
    """The same as people see it."""
    return open_view(study)


@pytest.fixture
def begin(tmp_path: Path, stub: ModuleType) -> Iterator[Callable[..., Study]]:
    """Begins a study of the stand-in in a new store."""
    storage = open_store(str(tmp_path / "stub.db"), create=True)

    def create(**changes: Any) -> Study:
        wanted = {"identity": stub.identity(), "dense": lambda: stub.DENSE, "sampler": "random"}
        return create_or_resume(storage, "s", **({"budget": 10, "seed": 1} | wanted | changes))

    yield create
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ATM_SEARCH_")]:
        monkeypatch.delenv(name)
