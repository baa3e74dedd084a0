"""Which images a folder in ImageFolder layout holds, and in which order they are measured."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from atm_search.data.labels import is_wordnet_id
from atm_search.errors import DataError

# Those of torchvision's ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test"})


def list_images(root: Path) -> tuple[list[str], list[str]]:
    """Class folders and image files below root, sorted, as paths relative to it.

    Files without an image extension and everything hidden are passed over; links are followed
    and folders below a class folder belong to the class, as in torchvision.

    Raises:
        DataError: no such folder, none that can be read, or no image in it.
    """
    try:
        if not root.is_dir():
            wrong = "is a file" if root.exists() else "does not exist"
            raise DataError(f"{root} {wrong}: give a folder with a subfolder of images per class.")
        folders = sorted(
            entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
        files = sorted(_walk(root))
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error}. Check its permissions.") from error
    if not files:
        raise DataError(
            f"No images in {root} ({len(folders):,} class folders; looked for "
            f"{' '.join(EXTENSIONS)}). Give a folder with a subfolder of images per class."
        )
    return folders, files


def canonical_order(files: Iterable[str], *, seed: int) -> list[str]:
    """The files in the one order in which they are measured, every prefix class-balanced.

    One file of every class, then a second one of every class that has two, and so on: of two
    classes in a prefix, one has at most one file more than the other, unless the other is used
    up. The order depends on names and seed only, not on the file system or on how many are asked
    for: more images extend fewer.

    Args:
        files: relative paths with `/`, the first part being the class.
        seed: draws classes and files, each by sha256 of `seed:name`.
    """

    def draw(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}:{name}")).digest()

    by_class = defaultdict(list)
    for file in sorted(files, key=draw):
        by_class[class_of(file)].append(file)
    ranked = (
        (rank, draw(folder), file)
        for folder, members in by_class.items()
        for rank, file in enumerate(members)
    )
    return [file for _, _, file in sorted(ranked)]


def class_of(file: str) -> str:
    """The class folder of a relative path, its first part."""
    return file.split("/", 1)[0]


def _walk(root: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise error  # os.walk passes over what it cannot read, unless told otherwise

    for parent, folders, files in os.walk(root, onerror=fail, followlinks=True):
        folders[:] = [folder for folder in folders if folder[0] != "."]
        below = Path(parent).relative_to(root)
        for file in files:
            if file[0] != "." and file.lower().endswith(EXTENSIONS):
                yield (below / file).as_posix()


def check_layout(root: Path, folders: Sequence[str], files: Sequence[str]) -> None:
    """Refuse a folder whose subfolders are not the classes.

    Raises:
        DataError: there are images beside the class folders, or it lies above them.
    """
    loose = [file for file in files if "/" not in file]
    if loose:
        raise DataError(
            f"{len(loose):,} images such as '{loose[0]}' lie directly in {root}, so their class is "
            "unknown. ImageFolder layout is needed: move them to a folder per class."
        )
    inner = _inner_root(folders, files)
    if inner is not None:
        raise DataError(
            f"{root} lies above the class folders (it holds {', '.join(folders[:3])}). "
            f"Go further down, for instance to {root / inner}."
        )


def _inner_root(folders: Sequence[str], files: Sequence[str]) -> str | None:
    """The folder that was probably meant, when the given one lies above the class folders.

    Without this `imagenette2-320` would be taken for two classes, `train` and `val`.
    """
    if SPLITS.issuperset(folders):
        return max(folders)  # "val" sorts after "train" and "test"
    if not any(map(is_wordnet_id, folders)):
        for file in reversed(files):
            parts = file.split("/")[:-1]
            for depth, part in enumerate(parts):
                if is_wordnet_id(part):
                    return "/".join(parts[:depth])
    return None
