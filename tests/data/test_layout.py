"""Which files are images, in which order, and which layouts are refused."""

import errno
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.data.layout import canonical_order, check_layout, class_of, list_images
from atm_search.errors import DataError

class_sizes = st.dictionaries(
    st.text("abcn01", min_size=1, max_size=4), st.integers(1, 6), min_size=1, max_size=6
)


def files_of(sizes: dict[str, int]) -> list[str]:
    return [f"{folder}/{number}.jpg" for folder, size in sizes.items() for number in range(size)]


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@given(class_sizes, st.integers(0, 3))
def test_every_prefix_of_the_order_is_class_balanced(sizes: dict[str, int], seed: int) -> None:
    taken = Counter[str]()
    for file in canonical_order(files_of(sizes), seed=seed):
        taken[class_of(file)] += 1
        most = max(taken.values())
        assert all(taken[name] >= min(most - 1, size) for name, size in sizes.items())
    assert taken == sizes


@given(class_sizes, st.integers(0, 3), st.randoms())
def test_the_order_does_not_depend_on_how_files_are_listed(
    sizes: dict[str, int], seed: int, random: Random
) -> None:
    files = files_of(sizes)
    order = canonical_order(files, seed=seed)
    random.shuffle(files)
    assert canonical_order(files, seed=seed) == order


def test_the_order_is_the_documented_one() -> None:
    """Golden value, worked out with sha256sum: a reordering would change every shard."""
    files = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "c/x/1.jpg"]
    assert canonical_order(files, seed=0) == ["a/1.jpg", "c/x/1.jpg", "b/1.jpg", "a/2.jpg"]


def test_another_seed_draws_another_order() -> None:
    files = files_of({"a": 9, "b": 9})
    assert canonical_order(files, seed=0) != canonical_order(files, seed=1)


def test_images_are_found_by_extension_in_any_case_and_in_nested_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.JPEG", "b/deep/er/2.Png", "a/3.webp", "a/notes.txt", "a/jpg", "README.md")
    expected = (["a", "b"], ["a/3.webp", "b/1.JPEG", "b/deep/er/2.Png"])
    assert list_images(tmp_path) == expected


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/._1.jpg", "a/.cache/2.jpg", ".trash/3.jpg", ".4.jpg")
    assert list_images(tmp_path) == (["a"], ["a/1.jpg"])


def test_links_to_class_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "real/1.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "real")
    assert list_images(tmp_path / "root") == (["a"], ["a/1.jpg"])


def test_an_empty_class_folder_keeps_its_place(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg")
    (tmp_path / "a").mkdir()
    assert list_images(tmp_path) == (["a", "b"], ["b/1.jpg"])


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist: give a folder"):
        list_images(tmp_path / "nowhere")


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg is a file"):
        list_images(tmp_path / "a.jpg")


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No images in .* \(0 class folders"):
        list_images(tmp_path)


def test_class_folders_without_images_are_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.gif", "b/2.txt")
    with pytest.raises(DataError, match=r"No images in .* \(2 class folders; looked for \.jpg"):
        list_images(tmp_path)


@pytest.mark.parametrize("others", [(), ("a/1.jpg",)])
def test_images_in_the_root_are_refused(tmp_path: Path, others: tuple[str, ...]) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", *others)
    with pytest.raises(DataError, match=r"2 images such as '1\.jpg' lie directly in.*ImageFolder"):
        check_layout(tmp_path, *list_images(tmp_path))


@pytest.mark.parametrize(
    ("files", "meant"),
    [
        (["train/cat/1.jpg", "val/cat/1.jpg"], "val"),
        (["train/n01440764/1.jpg", "val/n01440764/1.jpg", "extra/n01440764/1.jpg"], "val"),
        (["imagenette2-320/train/n01440764/1.jpg", "imagenette2-320/val/n01440764/1.jpg"],
         "imagenette2-320/val"),
    ],
)  # fmt: skip
def test_folder_above_the_class_folders_is_refused(
    tmp_path: Path, files: list[str], meant: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=f"above the class folders.*for instance to .*/{meant}"):
        check_layout(tmp_path, *list_images(tmp_path))


def test_wordnet_folders_inside_wordnet_folders_are_fine(tmp_path: Path) -> None:
    touch(tmp_path, "n01440764/n01443537/1.jpg")
    assert list_images(tmp_path) == (["n01440764"], ["n01440764/n01443537/1.jpg"])


def test_unreadable_class_folder_is_refused_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated, because tests may run as root, whom permissions do not stop."""
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def locked(path: str) -> Any:
        if path.endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(DataError, match=r"cannot be read.*Permission denied.*/b"):
        list_images(tmp_path)
