"""Downloads from a real server on this machine: success, every failure, and what is left behind."""

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from atm_search.data.download import (
    DATA_HINT,
    FREE_DATASETS,
    IMAGENETTE,
    FreeDataset,
    download,
)
from atm_search.errors import DataError

IMAGE = "imagenette2-320/val/n01440764/1.JPEG"


def archive_of(*files: str) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file in files:
            entry = tarfile.TarInfo(file)
            entry.size = 5000
            tar.addfile(entry, BytesIO(bytes(range(250)) * 20))
    return buffer.getvalue()


ARCHIVE = archive_of(IMAGE, "imagenette2-320/train/n01440764/2.JPEG")


@dataclass
class Server:
    """What the next answers are, and how many requests there were."""

    url: str = ""
    status: int = 200
    body: bytes = ARCHIVE
    announced: int | None = None
    requests: list[str] = field(default_factory=list)

    def dataset(self) -> FreeDataset:
        md5 = hashlib.md5(self.body, usedforsecurity=False).hexdigest()
        return replace(IMAGENETTE, url=self.url, md5=md5)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    answers = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.requests.append(self.path)
            self.send_response(answers.status)
            length = len(answers.body) if answers.announced is None else answers.announced
            if length >= 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answers.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answers.url = f"http://127.0.0.1:{http.server_port}/imagenette2-320.tgz"
        yield answers
        http.shutdown()
        thread.join()


def test_download_gives_the_validation_folder_and_leaves_nothing_else(
    server: Server, tmp_path: Path
) -> None:
    told = []
    images = download(
        server.dataset(), tmp_path / "new" / "data", progress=lambda *seen: told.append(seen)
    )
    assert images == tmp_path / "new" / "data" / "imagenette2-320" / "val"
    assert (images / "n01440764" / "1.JPEG").stat().st_size == 5000
    assert [path.name for path in (tmp_path / "new" / "data").iterdir()] == ["imagenette2-320"]
    assert told[-1] == (len(ARCHIVE), len(ARCHIVE))


def test_second_download_asks_no_server(server: Server, tmp_path: Path) -> None:
    first = download(server.dataset(), tmp_path)
    assert download(server.dataset(), tmp_path) == first
    assert len(server.requests) == 1


def test_imagenette_may_come_from_a_mirror(server: Server, tmp_path: Path) -> None:
    images = download(replace(IMAGENETTE, url=server.url, md5=server.dataset().md5), tmp_path)
    assert images == tmp_path / "imagenette2-320" / "val"


def test_server_that_does_not_say_the_size_is_fine(server: Server, tmp_path: Path) -> None:
    server.announced = -1
    told = []
    download(server.dataset(), tmp_path, progress=lambda *seen: told.append(seen))
    assert told[-1] == (len(ARCHIVE), 0)


def test_wrong_checksum_is_refused_with_both_and_before_unpacking(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"{server.dataset().md5}.*{IMAGENETTE.md5}.*try again"):
        download(replace(server.dataset(), md5=IMAGENETTE.md5), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_broken_off_transfer_is_refused_with_both_sizes(server: Server, tmp_path: Path) -> None:
    server.announced = 1_000_000
    with pytest.raises(DataError, match=f"broke off after {len(ARCHIVE):,} of 1,000,000 bytes"):
        download(server.dataset(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_refused_with_the_address(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=f"{server.url}: HTTP Error 404"):
        download(server.dataset(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_server_that_is_not_there_is_refused(server: Server, tmp_path: Path) -> None:
    nobody = replace(server.dataset(), url="http://127.0.0.1:1/data.tgz")
    with pytest.raises(DataError, match=r"Cannot download http://127.0.0.1:1/.*refused"):
        download(nobody, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_text_in_place_of_an_address_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot download data.tgz: unknown url type"):
        download(replace(server.dataset(), url="data.tgz"), tmp_path)


@pytest.mark.parametrize("body", [b"<html>log in first</html>", b"", ARCHIVE[:-40], ARCHIVE[:200]])
def test_what_is_no_archive_is_refused(server: Server, tmp_path: Path, body: bytes) -> None:
    server.body = body
    with pytest.raises(DataError, match=r"no tar archive that can be unpacked"):
        download(server.dataset(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_archive_that_leads_outside_is_refused(server: Server, tmp_path: Path) -> None:
    server.body = archive_of(IMAGE, "../../../escaped.txt")
    with pytest.raises(DataError, match=r"no tar archive that can be unpacked.*outside"):
        download(server.dataset(), tmp_path / "a" / "b")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_archive_of_something_else_is_refused(server: Server, tmp_path: Path) -> None:
    server.body = archive_of("other/val/1.jpg")
    with pytest.raises(DataError, match=r"holds no folder imagenette2-320/val"):
        download(server.dataset(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_foreign_folder_of_that_name_is_refused_before_the_download(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "imagenette2-320").mkdir()
    with pytest.raises(DataError, match=r"imagenette2-320 is in the way: it exists but has no val"):
        download(server.dataset(), tmp_path)
    assert server.requests == []


def test_destination_that_is_a_file_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"Cannot write imagenette to .*/file: .*File exists"):
        download(server.dataset(), tmp_path / "file")


def test_full_disk_is_told_from_a_broken_connection(server: Server, tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")  # as the write beside it would

    with pytest.raises(DataError, match=r"Cannot write imagenette .*No space left.*free space"):
        download(server.dataset(), tmp_path, progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_interruption_leaves_nothing(server: Server, tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.dataset(), tmp_path, progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_two_downloads_at_once_agree(server: Server, tmp_path: Path) -> None:
    """The slower one finds the folder in place when it wants to name its own."""
    dataset = server.dataset()

    def meanwhile(done: int, total: int) -> None:
        download(dataset, tmp_path)

    assert download(dataset, tmp_path, progress=meanwhile).is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["imagenette2-320"]
    assert len(server.requests) == 2


def test_known_data_sets_are_named_and_checksummed() -> None:
    for name, dataset in FREE_DATASETS.items():
        assert dataset.name == name
        assert len(bytes.fromhex(dataset.md5)) == 16
        assert dataset.url.startswith("https://")


def test_imagenette_is_the_one_that_torchvision_publishes() -> None:
    from torchvision.datasets import Imagenette

    assert Imagenette._ARCHIVES["320px"] == (IMAGENETTE.url, IMAGENETTE.md5)


@pytest.mark.parametrize(
    "way", ["--data DIR", "ATM_SEARCH_DATA", "atm-search download imagenette", "ImageNetV2"]
)
def test_hint_names_every_way_to_get_data(way: str) -> None:
    assert way in DATA_HINT
