"""What `doctor` looks at: the store, devices, weights, images, disks."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from atm_search.data.cache import CACHE_DIRECTORY, cache_directory
from atm_search.data.cores import usable_cores
from atm_search.data.embedded import embedded_shard
from atm_search.data.folder import read_folder
from atm_search.data.layout import list_images
from atm_search.data.shard import Shard
from atm_search.errors import AtmSearchError, StoreError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.precision import has_bfloat16
from atm_search.measure.provenance import device_name, versions
from atm_search.measure.setup import DATA_DIRECTORY
from atm_search.models.zoo import DEMO, LoadedModel, load_model
from atm_search.search.address import shown
from atm_search.search.health import store_file, store_health

SAMPLE = 16
"""Images that are decoded and shown to the model."""

LITTLE, SCARCE = 2e9, 1e8
"""Free bytes of a disk below which there is a warning, and below which nothing can be kept."""

OK, WARNING, BROKEN = "ok", "warning", "broken"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: str
    """ok, warning or broken: then a search cannot work."""
    found: str
    todo: str = ""
    """What to do, unless all is well."""


def checks(
    *, storage: str, model: str | None, checkpoint: Path | None, data: Path | None, device: str
) -> Iterator[Check]:
    """Everything that a search needs, one after the other; nothing is changed.

    Args:
        storage: address of the store.
        model: alias or timm name; None is the demo.
        checkpoint: its weights.
        data: folder of images; None is that of the environment, or the demo's own.
        device: to measure on, as torch names it, or `auto`.
    """
    found = versions()
    yield Check("versions", OK, ", ".join(f"{name} {number}" for name, number in found.items()))
    yield _attempt(
        "store", lambda: Check("store", OK, f"{shown(storage)}: {store_health(storage)}")
    )
    yield _cpu()
    yield _gpus()
    loaded: list[LoadedModel] = []

    def weights() -> Check:
        loaded.append(load_model(model or DEMO, checkpoint=checkpoint, device=device))
        ready = loaded[0]
        what = f"{ready.name}, {ready.weights_digest[:8]} ({ready.weights_source})"
        return Check("weights", OK, f"{what} on {device_name(ready.device)}")

    yield _attempt("weights", weights)
    if loaded:
        yield _dtype(loaded[0])
        yield _attempt("images", lambda: _images(loaded[0], data))
    else:
        yield Check("images", WARNING, "not looked at", "Mend the weights first.")
    yield _disk("cache disk", cache_directory(), f"{CACHE_DIRECTORY} names another place.")
    file = _file(storage)
    if file is not None:
        yield _disk("store disk", file, "Name a store elsewhere with --storage.")


def _attempt(name: str, look: Callable[[], Check]) -> Check:
    """What a look gives; what it refuses is broken."""
    try:
        return look()
    except AtmSearchError as error:
        return Check(name, BROKEN, "cannot be used", str(error))


def _file(storage: str) -> Path | None:
    try:
        return store_file(storage)
    except StoreError:  # said already
        return None


def _cpu() -> Check:
    native = "with" if has_bfloat16(torch.device("cpu")) else "without"
    kind = torch.backends.cpu.get_cpu_capability()
    return Check("CPU", OK, f"{usable_cores()} cores, {kind}, {native} bfloat16 arithmetic")


def _gpus() -> Check:
    """The GPUs that torch can use, each with a product that it has computed."""
    if torch.backends.mps.is_available():
        return Check("GPU", OK, "Apple GPU (mps); measured with --device mps only")
    count = torch.cuda.device_count()
    if count == 0:
        if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
            todo = "Install a torch built for CUDA, and look at nvidia-smi."
            return Check("GPU", WARNING, f"a driver, but torch {torch.__version__} sees none", todo)
        return Check("GPU", OK, "none; the CPU measures")
    try:
        for number in range(count):
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            assert float((ones @ ones).sum()) == 64.0**3
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        todo = "Update the driver or torch, or measure with --device cpu."
        return Check("GPU", BROKEN, f"cuda:{number} does not compute: {reason}", todo)
    names = (torch.cuda.get_device_name(number) for number in range(count))
    memory = (torch.cuda.mem_get_info(number)[0] / 1e9 for number in range(count))
    found = (f"{name}, {free:.0f} GB free" for name, free in zip(names, memory, strict=True))
    return Check("GPU", OK, "; ".join(found))


def _dtype(model: LoadedModel) -> Check:
    if has_bfloat16(model.device):
        found = "bfloat16 if the dense model stays as good in it on the images, else float32"
    else:
        found = f"float32, because {device_name(model.device)} is not made for bfloat16"
    return Check("dtype", OK, f"auto takes {found}")


def _images(model: LoadedModel, data: Path | None) -> Check:
    """Whether images are there, and the model knows some of the first."""
    if data is None and os.environ.get(DATA_DIRECTORY) and model.name != DEMO:
        data = Path(os.environ[DATA_DIRECTORY])
    if data is None and model.name != DEMO:
        return Check(
            "images", WARNING, "none named", f"Name a folder with --data or {DATA_DIRECTORY}."
        )
    if data is None:
        sample, found = embedded_shard(SAMPLE), "the demo's own"
    else:
        folders, files = list_images(data.resolve())
        sample = _sample(model, data.resolve(), min(SAMPLE, len(files)))
        found = f"{len(files):,} in {len(folders):,} classes"
    hits = Evaluator(model, sample, batch_size=len(sample)).dense().top1_hit
    if hits is None:
        return Check(
            "images",
            WARNING,
            f"{found}; without labels",
            f"Search by --objectives {'kl' if model.has_head else 'feature'},gflops.",
        )
    right = int(hits.sum())
    check = Check("images", OK, f"{found}; {right} of the first {len(sample)} are classified right")
    if right == 0:
        todo = "Are the folders the model's classes, and the weights trained? See the README."
        return replace(check, status=WARNING, todo=todo)
    return check


def _sample(model: LoadedModel, root: Path, images: int) -> Shard:
    return read_folder(
        root, transform=model.preprocessing.pixels, num_classes=model.num_classes, images=images
    )


def _disk(name: str, path: Path, elsewhere: str) -> Check:
    """Room, and whether a file can be written, where a file or folder is or will be."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:,.1f} GB free for {path}"
    folder = place if place.is_dir() else place.parent
    if not os.access(folder, os.W_OK):
        return Check(name, WARNING, f"{folder} is read-only", f"Make it writable. {elsewhere}")
    if free >= LITTLE:
        return Check(name, OK, found)
    status = BROKEN if free < SCARCE else WARNING
    return Check(name, status, found, f"Free some, perhaps by prune-cache. {elsewhere}")
