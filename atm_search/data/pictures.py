"""Decoded images, in memory or in the cache."""

import errno
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from atm_search.data.cache import seal, unseal
from atm_search.data.decoding import Decoded, Pixels
from atm_search.errors import DataError

Decode = Callable[[Callable[[Pixels], None]], Decoded]
"""Decodes some files, handing the pixels of each to the function given."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded images, whatever their classes are."""

    pixels: Tensor
    """uint8 [N, 3, H, W]."""
    decoded: Decoded
    check: Callable[[int, int], None] | None = None
    """Told which pixels, from and up to, are about to be used; raises DataError if they are not
    those that were decoded."""


def in_memory(num_files: int, decode: Decode) -> Pictures:
    """Images decoded into memory.

    Raises:
        DataError: there is not enough.
    """
    pixels: Pixels = np.empty((0, 3, 0, 0), dtype=np.uint8)
    count = 0

    def store(image: Pixels) -> None:
        nonlocal pixels, count
        if count == 0:
            pixels = _allocate(num_files, image)
        pixels[count] = image
        count += 1

    decoded = decode(store)
    return Pictures(torch.from_numpy(pixels[:count]), decoded)


def write(file: BinaryIO, num_files: int, decode: Decode) -> None:
    """Decode images into an entry of the cache.

    Raises:
        OSError: they do not fit on the disk.
    """
    shape: tuple[int, ...] = ()
    checksums = []

    def store(image: Pixels) -> None:
        nonlocal shape
        if not shape:
            shape = image.shape
            if shutil.disk_usage(file.fileno()).free < num_files * image.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # sooner than late
        file.write(image.data)
        checksums.append(zlib.crc32(image.data))

    decoded = decode(store)
    seal(
        file,
        {
            "shape": [len(checksums), *shape],
            "checksums": checksums,
            "names": decoded.names,
            "contents": [content.hex() for content in decoded.contents],
            "corrupt": decoded.corrupt,
        },
    )


def read(path: Path) -> Pictures | None:
    """The images of an entry, mapped; None if there is none, or one that is not whole."""
    sealed = unseal(path)
    if sealed is None:
        return None
    facts, payload = sealed
    decoded = Decoded(
        names=tuple(facts["names"]),
        contents=tuple(map(bytes.fromhex, facts["contents"])),
        corrupt=facts["corrupt"],
    )
    pixels = payload.reshape(facts["shape"])
    return Pictures(torch.from_numpy(pixels), decoded, _checker(path, pixels, facts["checksums"]))


def _checker(path: Path, pixels: Pixels, checksums: Sequence[int]) -> Callable[[int, int], None]:
    """Compares every image with its checksum when it is first used: 35 microseconds each."""
    checked = np.zeros(len(pixels), dtype=bool)

    def check(start: int, end: int) -> None:
        for number in range(start, min(end, len(pixels))):
            if checked[number]:
                continue
            if zlib.crc32(pixels[number].data) != checksums[number]:
                path.unlink(missing_ok=True)
                raise DataError(
                    f"Image {number} in the cache is not what was written there: the disk may be "
                    f"failing. {path} was removed; start again, and the images are read anew."
                )
            checked[number] = True

    return check


def _allocate(num_images: int, image: Pixels) -> Pixels:
    try:
        return np.empty((num_images, *image.shape), dtype=np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{num_images:,} decoded images need {num_images * image.size / 1e9:,.0f} GB of "
            "memory, more than there is. Ask for fewer images."
        ) from error
