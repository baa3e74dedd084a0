"""The SQL store that workers share: opened, or refused with what to do."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from atm_search.errors import StoreError
from atm_search.search import sqlite
from atm_search.search.address import full, parse, shown
from atm_search.search.heartbeat import GRACE_S, INTERVAL_S
from atm_search.search.steady import SteadyStorage

EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
"""Dialects whose driver comes with an extra of that name."""

CONNECT_TIMEOUT_S = 10
CREATION_ATTEMPTS = 5


def open_store(
    storage: str,
    *,
    create: bool,
    interval_s: int = INTERVAL_S,
    grace_s: int = GRACE_S,
    wait_s: float = 0.0,
) -> SteadyStorage:
    """The store at an address.

    SQLite gets a write-ahead log and a patient lock, without which a few processes block one
    another. Nothing is created or changed unless `create` is set.

    Args:
        storage: a file, or a URL of SQLite, PostgreSQL or MySQL/MariaDB.
        create: make the tables, and the SQLite file, where they are missing.
        interval_s: time between a running trial's signs of life.
        grace_s: time without any after which its worker is taken for dead.
        wait_s: how long to try again, whatever the refusal: for a store known to be right.

    Raises:
        StoreError: the store is missing, unreachable, read-only, of another version, or no store;
            the message shows no password.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _open(storage, create, interval_s, grace_s)
        except StoreError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)


def _open(storage: str, create: bool, interval_s: int, grace_s: int) -> SteadyStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Of a lost connection they print SQL or a traceback; SteadyStorage has a line for that.
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    url = parse(storage)
    if _is_sqlite(url):
        sqlite.check_file(sqlite.sqlite_file(url), create=create)
    for attempt in range(1, CREATION_ATTEMPTS + 1):
        made = has_tables(url)
        if not made and not create:
            raise StoreError(f"No store at {shown(url)}: start a search first.")
        try:
            opened = _connect(url, not made, interval_s, grace_s)
            if create and _is_sqlite(url):
                sqlite.keep_log(opened.engine)
            return opened
        except RuntimeError as error:
            raise _other_version(url, error) from None
        except (SQLAlchemyError, StorageInternalError, AssertionError) as error:
            # Processes that create the tables at once disturb one another, and Optuna asserts
            # that a table has its row; a moment later all is there.
            refusal = _refusal(url, error)
        if not create:
            break
        time.sleep(0.2 * attempt)
    raise refusal


@contextmanager
def store_errors(storage: RDBStorage) -> Iterator[None]:
    """A block in which what the database reports becomes a StoreError."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _refusal(sqlalchemy.make_url(storage.url), error) from None


def _connect(url: URL, make_tables: bool, interval_s: int, grace_s: int) -> SteadyStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = SteadyStorage(
            full(url).replace("{", "{{").replace("}", "}}"),  # Optuna fills in a template
            engine_kwargs=_engine_kwargs(url),
            skip_table_creation=not make_tables,
            heartbeat_interval=interval_s,
            grace_period=grace_s,
        )
    if _is_sqlite(url):
        sqlite.tune(storage.engine)
    return storage


def _engine_kwargs(url: URL) -> dict[str, Any]:
    if _is_sqlite(url):
        return {"connect_args": {"timeout": sqlite.LOCK_TIMEOUT_S}}
    return {"connect_args": {"connect_timeout": CONNECT_TIMEOUT_S}}


def has_tables(url: URL) -> bool:
    """Whether Optuna's tables are there; the last to be made is alembic_version."""
    try:
        engine = sqlalchemy.create_engine(url, **_engine_kwargs(url))
    except ImportError:
        extra = EXTRAS[url.get_backend_name()]
        raise StoreError(
            f"The driver for {shown(url)} is not installed: pip install 'atm-search[{extra}]'."
        ) from None
    try:
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(connection).get_table_names()
    except SQLAlchemyError as error:
        raise _refusal(url, error) from None
    finally:
        engine.dispose()
    if tables and "studies" not in tables and _is_sqlite(url):
        raise StoreError(f"{shown(url)} is a database of another program: name another file.")
    return "alembic_version" in tables


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _refusal(url: URL, error: Exception) -> StoreError:
    """What the database said, in one line and without the password."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    said = cause.orig if isinstance(cause, DBAPIError) else cause
    # Of a driver's arguments the last is the sentence; PyMySQL puts a number before it.
    words = said.args[-1] if said is not None and said.args else "its tables are incomplete"
    line = " ".join(str(words).split())
    if url.password:
        line = line.replace(str(url.password), "***")
    return StoreError(f"The store {shown(url)} cannot be used: {line}")


def _other_version(url: URL, error: RuntimeError) -> StoreError:
    older = "storage upgrade" in str(error)
    todo = (
        f"back it up and run: optuna storage upgrade --storage '{shown(url)}'"
        if older
        else "upgrade Optuna: pip install -U optuna"
    )
    return StoreError(f"The store {shown(url)} was made by another version of Optuna: {todo}.")
