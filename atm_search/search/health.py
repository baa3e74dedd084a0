"""Whether a store can be used, found out without changing it."""

import secrets
from pathlib import Path

import sqlalchemy
from optuna.storages._rdb import models

from atm_search.search import sqlite
from atm_search.search.address import parse
from atm_search.search.steady import SteadyStorage
from atm_search.search.store import has_tables, open_store, store_errors
from atm_search.search.study import names


def store_health(storage: str) -> str:
    """What is found at an address, in words; nothing is made there.

    Raises:
        StoreError: it cannot be reached, read or written, or is of another version.
    """
    url, file = parse(storage), store_file(storage)
    if file is not None:
        sqlite.check_file(file, create=True)
        if not file.exists():
            return "not there yet, the first start makes it"
    if not has_tables(url):
        return "reachable and empty, the first start makes its tables"
    opened = open_store(storage, create=False)
    try:
        with store_errors(opened):
            _try_to_write(opened)
            count = len(names(opened))
            version = opened.get_current_version()
    finally:
        opened.engine.dispose()
    return f"{count} {'study' if count == 1 else 'studies'}, schema {version}, writable"


def store_file(storage: str) -> Path | None:
    """The file of a SQLite store; None if a server keeps it.

    Raises:
        StoreError: it is no address.
    """
    url = parse(storage)
    return sqlite.sqlite_file(url) if url.get_backend_name() == "sqlite" else None


def _try_to_write(storage: SteadyStorage) -> None:
    """Insert a row, and take it back before anybody sees it."""
    name = f"atm-search doctor {secrets.token_hex(8)}"
    with storage.engine.connect() as connection:
        if storage.engine.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        insert = sqlalchemy.insert(models.StudyModel.__table__)
        connection.execute(insert.values(study_name=name))
        connection.rollback()
