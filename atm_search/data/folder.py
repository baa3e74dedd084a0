"""A folder of images, one folder per class, read into a shard."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError

from atm_search.data.labels import class_indices
from atm_search.data.layout import canonical_order, class_of, list_images
from atm_search.data.shard import Shard, shard_digest
from atm_search.errors import DataError

Pixels = npt.NDArray[np.uint8]
Transform = Callable[[Image.Image], Pixels]
Progress = Callable[[int, int], None]


def read_folder(
    root: Path,
    *,
    transform: Transform,
    num_classes: int,
    images: int | None = None,
    seed: int = 0,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> Shard:
    """Shard of a folder in ImageFolder layout, `root/class/.../image.jpg`.

    Files are found, opened and turned to RGB as timm and torchvision do (EXIF rotation is not
    applied), so that accuracies compare with published ones. Each file is read once, on all
    cores.

    Args:
        root: folder whose subfolders are the classes; `class_indices` says how names count.
        transform: RGB image to uint8 [3, H, W], the same H and W for all.
        num_classes: class count of the model, >= 1.
        images: how many to take, the first of `canonical_order`; None takes all.
        seed: draws the order, and with it which images a smaller number takes.
        skip_corrupt: leave corrupt images out, and name them in `Shard.skipped`, instead of
            refusing the folder. They are not replaced: the shard is smaller by their number.
        progress: called in this thread with files done and files in all.

    Raises:
        DataError: no such folder, another layout, fewer images than asked for, files that
            cannot be read or decoded, labels that do not fit the model.
    """
    folders, files = list_images(root)
    indices = class_indices(folders, num_classes=num_classes)
    files = _first(images, canonical_order(files, seed=seed), root=root)
    pixels, contents, corrupt = _decode_all(root, files, transform, progress)
    if corrupt and (not skip_corrupt or not contents):
        raise DataError(_describe(corrupt, len(files), root))
    names = tuple(file for file in files if file not in corrupt)
    labels = [indices[class_of(name)] for name in names]
    return Shard(
        images=torch.from_numpy(pixels),
        labels=torch.tensor(labels),
        names=names,
        digest=shard_digest(contents, labels),
        source=str(root),
        skipped=tuple(corrupt),
    )


def _first(images: int | None, files: list[str], *, root: Path) -> list[str]:
    if images is None:
        return files
    if images < 1:
        raise DataError(f"images={images}: a shard needs at least 1 image.")
    if images > len(files):
        raise DataError(
            f"{images:,} images asked for, but {root} has {len(files):,}. "
            "Ask for fewer, or leave the number out to take all."
        )
    return files[:images]


def _decode_all(
    root: Path, files: Sequence[str], transform: Transform, progress: Progress | None
) -> tuple[Pixels, list[bytes], dict[str, str]]:
    """Pixels [N, 3, H, W] and content hashes of the sound files; the others, and why."""
    pixels: Pixels = np.empty((0, 3, 0, 0), dtype=np.uint8)
    contents: list[bytes] = []
    corrupt: dict[str, str] = {}
    pool = ThreadPoolExecutor(_cores())
    try:
        decoded = pool.map(partial(_decode, transform=transform), (root / file for file in files))
        for done, (file, outcome) in enumerate(zip(files, decoded, strict=True), start=1):
            if isinstance(outcome, str):
                corrupt[file] = outcome
            else:
                content, image = outcome
                if not contents:
                    pixels = _allocate(len(files), image)
                if image.dtype != np.uint8 or image.shape != pixels.shape[1:]:
                    raise DataError(
                        f"{file} became {image.dtype} {list(image.shape)}, others uint8 "
                        f"{list(pixels.shape[1:])}: the transform must give one shape, in uint8."
                    )
                pixels[len(contents)] = image
                contents.append(content)
            if progress is not None:
                progress(done, len(files))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the images in hand, not for all
    return pixels[: len(contents)], contents, corrupt


def _decode(path: Path, transform: Transform) -> tuple[bytes, Pixels] | str:
    """Sha256 of the file and its pixels [3, H, W], or why it is corrupt."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Repair or remove it.") from error
    try:
        with Image.open(BytesIO(content)) as opened:
            image = opened.convert("RGB")
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return "not an image"  # Pillow's own words name the buffer's memory address
    except Exception as error:
        # Broken files surface as OSError, SyntaxError, ValueError, struct.error and more.
        return str(error) or type(error).__name__
    # timm's own transforms give arrays in some versions and tensors in others.
    return hashlib.sha256(content).digest(), np.asarray(transform(image))


def _allocate(num_images: int, image: Pixels) -> Pixels:
    try:
        return np.empty((num_images, *image.shape), dtype=np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{num_images:,} decoded images need {num_images * image.size / 1e9:,.0f} GB of "
            "memory, more than there is. Ask for fewer images."
        ) from error


def _cores() -> int:
    """Cores this process may use; on a shared machine there may be more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
