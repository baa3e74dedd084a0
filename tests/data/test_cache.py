"""The cache of decoded images: never a number other than without it, whatever happens to it."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atm_search.data.cache import Cache, cache_directory
from atm_search.data.folder import read_folder
from atm_search.data.shard import Shard
from atm_search.errors import DataError

DECODE = """
import sys, time
from pathlib import Path
import numpy as np
from atm_search.data.cache import Cache
from atm_search.data.folder import read_folder

root, directory, log, pause_s = sys.argv[1:]

def transform(image):
    time.sleep(float(pause_s))
    with open(log, "a") as file:
        file.write("decoded\\n")
    return np.asarray(image.resize((8, 8))).transpose(2, 0, 1)

shard = read_folder(
    Path(root),
    transform=transform,
    num_classes=3,
    skip_corrupt=True,
    cache=Cache(Path(directory), print),
    transform_name="8",
)
print(shard.digest, int(shard.images.sum()))
"""
"""A process of its own: decodes through the cache, writing a line per image that it decodes."""


class Reader:
    """Reads a folder through a cache, and counts what it had to decode for it."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.root, self.directory = root, directory
        self.notes: list[str] = []
        self.decoded = 0

    def __call__(self, *, size: int = 8, images: int | None = None, cached: bool = True) -> Shard:
        self.decoded = 0

        def transform(image: Image.Image) -> np.ndarray:  # type: ignore[type-arg]
            self.decoded += 1
            return np.asarray(image.resize((size, size))).transpose(2, 0, 1)

        return read_folder(
            self.root,
            transform=transform,
            num_classes=3,
            images=images,
            skip_corrupt=True,
            cache=Cache(self.directory, self.notes.append) if cached else None,
            transform_name=f"{size}",
        )

    @property
    def entries(self) -> list[Path]:
        return sorted(path for path in self.directory.rglob("*") if path.is_file())


def draw(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)


@pytest.fixture(name="read")
def _read(tmp_path: Path) -> Reader:
    for number in range(9):
        draw(tmp_path / "root" / "abc"[number % 3] / f"{number}.png", number)
    return Reader(tmp_path / "root", tmp_path / "cache")


def same(one: Shard, other: Shard) -> bool:
    """Whether two shards give the same batches under the same identity."""
    batches = zip(one.batches(4), other.batches(4), strict=True)
    return (
        (one.digest, one.names, one.skipped) == (other.digest, other.names, other.skipped)
        and one.labels.equal(other.labels)
        and all(a.equal(b) for (a, _), (b, _) in batches)
    )


def test_images_are_decoded_once_and_are_the_same_as_without_a_cache(read: Reader) -> None:
    plain = read(cached=False)
    assert same(read(), plain)
    assert read.decoded == 9
    assert same(read(), plain)
    assert read.decoded == 0
    assert len(read.entries) == 1
    assert not read.notes


def test_the_entry_bears_the_time_of_its_last_use(read: Reader) -> None:
    read()
    os.utime(read.entries[0], (0, 0))
    read()
    assert time.time() - read.entries[0].stat().st_mtime < 60


def test_another_preprocessing_subset_or_version_is_another_entry(
    read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    read()
    assert read(size=4).images.shape == (9, 3, 4, 4)
    assert same(read(images=5), read(images=5, cached=False))
    monkeypatch.setattr("atm_search.data.decoding.version", lambda package: "99")
    read()
    assert read.decoded == 9
    assert len(read.entries) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda root: draw(root / "a" / "0.png", 99),
        lambda root: (root / "a" / "0.png").unlink(),
        lambda root: draw(root / "a" / "new.png", 99),
        lambda root: (root / "a" / "0.png").rename(root / "b" / "0.png"),
        lambda root: (root / "a" / "0.png").write_bytes(b"torn"),
        lambda root: (root / "a" / "0.png").replace(root / "a" / "3.png"),
    ],
    ids=["redrawn", "removed", "added", "relabelled", "corrupted", "replaced"],
)
def test_a_change_of_the_folder_is_noticed(read: Reader, change: Callable[[Path], None]) -> None:
    before = read()
    change(read.root)
    after = read()
    assert same(after, read(cached=False))
    assert after.digest != before.digest


def test_a_change_under_the_same_size_and_date_is_noticed(tmp_path: Path) -> None:
    """As `cp -p` and `rsync -t` make them: the time of change (ctime) tells."""
    for number, folder in enumerate("abc"):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "root" / folder).mkdir(parents=True)
        Image.fromarray(noise).save(tmp_path / "root" / folder / "1.bmp")
    read = Reader(tmp_path / "root", tmp_path / "cache")
    before = read()
    file = tmp_path / "root" / "a" / "1.bmp"
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[-20] ^= 0xFF
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = read()
    assert after.digest != before.digest
    assert same(after, read(cached=False))


def test_images_that_change_while_they_are_read_are_not_kept(read: Reader) -> None:
    def progress(done: int, total: int) -> None:
        if done == 9:
            draw(read.root / "a" / "0.png", 99)

    read_folder(
        read.root,
        transform=lambda image: np.asarray(image.resize((8, 8))).transpose(2, 0, 1),
        num_classes=3,
        cache=Cache(read.directory, read.notes.append),
        progress=progress,
    )
    assert not read.entries
    assert "the images changed while they were read" in read.notes[0]


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1, -16])
def test_an_entry_that_is_cut_off_is_built_anew(read: Reader, keep: float) -> None:
    plain = read(cached=False)
    read()
    content = read.entries[0].read_bytes()
    read.entries[0].write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    again = read()
    assert read.decoded == 9
    assert same(again, plain)
    read()
    assert read.decoded == 0


def test_a_damaged_image_is_found_before_it_is_measured(read: Reader) -> None:
    """A failing disk: one bit of one image, which no length tells."""
    plain = read(cached=False)
    read()
    content = bytearray(read.entries[0].read_bytes())
    content[5 * 3 * 8 * 8] ^= 1
    read.entries[0].write_bytes(content)
    damaged = read()
    batches = damaged.batches(4)
    assert next(batches)[0].equal(plain.images[:4])
    with pytest.raises(DataError, match=r"Image 5 in the cache .* start again"):
        next(batches)
    assert same(read(), plain)


def test_damaged_facts_are_no_entry(read: Reader) -> None:
    plain = read(cached=False)
    read()
    content = bytearray(read.entries[0].read_bytes())
    content[-100] ^= 1
    read.entries[0].write_bytes(content)
    assert same(read(), plain)
    assert read.decoded == 9


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(
    read: Reader, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", DECODE, read.root, read.directory, log, "0.2"]
    with subprocess.Popen(list(map(str, command))) as process:
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in read.entries] == [".unfinished"]
    plain = read(cached=False)
    assert same(read(), plain)
    assert read.decoded == 9
    assert [path.suffix for path in read.entries] == [""]


def test_two_processes_at_once_decode_once(read: Reader, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: run(read, log), range(2)))
    plain = read(cached=False)
    assert found == [f"{plain.digest} {int(plain.images.sum())}"] * 2
    assert len(log.read_text().splitlines()) == 9
    assert len(read.entries) == 1


def run(read: Reader, log: Path) -> str:
    command = [sys.executable, "-c", DECODE, read.root, read.directory, log, "0.1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_full_disk_costs_time_and_a_note_but_no_search(read: Reader, tmp_path: Path) -> None:
    """A file system of 64 KB, for 86 KB of pixels."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        read.directory = disk / "cache"
        assert same(read(size=56), read(size=56, cached=False))
        assert "No space left on device" in read.notes[0]
        assert len(read.notes) == 1
        assert not read.entries
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_half_way_is_no_other_case(read: Reader) -> None:
    """The limit on a file's size strikes in the middle, as a disk that others fill does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        shard = read(size=56)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(shard, read(size=56, cached=False))
    assert "File too large" in read.notes[0]
    assert not read.entries


def test_a_directory_that_cannot_be_made_costs_a_note(read: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    read.directory = tmp_path / "file" / "cache"
    assert same(read(), read(cached=False))
    (note,) = read.notes
    assert str(read.directory) in note
    assert "Not a directory" in note
    assert "ATM_SEARCH_CACHE" in note


def test_interruption_leaves_no_entry(read: Reader) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_folder(
            read.root,
            transform=lambda image: np.asarray(image.resize((8, 8))).transpose(2, 0, 1),
            num_classes=3,
            cache=Cache(read.directory, read.notes.append),
            progress=interrupt,
        )
    assert not read.entries


def test_the_mapped_images_cannot_change_the_entry(read: Reader) -> None:
    read().images.zero_()
    assert same(read(), read(cached=False))


def test_the_directory_is_that_of_the_user_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATM_SEARCH_CACHE", "/some/where")
    assert cache_directory() == Path("/some/where")
    monkeypatch.delenv("ATM_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_directory() == Path("/caches/atm-search")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_directory() == Path("/home/someone/.cache/atm-search")
