"""Files kept between runs: decoded images, the dense model's answers. Losing them costs time only.

An entry is written under another name, flushed to the disk, and then renamed, so a process that is
killed leaves no entry. Its last bytes say how long it is: what is cut off is no entry either.
"""

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

CACHE_DIRECTORY = "ATM_SEARCH_CACHE"
"""Environment variable: where to keep these files."""

# Behind the payload stand the facts, as JSON, and then their length, their crc32 and this mark.
_MARK = b"atm\x01"
_FOOTER = struct.Struct("<QI4s")

T = TypeVar("T")


def cache_directory() -> Path:
    """As ATM_SEARCH_CACHE says, else `atm-search` in the user's own directory for caches."""
    given = os.environ.get(CACHE_DIRECTORY)
    if given:
        return Path(given).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # unset, or a mistake that the standard says to pass over
        base = Path(os.path.expanduser("~")).absolute() / ".cache"  # noqa: PTH111, never raises
    return base / "atm-search"


@dataclass(frozen=True)
class Cache:
    """A directory of entries that any number of processes share.

    Args:
        directory: made at the first use; entries lie in one folder per kind, a file each, and
            have the time of their last use as modification time.
        note: told in one line, for people, why something could not be kept.
    """

    directory: Path
    note: Callable[[str], None]

    def obtain(
        self,
        kind: str,
        key: str,
        *,
        load: Callable[[Path], T | None],
        build: Callable[[BinaryIO], None],
    ) -> T | None:
        """An entry, built first if it is not there; other processes wait for the one that builds.

        Args:
            kind: folder of the entry.
            key: its name, a digest of all that its content depends on.
            load: reads it from a file; None if that is not whole.
            build: writes it (see `seal`); raises OSError for whatever is no reason to fail.

        Returns:
            What `load` gives; None if it cannot be kept here, of which `note` is told.
        """
        path = self.directory / kind / key
        try:
            found = _load(path, load)
            if found is None:
                with _construction(path) as (file, publish):
                    found = _load(path, load)  # another process may have built it meanwhile
                    if found is None:
                        build(file)
                        publish()
                        found = _load(path, load)
            return found
        except OSError as error:
            self.note(
                f"Nothing is kept in the cache {self.directory} ({error.strerror or error}), so "
                f"the next start has to do this work again. {CACHE_DIRECTORY} names another place."
            )
            return None


def seal(file: BinaryIO, facts: Mapping[str, Any]) -> None:
    """End an entry whose payload is written: append what `unseal` needs, and facts about it."""
    text = json.dumps({**facts, "bytes": file.tell()}).encode()
    file.write(text + _FOOTER.pack(len(text), zlib.crc32(text), _MARK))


def unseal(path: Path) -> tuple[dict[str, Any], npt.NDArray[np.uint8]] | None:
    """Facts and payload of an entry; None if there is none, or one that is not whole.

    The payload is mapped, not read: pages come from the disk as they are used, all processes share
    them, and nothing that is written to the array reaches the file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _FOOTER.size))
            length, checksum, mark = _FOOTER.unpack(file.read())
            if mark != _MARK or length + _FOOTER.size > size:
                return None
            file.seek(size - _FOOTER.size - length)
            text = file.read(length)
    except (FileNotFoundError, struct.error):
        return None
    if zlib.crc32(text) != checksum:
        return None
    facts = json.loads(text)
    if not 0 < facts["bytes"] == size - _FOOTER.size - length:
        return None
    return facts, np.memmap(path, dtype=np.uint8, mode="c", shape=(facts["bytes"],))


def _load(path: Path, load: Callable[[Path], T | None]) -> T | None:
    found = load(path)
    if found is not None:
        with suppress(OSError):  # of a cache that others fill, and we only read
            os.utime(path)
    return found


@contextmanager
def _construction(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """The file that is to become an entry, this process alone writing it.

    The lock is on the unfinished file itself and ends with its process, however that ends: whoever
    comes next finds what was left and begins anew.

    Yields:
        The empty file, and the function that makes it the entry. Else it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    with _locked(unfinished) as file:

        def publish() -> None:
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
            _flush_directory(path.parent)

        try:
            file.truncate(0)
            yield file, publish
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file of that name, made if need be, under an exclusive lock."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held the lock before has renamed or removed the file that we waited for.
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield file
                return


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # or a power failure may undo the renaming
    finally:
        os.close(descriptor)
