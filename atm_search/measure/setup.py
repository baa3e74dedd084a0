"""From what a person names (a model, a folder) to an evaluator and its measurements."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from atm_search.data.cache import Cache, cache_directory
from atm_search.data.download import DATA_HINT
from atm_search.data.embedded import embedded_shard
from atm_search.data.folder import HEADLESS, read_folder
from atm_search.data.shard import Shard
from atm_search.errors import DataError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.measurement import Measurement
from atm_search.measure.precision import AUTO, automatic, loaded_as
from atm_search.merging.method import Method
from atm_search.models.zoo import DEMO, LoadedModel, load_model

DATA_DIRECTORY = "ATM_SEARCH_DATA"
"""Environment variable: the folder of images to measure on."""

BATCH_SIZE = 100


def open_shard(
    model: LoadedModel,
    *,
    data: Path | None = None,
    images: int | None = None,
    skip: int = 0,
    skip_corrupt: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cache: Cache | None = None,
    need_labels: bool = True,
) -> Shard:
    """The images that a model is measured on.

    Args:
        model: decides preprocessing and classes.
        data: folder in ImageFolder layout; else the one that ATM_SEARCH_DATA names. The demo model
            has its own images and uses them unless a folder is given.
        images: size of a seeded, class-balanced subset; None takes all (of the demo's, 1,000).
        skip: how many of the first to pass over.
        skip_corrupt: leave corrupt images out instead of refusing the folder.
        progress: called with images read and images in all.
        cache: keeps decoded images; the demo's own are drawn faster than they could be read.
        need_labels: refuse images whose classes are unknown; a model without a classifier head
            has no classes, and takes images without labels.

    Raises:
        DataError: no images, unreadable ones, or labels that the model has no class for.
    """
    if data is None and model.name == DEMO:
        own = embedded_shard(images, skip=skip)
        return own if model.has_head else own.unlabelled(HEADLESS)
    if data is None and os.environ.get(DATA_DIRECTORY):
        data = Path(os.environ[DATA_DIRECTORY])
    if data is None:
        raise DataError(f"No images to measure {model.name} on. {DATA_HINT}")
    return read_folder(
        data.resolve(),
        transform=model.preprocessing.pixels,
        num_classes=model.num_classes,
        images=images,
        skip=skip,
        skip_corrupt=skip_corrupt,
        progress=progress,
        cache=cache,
        transform_name=str(model.preprocessing),
        need_labels=need_labels,
    )


def evaluate(
    method: Method | None,
    *,
    model: str = DEMO,
    checkpoint: Path | None = None,
    data: Path | None = None,
    images: int | None = None,
    batch_size: int = BATCH_SIZE,
    crop_pct: float | None = None,
    device: str = "auto",
    dtype: str = AUTO,
) -> Measurement:
    """The measurement of one configuration; `load_model` and `open_shard` say what is taken.

    Args:
        method: what to measure; None measures the dense model.
        model: an alias or a timm name.
        checkpoint: weights, unless they are found without.
        data: folder of images.
        images: size of the subset; None takes all.
        batch_size: images per batch; part of what a batch-adaptive method does.
        crop_pct: overrides the model's own preprocessing.
        device: as torch names it, or `auto`.
        dtype: float32, bfloat16, float16, or `auto` (see `precision.automatic`).

    Raises:
        InputError: something of this does not exist or does not fit.
        MeasurementError: the model's outputs are not finite.
    """
    cache = Cache(cache_directory(), lambda note: warnings.warn(note, stacklevel=2))
    loaded = load_model(
        model, checkpoint=checkpoint, crop_pct=crop_pct, device=device, dtype=loaded_as(dtype)
    )
    shard = open_shard(loaded, data=data, images=images, cache=cache)
    if dtype == AUTO:
        loaded, _ = automatic(loaded, shard, batch_size=batch_size, cache=cache)
    return Evaluator(loaded, shard, batch_size=batch_size, cache=cache).measure(method)
