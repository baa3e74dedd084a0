"""The embedded data set: the same pixels everywhere, balanced, from simple to complex."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import atm_search.models.zoo as zoo
from atm_search.data.embedded import (
    CLASS_NAMES,
    DEFAULT_IMAGES,
    GENERATOR_VERSION,
    VALIDATION_IMAGES,
    Split,
    embedded_images,
    embedded_shard,
)
from atm_search.data.shapes import SHAPES
from atm_search.errors import DataError

WEIGHTS = Path(zoo.__file__).with_name("demo.safetensors")


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("validation", "194909783d5201b8dac59e49f73bab6b6eb1bc87a2341a6b7c3312fef7070e85"),
        ("train", "58241c287f8a9896cfc4cdd51ba21b878f11b82959bad9d1a74b5bdb27ace1d4"),
    ],
)
def test_embedded_images_are_these_pixels_on_every_machine(split: Split, digest: str) -> None:
    # Computed with numpy 1.26.4 and 2.4.6, with and without SIMD, on an AMD EPYC. Another digest
    # needs a new GENERATOR_VERSION and new weights, and loses every study of the demo model.
    assert GENERATOR_VERSION == 1
    images = embedded_images(120, split=split).images
    assert hashlib.sha256(images.tobytes()).hexdigest() == digest


def test_embedded_images_have_the_documented_shapes_and_types() -> None:
    drawn = embedded_images(3)
    assert drawn.images.shape == (3, 3, 112, 112)
    assert drawn.images.dtype == np.uint8
    assert drawn.labels.tolist() == [0, 1, 2]
    assert drawn.labels.dtype == np.int64
    assert drawn.foreground.shape == (3, 14, 14)
    assert drawn.foreground.dtype == np.bool_
    assert drawn.complexity.shape == (3,)
    assert drawn.complexity.dtype == np.float32


@pytest.mark.parametrize(("start", "count"), [(0, 1), (49, 2), (37, 80), (0, 0)])
def test_an_image_depends_on_its_number_alone(start: int, count: int) -> None:
    whole, part = embedded_images(120), embedded_images(count, start=start)
    chosen = slice(start, start + count)
    np.testing.assert_array_equal(part.images, whole.images[chosen])
    np.testing.assert_array_equal(part.labels, whole.labels[chosen])
    np.testing.assert_array_equal(part.foreground, whole.foreground[chosen])
    np.testing.assert_array_equal(part.complexity, whole.complexity[chosen])


def test_splits_share_no_image() -> None:
    validation, train = embedded_images(200), embedded_images(200, split="train")
    digests = {image.tobytes() for image in validation.images}
    assert len(digests) == 200
    assert digests.isdisjoint(image.tobytes() for image in train.images)


def test_every_ten_images_hold_every_class() -> None:
    labels = embedded_images(200).labels.reshape(20, 10)
    assert (np.sort(labels, axis=1) == np.arange(len(CLASS_NAMES))).all()


def test_the_last_validation_image_exists_and_no_later_one() -> None:
    assert len(embedded_images(1, start=VALIDATION_IMAGES - 1).images) == 1
    with pytest.raises(DataError, match="5,000 validation images, not 5,001"):
        embedded_images(5001)
    with pytest.raises(DataError, match="not 5,001"):
        embedded_images(2, start=4999)


def test_the_training_split_has_no_end() -> None:
    assert embedded_images(1, split="train", start=10**12).images.std() > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "start=0, count=-1"),
        ({"count": 1, "start": -1}, "start=-1, count=1"),
        ({"count": 1, "split": "test"}, "No split 'test'.*train or validation"),
    ],
)
def test_embedded_images_refuses_what_does_not_exist(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        embedded_images(**arguments)


def test_complex_images_vary_more_between_neighbouring_pixels() -> None:
    drawn = embedded_images(200)
    roughness = np.abs(np.diff(drawn.images.astype(np.float64), axis=3)).mean(axis=(1, 2, 3))
    assert drawn.complexity.min() < 0.05
    assert drawn.complexity.max() > 0.95
    simple, clutter = drawn.complexity < 0.2, drawn.complexity > 0.8
    assert roughness[simple].max() < roughness[clutter].min()


def test_the_shape_stands_out_from_the_ground_in_simple_images() -> None:
    drawn = embedded_images(200)
    for number in np.flatnonzero(drawn.complexity < 0.2):
        patches = drawn.images[number].reshape(3, 14, 8, 14, 8)[:, :, 4, :, 4].astype(np.float64)
        foreground = drawn.foreground[number]
        inside, outside = patches[:, foreground], patches[:, ~foreground]
        difference = np.abs(inside.mean(axis=1) - outside.mean(axis=1)).max()
        assert difference > 40
        assert difference > 2 * inside.std(axis=1).max()


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_shape_fits_the_unit_disc_and_fills_some_of_it(name: str) -> None:
    axis = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    u, v = axis[None, :].repeat(301, axis=0), axis[:, None].repeat(301, axis=1)
    inside = SHAPES[name](u, v) < 0
    assert not inside[u * u + v * v > 1.03].any()
    assert 0.2 < inside.sum() / (u * u + v * v < 1).sum() < 0.8


def test_embedded_shard_names_its_images_and_is_identified_by_its_pixels() -> None:
    shard = embedded_shard(20)
    assert len(embedded_shard()) == DEFAULT_IMAGES
    assert shard.names[11] == "0011 square"
    assert torch.equal(shard.images, torch.from_numpy(embedded_images(20).images))
    assert shard.digest == embedded_shard(20).digest != embedded_shard(30).digest
    rest = embedded_shard(5, skip=15)
    assert (rest.names, rest.contents) == (shard.names[15:], shard.contents[15:])
    assert torch.equal(rest.images, shard.images[15:])
    assert len(embedded_shard(skip=4990)) == 10
    with pytest.raises(DataError, match="none beyond the first 5,000"):
        embedded_shard(skip=5000)


@pytest.mark.parametrize("images", [0, -1, 5001])
def test_embedded_shard_refuses_sizes_that_it_has_not(images: int) -> None:
    with pytest.raises(DataError):
        embedded_shard(images)


def test_demo_weights_were_trained_on_these_images_and_are_small() -> None:
    with safe_open(WEIGHTS, "pt") as weights:
        metadata = weights.metadata()
    assert metadata["generator_version"] == str(GENERATOR_VERSION)
    assert 85 < float(metadata["top1"]) < 95
    assert WEIGHTS.stat().st_size <= 6_000_000


@torch.inference_mode()
def test_demo_model_knows_simple_images_better_than_complex_ones() -> None:
    model, drawn = zoo.load_model("demo", device="cpu"), embedded_images(400)
    logits = model.network(model.prepare(torch.from_numpy(drawn.images)))
    hits = logits.argmax(dim=1).numpy() == drawn.labels
    assert hits.mean() > 0.85
    assert hits[drawn.complexity < 0.3].mean() > 0.95
    assert hits[drawn.complexity > 0.7].mean() < 0.95
