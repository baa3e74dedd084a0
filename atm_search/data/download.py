"""Free data sets, fetched and checked on request; nothing is ever downloaded unasked."""

import gzip
import hashlib
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Final

from atm_search.errors import DataError

TIMEOUT_S: Final = 60.0
CHUNK_BYTES: Final = 1 << 20

DATA_HINT: Final = (
    "Give labelled images, one folder per class, with --data DIR or ATM_SEARCH_DATA=DIR. "
    "Free ones: `atm-search download imagenette` (10 ImageNet classes, 342 MB), or ImageNetV2 "
    "(all 1,000) from https://huggingface.co/datasets/vaishaal/ImageNetV2."
)


@dataclass(frozen=True)
class FreeDataset:
    """A data set that anyone may download as one archive.

    Args:
        name: the word for it on the command line.
        url: address of the tar archive.
        md5: checksum of the archive, in hex, as its publisher gives it.
        images_folder: the folder to measure on, as a path inside the archive.
        description: one line for people.
    """

    name: str
    url: str
    md5: str
    images_folder: str
    description: str


IMAGENETTE: Final = FreeDataset(
    name="imagenette",
    url="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
    md5="3df6f0d01a2c9592104656642f5e78a3",
    images_folder="imagenette2-320/val",
    description="Imagenette, 10 easily told ImageNet classes, 3,925 validation images of 320 px; "
    "342 MB",
)
FREE_DATASETS: Final = {dataset.name: dataset for dataset in (IMAGENETTE,)}


def download(
    dataset: FreeDataset,
    destination: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Folder of the data set's images below destination, downloaded unless it is there.

    All work is done in a hidden folder inside destination, and the data set gets its name last,
    by a rename: what has the right name is complete, and after a failure nothing is left.

    Args:
        dataset: one of `FREE_DATASETS`, or one's own.
        destination: folder to put it in, made if missing; it needs room for archive and images.
        progress: called with bytes done and bytes in all, 0 if the server does not say.

    Raises:
        DataError: the download broke off or is not what was published, or there is no writing
            to destination.
    """
    images = destination / dataset.images_folder
    top = PurePosixPath(dataset.images_folder).parts[0]
    target = destination / top
    try:
        if images.is_dir():
            return images
        if target.exists():
            raise DataError(
                f"{target} is in the way: it exists but has no {images.relative_to(target)}. "
                "Remove it, or choose another destination."
            )
        destination.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".atm-search-", dir=destination) as workshop:
            archive = Path(workshop, "archive.part")
            _fetch(dataset, archive, progress)
            _unpack(dataset, archive, Path(workshop, "unpacked"))
            if not images.is_dir():  # another process may have been faster
                Path(workshop, "unpacked", top).rename(target)
    except OSError as error:
        raise DataError(
            f"Cannot write {dataset.name} to {destination}: {error}. "
            "Check permissions and free space, or choose another destination."
        ) from error
    return images


def _fetch(
    dataset: FreeDataset, archive: Path, progress: Callable[[int, int], None] | None
) -> None:
    digest = hashlib.md5(usedforsecurity=False)  # as published: finds damage, not malice
    done = 0
    with archive.open("wb") as file:
        for chunk, total in _chunks(dataset.url):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if digest.hexdigest() != dataset.md5:
        raise DataError(
            f"{dataset.url} has checksum {digest.hexdigest()}, {dataset.name} as published has "
            f"{dataset.md5}: it was damaged on the way or replaced. Nothing was kept; try again."
        )


def _chunks(url: str) -> Iterator[tuple[bytes, int]]:
    """Pieces of what url holds, each with the bytes in all, 0 if the server does not say.

    A generator, so that the errors turned into DataError here are those of the network only and
    not of the disk that the pieces are written to: both are OSError.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while chunk := response.read(CHUNK_BYTES):
                done += len(chunk)
                yield chunk, total
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(
            f"Cannot download {url}: {error}. Check the connection (and HTTPS_PROXY, behind a "
            "proxy) and try again, or fetch it by hand and unpack it."
        ) from error
    # read() takes a connection that closes early for the end of the file.
    if done < total:
        raise DataError(
            f"Download of {url} broke off after {done:,} of {total:,} bytes. "
            "Nothing was kept; try again."
        )


def _unpack(dataset: FreeDataset, archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")  # refuses paths that lead outside
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{dataset.url} is no tar archive that can be unpacked: {error}. "
            "Nothing was kept; check the address."
        ) from error
    if not (folder / dataset.images_folder).is_dir():
        raise DataError(
            f"The archive {dataset.url} holds no folder {dataset.images_folder}: it is not "
            f"{dataset.name} as we know it. Nothing was kept."
        )
