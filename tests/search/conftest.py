"""Stores of every kind, made for one test and dropped after it, and the model's stand-in."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy
from optuna.storages import RDBStorage

from atm_search.search.store import open_store
from atm_search.search.study import Study, create_or_resume

STUB = Path(__file__).with_name("stub_worker.py")
REPOSITORY = Path(__file__).resolve().parents[2]
SERVERS = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    "mysql": "mysql+pymysql://root@127.0.0.1:3306/mysql",
}


@pytest.fixture
def opened() -> Iterator[Callable[..., RDBStorage]]:
    """Opens stores, with hearts that beat fast, and closes them at the end."""
    stores: list[RDBStorage] = []

    def opener(address: str, *, create: bool = True) -> RDBStorage:
        stores.append(open_store(address, create=create, interval_s=1, grace_s=2))
        return stores[-1]

    yield opener
    for store in stores:
        store.remove_session()
        store.engine.dispose()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store to copy: making the tables takes longer than many a test."""
    file = tmp_path_factory.mktemp("store") / "atm.db"
    open_store(str(file), create=True).engine.dispose()
    return file


@pytest.fixture
def storage(tmp_path: Path, empty_store: Path, opened: Callable[..., RDBStorage]) -> RDBStorage:
    """A SQLite store."""
    shutil.copy(empty_store, tmp_path / "atm.db")
    return opened(str(tmp_path / "atm.db"))


@pytest.fixture
def begin(storage: RDBStorage, stub: ModuleType) -> Callable[..., Study]:
    """Begins or resumes a study of the stand-in."""

    def create(name: str = "s", **changes: Any) -> Study:
        wanted: dict[str, Any] = {
            "identity": stub.identity(),
            "dense": lambda: stub.DENSE,
            "budget": 10,
            "sampler": "random",
            "seed": 0,
        }
        return create_or_resume(storage, name, **(wanted | changes))

    return create


def server(kind: str) -> str:
    """The address of a server's maintenance database; skips the test if it does not answer."""
    url = SERVERS[kind]
    try:
        engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": 2})
        with engine.connect():
            pass
        engine.dispose()
    except ImportError as error:
        pytest.skip(f"no driver for {kind}: {error}")
    except sqlalchemy.exc.OperationalError as error:
        pytest.skip(f"no {kind} server at {url}: {str(error.orig).splitlines()[0]}")
    return url


@contextlib.contextmanager
def empty_database(kind: str) -> Iterator[str]:
    """The address of a new database, dropped at the end; skips the test without such a server."""
    url = server(kind)
    database = f"atm_test_{secrets.token_hex(6)}"
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {database}")
    yield f"{url.rpartition('/')[0]}/{database}".replace("+psycopg", "").replace("+pymysql", "")
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {database}{force}")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store, of every kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'atm.db'}"
        return
    with empty_database(request.param) as url:
        yield url


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """The address of an empty PostgreSQL store."""
    with empty_database("postgresql") as url:
        yield url


@pytest.fixture
def start_worker(stub: ModuleType) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts worker processes of the stand-in; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(**options: Any) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, str(STUB), json.dumps(options)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.communicate()
