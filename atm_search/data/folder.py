"""A folder of images, one folder per class or without any, read into a shard."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch

from atm_search.data import pictures
from atm_search.data.cache import Cache
from atm_search.data.decoding import (
    Decoded,
    Pixels,
    Progress,
    Transform,
    decode,
    decoders,
    unreadable,
)
from atm_search.data.labels import class_indices
from atm_search.data.layout import canonical_order, check_layout, class_of, list_images
from atm_search.data.pictures import Decode, Pictures
from atm_search.data.shard import Shard, shard_digest
from atm_search.errors import DataError

KIND = "images"
"""Folder of the cache for decoded images."""

HINT = "Without labels a search can follow the dense model: --objectives kl,gflops."

HEADLESS = "the model has no classifier head, so it has no classes"
"""Why there are no labels, for people."""

FORMAT = 1
"""Raised with every change of what is kept there, or of how files become pixels."""


def read_folder(
    root: Path,
    *,
    transform: Transform,
    num_classes: int,
    images: int | None = None,
    skip: int = 0,
    seed: int = 0,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
    cache: Cache | None = None,
    transform_name: str = "",
    need_labels: bool = True,
) -> Shard:
    """Shard of a folder in ImageFolder layout, `root/class/.../image.jpg`.

    Files are found, opened and turned to RGB as timm and torchvision do (EXIF rotation is not
    applied), so that accuracies compare with published ones. Each file is read once, on all
    cores; with a cache, once for all processes and runs, until one of the files changes.

    Args:
        root: folder whose subfolders are the classes; `class_indices` says how names count.
        transform: RGB image to uint8 [3, H, W], the same H and W for all.
        num_classes: class count of the model; 0 takes the images without labels.
        images: how many to take, the first of `canonical_order`; None takes all.
        skip: how many of the first to pass over, >= 0: those that another shard has.
        seed: draws the order, and with it which images a smaller number takes.
        skip_corrupt: leave corrupt images out, and name them in `Shard.skipped`, instead of
            refusing the folder. They are not replaced: the shard is smaller by their number.
        progress: called in this thread with files done and files in all.
        cache: where to keep the decoded images; if it cannot, or is None, memory does.
        transform_name: says of `transform` what the cache has to tell apart.
        need_labels: refuse a folder that does not say which image is of which class; else its
            shard has no labels, and says why.

    Raises:
        DataError: no such folder, another layout, fewer images than asked for, files that
            cannot be read or decoded, labels that do not fit the model.
    """
    folders, files = list_images(root)
    indices, why_unlabelled = _indices(root, folders, files, num_classes, need_labels)
    files = _part(canonical_order(files, seed=seed), images=images, skip=skip, root=root)
    reading = partial(_read_sound, root, files, transform, progress, skip_corrupt)
    kept = None
    if cache is not None:
        name = partial(_name, root, files, f"{transform_name}, skip_corrupt={skip_corrupt}")
        kept = _keep(cache, name, len(files), reading)
    found = pictures.in_memory(len(files), reading) if kept is None else kept
    names = found.decoded.names
    labels = None if indices is None else [indices[class_of(name)] for name in names]
    return Shard(
        images=found.pixels,
        labels=None if labels is None else torch.tensor(labels),
        names=names,
        digest=shard_digest(found.decoded.contents, labels),
        source=str(root),
        skipped=tuple(found.decoded.corrupt),
        why_unlabelled=why_unlabelled,
        check=found.check,
        contents=found.decoded.contents,
    )


def _indices(
    root: Path, folders: Sequence[str], files: Sequence[str], num_classes: int, needed: bool
) -> tuple[dict[str, int] | None, str]:
    """Class index of every class folder; None, and why, if they have none and need not."""
    if num_classes == 0:
        return None, HEADLESS
    try:
        check_layout(root, folders, files)
        return class_indices(folders, num_classes=num_classes), ""
    except DataError as error:
        if needed:
            raise DataError(f"{error} {HINT}") from error
        return None, str(error)


def _keep(
    cache: Cache, name: Callable[[], str], num_files: int, reading: Decode
) -> Pictures | None:
    """The images by way of the cache; None if it cannot keep them."""
    before = name()

    def build(file: BinaryIO) -> None:
        pictures.write(file, num_files, reading)
        if name() != before:
            raise OSError("the images changed while they were read")

    return cache.obtain(KIND, before, load=pictures.read, build=build)


def _name(root: Path, files: Sequence[str], how: str) -> str:
    """Digest of everything that decides the pixels, without reading the images.

    A file that changes has another time of change (ctime), which no program can set.
    """
    stamps = []
    for file in files:
        try:
            stat = (root / file).stat()
        except OSError as error:
            raise unreadable(root / file, error) from error
        stamps.append((file, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    decides = [FORMAT, str(root), stamps, how, decoders()]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _read_sound(
    root: Path,
    files: Sequence[str],
    transform: Transform,
    progress: Progress | None,
    skip_corrupt: bool,
    store: Callable[[Pixels], None],
) -> Decoded:
    decoded = decode(root, files, transform=transform, store=store, progress=progress)
    if decoded.corrupt and (not skip_corrupt or not decoded.names):
        raise DataError(_describe(decoded.corrupt, len(files), root))
    return decoded


def _part(files: list[str], *, images: int | None, skip: int, root: Path) -> list[str]:
    if skip < 0:
        raise DataError(f"skip={skip}: images can be passed over, not put before the first.")
    if images is not None and images < 1:
        raise DataError(f"images={images}: a shard needs at least 1 image.")
    left = files[skip:]
    beyond = f" beyond the first {skip:,}" if skip else ""
    if not left:
        raise DataError(f"{root} has {len(files):,} images and none{beyond}: give another folder.")
    if images is not None and images > len(left):
        raise DataError(
            f"{images:,} images asked for, but {root} has {len(left):,}{beyond}. "
            "Ask for fewer, or leave the number out to take all."
        )
    return left[:images]


def _describe(corrupt: dict[str, str], num_files: int, root: Path) -> str:
    first = ", ".join(f"{file} ({reason})" for file, reason in list(corrupt.items())[:3])
    more = f" and {len(corrupt) - 3:,} more" if len(corrupt) > 3 else ""
    remedy = (
        "Repair or remove them, or leave them out with --skip-corrupt."
        if len(corrupt) < num_files
        else "There is nothing to measure: give other images."
    )
    return (
        f"{len(corrupt):,} of {num_files:,} images of {root} cannot be decoded: {first}{more}. "
        f"{remedy}"
    )
