"""The dense model's answers on a shard, kept in the cache: no run and no worker makes them twice.

They are kept as they are, in float32: a thousand images of a thousand classes take 4 MB, and
figures are the same to the bit whether they come from the model or from the disk.
"""

import hashlib
import json
import platform
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import load, save
from torch import Tensor

from atm_search.data.cache import Cache, seal, unseal
from atm_search.data.decoding import decoders
from atm_search.data.shard import Shard
from atm_search.measure.provenance import versions
from atm_search.models.zoo import LoadedModel

KIND = "dense"
"""Folder of the cache for these answers."""

FORMAT = 1
"""Raised with every change of what is kept there."""

Tensors = dict[str, Tensor]


def dense_reference(
    answer: Callable[[], Tensors],
    *,
    model: LoadedModel,
    shard: Shard,
    batch_size: int,
    cache: Cache | None,
) -> Tensors:
    """What `answer` gives, on the model's device; from the cache if it has been given before.

    Args:
        answer: asks the dense model, by name; its errors are passed on and nothing is kept.
        model: that model.
        shard: the images.
        batch_size: images per batch.
        cache: where answers are kept; None keeps none.
    """
    if cache is None:
        return answer()
    fresh: Tensors = {}

    def build(file: BinaryIO) -> None:
        fresh.update(answer())
        content = save({name: tensor.cpu() for name, tensor in fresh.items()})
        file.write(content)
        seal(file, {"checksum": zlib.crc32(content)})

    name = _name(model, shard, batch_size)
    found = cache.obtain(KIND, name, load=_read, build=build)
    if found is not None:
        return {name: tensor.to(model.device) for name, tensor in found.items()}
    return fresh or answer()


def _read(path: Path) -> Tensors | None:
    sealed = unseal(path)
    if sealed is None:
        return None
    facts, payload = sealed
    if zlib.crc32(payload.data) != facts["checksum"]:
        return None
    tensors: Tensors = load(payload.tobytes())
    return tensors


def _name(model: LoadedModel, shard: Shard, batch_size: int) -> str:
    """Digest of everything that decides the answers."""
    device = model.device
    decides = [
        FORMAT,
        model.name,
        model.weights_digest,
        model.preprocessing.to_dict(),
        model.dtype_name,
        shard.digest,
        len(shard),
        batch_size,
        _processor(device),
        torch.get_float32_matmul_precision(),
        versions(),
        decoders(),
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _processor(device: torch.device) -> str:
    """What the arithmetic runs on; threads are left out, or workers would not share answers."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
