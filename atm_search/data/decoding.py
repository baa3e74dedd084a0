"""Image files to pixels, on all cores."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from atm_search.data.cores import usable_cores
from atm_search.errors import DataError

Pixels = npt.NDArray[np.uint8]
Transform = Callable[[Image.Image], Pixels]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Decoded:
    """What became of some files, but for the pixels."""

    names: tuple[str, ...]
    """The sound ones, in order."""
    contents: tuple[bytes, ...]
    """sha256 of each of their files."""
    corrupt: dict[str, str]
    """The others, and why."""


def decode(
    root: Path,
    files: Sequence[str],
    *,
    transform: Transform,
    store: Callable[[Pixels], None],
    progress: Progress | None = None,
) -> Decoded:
    """Decode files and hand their pixels on, each file being read once.

    In threads: Pillow lets go of the interpreter where the time goes, and processes were not
    faster (280 images of ImageNet per second on two cores, against 190 in processes).

    Args:
        root: folder that the files are relative to.
        files: in the order in which they are stored.
        transform: RGB image to uint8 [3, H, W], the same H and W for all.
        store: given the pixels of every sound file, contiguous, in this thread and in order.
        progress: called in this thread with files done and files in all.

    Raises:
        DataError: a file cannot be read, or the transform gives no uint8 or another shape.
    """
    names, contents, corrupt, shape = [], [], dict[str, str](), tuple[int, ...]()
    pool = ThreadPoolExecutor(usable_cores())
    try:
        decoded = pool.map(partial(_decode, transform=transform), (root / file for file in files))
        for done, (file, outcome) in enumerate(zip(files, decoded, strict=True), start=1):
            if isinstance(outcome, str):
                corrupt[file] = outcome
            else:
                content, image = outcome
                shape = shape or image.shape
                if image.dtype != np.uint8 or image.shape != shape:
                    raise DataError(
                        f"{file} became {image.dtype} {list(image.shape)}, others uint8 "
                        f"{list(shape)}: the transform must give one shape, in uint8."
                    )
                store(image)
                names.append(file)
                contents.append(content)
            if progress is not None:
                progress(done, len(files))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the images in hand, not for all
    return Decoded(tuple(names), tuple(contents), corrupt)


def decoders() -> dict[str, str]:
    """Versions of what turns files into pixels, by name: another one may give other pixels."""
    found = {name: version(name) for name in ("pillow", "timm", "torchvision")}
    return found | {"libjpeg": str(features.version("jpg"))}


def unreadable(path: Path, error: OSError) -> DataError:
    """The refusal of a file that the system does not let us read."""
    return DataError(f"{path} cannot be read: {error.strerror}. Repair or remove it.")


def _decode(path: Path, transform: Transform) -> tuple[bytes, Pixels] | str:
    """Sha256 of the file and its pixels [3, H, W], or why it is corrupt."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
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
    return hashlib.sha256(content).digest(), np.ascontiguousarray(transform(image))
