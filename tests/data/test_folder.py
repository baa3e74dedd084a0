"""A folder of real image files, read into a shard."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torchvision.datasets import ImageFolder

from atm_search.data.folder import read_folder
from atm_search.data.layout import canonical_order
from atm_search.data.shard import Shard
from atm_search.data.unseen import require_unseen
from atm_search.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SAMPLE = SHARED / "data" / "imagenet-sample-1000"


def to_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """[3, 8, 8]; squashed, which is enough to tell pictures apart."""
    assert image.mode == "RGB"
    return np.asarray(image.resize((8, 8))).transpose(2, 0, 1)


def draw(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def read(
    root: Path, *, images: int | None = None, skip: int = 0, skip_corrupt: bool = False
) -> Shard:
    return read_folder(
        root,
        transform=to_array,
        num_classes=3,
        images=images,
        skip=skip,
        skip_corrupt=skip_corrupt,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine pictures, three of each class, of three formats."""
    for number in range(9):
        suffix = ("jpg", "png", "webp")[number // 3]
        draw(tmp_path / "root" / "abc"[number % 3] / f"{number}.{suffix}", number)
    return tmp_path / "root"


def test_shard_holds_every_picture_under_its_label(root: Path) -> None:
    shard = read(root)
    assert shard.images.shape == (9, 3, 8, 8)
    assert shard.source == str(root)
    assert shard.skipped == ()
    for name, image, label in zip(shard.names, shard.images, shard.labels.tolist(), strict=True):
        with Image.open(root / name) as opened:
            assert image.equal(torch.from_numpy(to_array(opened.convert("RGB")).copy()))
        assert name[0] == "abc"[label]


def test_files_labels_and_pixels_agree_with_torchvision(root: Path) -> None:
    """A second opinion on layout, label order and decoding."""
    reference = {
        Path(path).relative_to(root).as_posix(): (to_array(image).tolist(), label)
        for (path, _), (image, label) in zip(
            ImageFolder(str(root)).samples, ImageFolder(str(root)), strict=True
        )
    }
    shard = read(root)
    ours = zip(shard.images.tolist(), shard.labels.tolist(), strict=True)
    assert dict(zip(shard.names, ours, strict=True)) == reference


def test_shard_is_in_canonical_order_and_a_subset_is_its_prefix(root: Path) -> None:
    full, four = read(root), read(root, images=4)
    assert list(full.names) == canonical_order(full.names, seed=0)
    assert four.names == full.names[:4]
    assert four.images.equal(full.images[:4])
    assert four.digest != full.digest


def test_two_parts_make_the_whole_and_have_nothing_in_common(root: Path) -> None:
    full, four, rest = read(root), read(root, images=4), read(root, skip=4)
    assert four.names + rest.names == full.names
    assert rest.images.equal(full.images[4:])
    assert full.contents == four.contents + rest.contents
    assert read(root, images=2, skip=4).names == full.names[4:6]
    with pytest.raises(DataError, match=r"6 images asked for, but .* has 5 beyond the first 4"):
        read(root, images=6, skip=4)
    with pytest.raises(DataError, match="has 9 images and none beyond the first 9"):
        read(root, skip=9)
    with pytest.raises(DataError, match="skip=-1"):
        read(root, skip=-1)


def test_images_used_by_a_search_are_refused_whatever_their_names(
    root: Path, tmp_path: Path
) -> None:
    searched = read(root, images=4)
    require_unseen(read(root, skip=4), searched)
    twin = root / "c" / "another.jpg"
    twin.write_bytes((root / searched.names[0]).read_bytes())
    with pytest.raises(DataError, match=f"1 of .* images .*another.jpg .there {searched.names[0]}"):
        require_unseen(read(root, skip=4), searched)
    with pytest.raises(DataError, match="unknown"):
        require_unseen(replace(searched, contents=()), searched)


def test_more_images_than_there_are_is_refused_with_both_numbers(root: Path) -> None:
    with pytest.raises(DataError, match=r"10 images asked for, but .*root has 9"):
        read(root, images=10)


@pytest.mark.parametrize("images", [0, -1])
def test_no_images_at_all_is_refused(root: Path, images: int) -> None:
    with pytest.raises(DataError, match=f"images={images}: a shard needs at least 1"):
        read(root, images=images)


def test_digest_is_that_of_content_labels_and_order(root: Path, tmp_path: Path) -> None:
    digest = read(root).digest
    assert read(Path(shutil.copytree(root, tmp_path / "copy"))).digest == digest

    halved = read_folder(root, transform=lambda i: to_array(i)[:, ::2], num_classes=3)
    assert halved.digest == digest

    shuffled = read_folder(root, transform=to_array, num_classes=3, seed=1)
    assert shuffled.digest != digest

    draw(root / "a" / "0.jpg", 99)
    assert read(root).digest != digest


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    (tmp_path / "0").mkdir()
    Image.new(mode, (10, 10)).save(tmp_path / "0" / f"1.{suffix}")
    assert read(tmp_path).images.shape == (1, 3, 8, 8)


def test_exif_rotation_is_not_applied_as_in_timm(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees to show
    Image.new("RGB", (40, 20)).save(tmp_path / "a" / "1.jpg", exif=exif)
    sizes = []

    def note(image: Image.Image) -> npt.NDArray[np.uint8]:
        sizes.append(image.size)
        return to_array(image)

    read_folder(tmp_path, transform=note, num_classes=1)
    assert sizes == [(40, 20)]


def test_corrupt_images_are_counted_and_the_first_three_named(root: Path) -> None:
    first, second, third, fourth, *_ = read(root).names
    truncate(root / first)
    truncate(root / second)
    (root / third).write_bytes(b"")
    (root / fourth).write_text("<html>not found</html>")
    with pytest.raises(DataError) as refusal:
        read(root)
    message = str(refusal.value)
    assert message.startswith(f"4 of 9 images of {root} cannot be decoded: {first} (")
    assert f"{second} (" in message
    assert f"{third} (not an image) and 1 more." in message
    assert fourth not in message
    assert message.endswith("leave them out with --skip-corrupt.")


def test_corrupt_images_are_skipped_on_request_and_listed(root: Path) -> None:
    truncate(root / "a" / "0.jpg")
    truncate(root / "b" / "4.png")
    shard = read(root, skip_corrupt=True)
    assert sorted(shard.skipped) == ["a/0.jpg", "b/4.png"]
    assert len(shard) == len(shard.names) == 7
    assert not set(shard.skipped) & set(shard.names)


def test_digest_covers_the_images_that_were_kept(root: Path) -> None:
    """The last of the order, so that leaving it out moves no other."""
    last = read(root).names[-1]
    eight = read(root, images=8)
    truncate(root / last)
    kept = read(root, skip_corrupt=True)
    assert kept.digest == eight.digest
    assert kept.images.equal(eight.images)


def test_corrupt_images_are_not_replaced_in_a_subset(root: Path) -> None:
    first = read(root).names[0]
    truncate(root / first)
    shard = read(root, images=4, skip_corrupt=True)
    assert (len(shard), shard.skipped) == (3, (first,))


def test_corrupt_image_outside_the_subset_does_no_harm(root: Path) -> None:
    truncate(root / read(root).names[-1])
    assert len(read(root, images=8)) == 8


def test_folder_of_corrupt_images_only_is_refused_even_with_skipping(tmp_path: Path) -> None:
    draw(tmp_path / "0" / "1.jpg", 1)
    truncate(tmp_path / "0" / "1.jpg")
    with pytest.raises(DataError, match=r"1 of 1 images .* nothing to measure"):
        read(tmp_path, skip_corrupt=True)


def test_unreadable_file_is_no_corrupt_image(root: Path) -> None:
    (root / "a" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read: No such file"):
        read(root, skip_corrupt=True)


def test_labels_that_do_not_fit_are_refused_before_anything_is_decoded(root: Path) -> None:
    def never(image: Image.Image) -> npt.NDArray[np.uint8]:
        raise AssertionError

    with pytest.raises(DataError, match=r"3 class folders.*2 classes"):
        read_folder(root, transform=never, num_classes=2)


@pytest.mark.parametrize("given", [np.zeros((3, 1, 1), np.uint8), np.zeros((3, 8, 8), np.float32)])
def test_transform_of_another_shape_or_type_is_refused(
    root: Path, given: npt.NDArray[np.uint8]
) -> None:
    """[3, 1, 1] would broadcast and floats would be cut off, both silently."""
    calls = iter([np.zeros((3, 8, 8), np.uint8)] + [given] * 8)
    with pytest.raises(DataError, match=r"the transform must give one shape, in uint8"):
        read_folder(root, transform=lambda _: next(calls), num_classes=3)


def test_progress_is_told_in_the_calling_thread(root: Path) -> None:
    told = []

    def progress(done: int, total: int) -> None:
        told.append((done, total, threading.current_thread()))

    read_folder(root, transform=to_array, num_classes=3, progress=progress)
    assert told == [(done, 9, threading.main_thread()) for done in range(1, 10)]


def test_interruption_abandons_the_images_not_yet_decoded(tmp_path: Path) -> None:
    for number in range(200):
        draw(tmp_path / "a" / f"{number}.png", number)
    decoded = []

    def slow(image: Image.Image) -> npt.NDArray[np.uint8]:
        decoded.append(image)
        threading.Event().wait(0.002)
        return to_array(image)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_folder(tmp_path, transform=slow, num_classes=1, progress=interrupt)
    assert len(decoded) < 100


def test_more_memory_than_there_is_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shape: tuple[int, ...], dtype: type) -> npt.NDArray[np.uint8]:
        if shape[0]:
            raise MemoryError
        return np.zeros(shape, dtype)

    monkeypatch.setattr("atm_search.data.pictures.np.empty", empty)
    with pytest.raises(DataError, match=r"9 decoded images need 0 GB of memory"):
        read(root)


@pytest.mark.parametrize("use_prefetcher", [True, False])
def test_timm_eval_transform_is_accepted_only_unnormalised(
    root: Path, use_prefetcher: bool
) -> None:
    """With `use_prefetcher` timm leaves normalising, hence uint8, to the device."""
    transform = create_transform(
        (3, 16, 16), is_training=False, crop_pct=0.9, use_prefetcher=use_prefetcher
    )
    if use_prefetcher:
        shard = read_folder(root, transform=transform, num_classes=3)
        assert shard.images.shape == (9, 3, 16, 16)
    else:
        with pytest.raises(DataError, match=r"became float32 \[3, 16, 16\]"):
            read_folder(root, transform=transform, num_classes=3)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no images in {SAMPLE}")
def test_real_imagenet_images_are_read_under_their_classes() -> None:
    shard = read_folder(SAMPLE, transform=to_array, num_classes=1000, images=64)
    assert shard.images.shape == (64, 3, 8, 8)
    assert len(set(shard.labels.tolist())) == 64
    # All 1,000 are there, and ImageNet-1k counts them in sorted order.
    synsets = sorted(folder.name for folder in SAMPLE.iterdir())
    assert [synsets[label] for label in shard.labels] == [name[:9] for name in shard.names]


def test_buffer_of_a_decoded_image_is_not_shared(root: Path) -> None:
    """A transform may hand out views of one array; the shard copies."""
    shared = np.zeros((3, 8, 8), np.uint8)
    shard = read_folder(root, transform=lambda _: shared, num_classes=3)
    shared += 1
    assert int(shard.images.sum()) == 0
