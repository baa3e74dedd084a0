"""What a store in one file needs: a local disk, a write-ahead log and patience."""

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.engine import URL, Engine

from atm_search.errors import StoreError

LOCK_TIMEOUT_S = 30

MOUNTS = Path("/proc/mounts")

NETWORK_FILE_SYSTEMS = {
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.sshfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}


def sqlite_file(url: URL) -> Path:
    """The file of a SQLite store.

    Raises:
        StoreError: the store would be in memory, and lost at the end.
    """
    if not url.database or url.database == ":memory:":
        raise StoreError("A SQLite store in memory would be lost at the end: name a file.")
    return Path(url.database)


def check_file(file: Path, *, create: bool) -> None:
    """Raise StoreError unless SQLite can use the file; nothing is touched.

    Args:
        file: of the store.
        create: the file may be missing, and is to be written.
    """
    folder = file.absolute().parent
    if not folder.is_dir():
        raise StoreError(f"No folder {folder} for the store {file}: create it, or name another.")
    if file.is_dir():
        raise StoreError(f"{file} is a folder: name a file for the store.")
    if not file.exists() and not create:
        raise StoreError(f"No store at {file}: start a search first.")
    kind = network_file_system(folder)
    if kind is not None:
        raise StoreError(
            f"{file} lies on a network file system ({kind}), where SQLite's locks are not safe: "
            "use a local file, or a PostgreSQL or MySQL store."
        )
    if file.exists() and not os.access(file, os.R_OK):
        raise StoreError(f"The store {file} cannot be read: check its permissions.")
    written = [folder, file] if file.exists() else [folder]  # the log lies beside the file
    if create and not all(os.access(path, os.W_OK) for path in written):
        raise StoreError(f"The store {file} is read-only: make it and its folder writable.")


def network_file_system(path: Path) -> str | None:
    """The kind of network file system that a path lies on; None if on none, or not on Linux."""
    if not MOUNTS.exists():
        return None
    kind, depth = "", -1
    target = path.absolute().resolve()
    for line in MOUNTS.read_text(errors="replace").splitlines():
        _, mounted_on, mounted_kind, *_ = line.split(" ")
        # Blanks are written as octal escapes.
        place = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mounted_on))
        if target.is_relative_to(place) and len(place.parts) >= depth:
            kind, depth = mounted_kind, len(place.parts)
    return kind if kind in NETWORK_FILE_SYSTEMS else None


def tune(engine: Engine) -> None:
    """Let new connections of an engine not wait for the disk at every commit.

    With a write-ahead log a power cut can then lose the last commits, and nothing else.
    """
    sqlalchemy.event.listen(engine, "connect", _relax)
    engine.dispose()


def keep_log(engine: Engine) -> None:
    """Give the file its write-ahead log, for good: readers and a writer no longer wait."""
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _relax(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
