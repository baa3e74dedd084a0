"""What lies in the cache, and which of it may go."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atm_search.errors import DataError

# Digests only: were ATM_SEARCH_CACHE a folder of other things, they would stay.
_ENTRY = re.compile(r"[0-9a-f]{64}(\.unfinished)?")

UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
"""Seconds in what a duration may be given in."""


@dataclass(frozen=True)
class Entry:
    """A file of the cache."""

    path: Path
    kind: str
    bytes: int
    last_used: float
    """Seconds since the epoch."""

    @property
    def unfinished(self) -> bool:
        """Whether it was being written; if nobody writes it any more, it is of no use."""
        return self.path.suffix == ".unfinished"


def entries(directory: Path) -> list[Entry]:
    """The files of a cache, the one that was not used for longest first.

    Raises:
        DataError: the directory cannot be read.
    """
    found = []
    try:
        for path in directory.glob("*/*") if directory.is_dir() else ():
            if _ENTRY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                stat = path.stat()
                found.append(Entry(path, path.parent.name, stat.st_size, stat.st_mtime))
    except OSError as error:
        raise DataError(f"The cache {directory} cannot be read: {error.strerror}.") from error
    return sorted(found, key=lambda entry: entry.last_used)


def prune(directory: Path, *, unused_since: float) -> tuple[list[Entry], list[Entry]]:
    """Remove entries that have not been used for some time, and what was left unfinished.

    A process that works with an entry keeps it until it ends: only its name goes.

    Args:
        directory: of the cache.
        unused_since: seconds since the epoch; entries last used before go.

    Returns:
        What was removed, and what is left.

    Raises:
        DataError: something cannot be removed.
    """
    removed: list[Entry] = []
    left: list[Entry] = []
    for entry in entries(directory):
        try:
            gone = _removed(entry, unused_since)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            raise DataError(
                f"{entry.path} cannot be removed: {error.strerror}. Check its permissions."
            ) from error
        (removed if gone else left).append(entry)
    return removed, left


def duration_s(text: str) -> float:
    """Seconds of a duration such as 30d.

    Raises:
        DataError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None:
        raise DataError(
            f"'{text}' is no time: use minutes, hours, days or weeks, such as 90m, 12h, 30d or 2w."
        )
    return float(match[1]) * UNITS[match[2]]


def _removed(entry: Entry, unused_since: float) -> bool:
    if entry.unfinished:
        with _abandoned(entry.path) as abandoned:
            if abandoned:
                entry.path.unlink()
            return abandoned
    if entry.path.stat().st_mtime >= unused_since:
        return False
    entry.path.unlink()
    return True


@contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody writes an unfinished file; as long as the block lasts, nobody will."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Whoever held the lock before may have made it an entry: then it is another file's name.
        yield path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino
