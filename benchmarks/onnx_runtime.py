"""Wall clock of a frozen model and the dense one, in PyTorch and ONNX Runtime, on real images.

    python benchmarks/onnx_runtime.py frozen.yaml --data imagenet/val

All four answer every batch in turn, each beginning as often as the others, so that a slow moment
of the machine hits all of them. Decoding and normalising are not timed. Before that, each answers
one batch as warm-up. PyTorch is set up as every command here sets it up: freed memory is kept, and
attention is the kind that is faster on this CPU. All run in float32. Also counts the images for
which ONNX Runtime gives PyTorch's class.

Prints JSON; the four wall clocks also as a table, on stderr.

`frozen.yaml` is what `atm-search freeze` wrote. Needs the extra `onnx`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atm_search.deploy.configuration import Configuration
from atm_search.deploy.load import load_configured_model
from atm_search.deploy.onnx import session, write_dense_onnx, write_onnx
from atm_search.measure.provenance import device_name
from atm_search.measure.setup import open_shard
from atm_search.models.cpu import choose_attention, keep_freed_memory
from atm_search.models.reduced import ReducedViT
from atm_search.models.zoo import LoadedModel

Answer = Callable[[Tensor], Tensor]


@dataclass
class Contender:
    """One of the four, with what it took and what it said."""

    answer: Answer
    seconds: list[float] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)

    def run(self, images: Tensor) -> None:
        started = time.perf_counter()
        logits = self.answer(images)
        self.seconds.append(time.perf_counter() - started)
        self.classes += logits.argmax(dim=1).tolist()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    configuration = Configuration.read(options.frozen, refuse_edits=True)
    model = load_configured_model(
        configuration, checkpoint=options.checkpoint, device="cpu", dtype="float32"
    )
    choose_attention(model.network)
    shard = open_shard(model, data=options.data, images=options.images)
    with tempfile.TemporaryDirectory() as folder:
        contenders = four(configuration, model, Path(folder), options.threads)
        compare(contenders, model, shard.batches(options.batch_size))
    whole = len(shard) // options.batch_size  # the last, shorter batch is in no median
    report: dict[str, Any] = {
        "device": device_name(torch.device("cpu")),
        "batch_size": options.batch_size,
        "images": len(shard),
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "timm")},
        "method": configuration.method.model_dump(mode="json", exclude_none=True),
        "gflops": configuration.measurement.gflops,
        "dense_gflops": configuration.measurement.dense_gflops,
        "images_per_second": {
            name: options.batch_size / statistics.median(found.seconds[:whole])
            for name, found in contenders.items()
        },
        "median_ms_per_batch": {
            name: 1000.0 * statistics.median(found.seconds[:whole])
            for name, found in contenders.items()
        },
        "total_seconds": {name: sum(found.seconds) for name, found in contenders.items()},
        "same_class_as_pytorch": {
            kind: sum(
                a == b
                for a, b in zip(
                    contenders[f"{kind} ONNX Runtime"].classes,
                    contenders[f"{kind} PyTorch"].classes,
                    strict=True,
                )
            )
            for kind in ("dense", "frozen")
        },
        "speed_up": speed_up(contenders, whole),
    }
    for name, found in contenders.items():
        print(
            f"{name:<20} {sum(found.seconds):9.2f} s in all"
            f" {report['median_ms_per_batch'][name]:10.2f} ms per batch"
            f" {report['images_per_second'][name]:8.1f} images/s",
            file=sys.stderr,
        )
    print(json.dumps(report, indent=2))


def four(
    configuration: Configuration, model: LoadedModel, folder: Path, threads: int
) -> dict[str, Contender]:
    """Dense and frozen, in PyTorch and in ONNX Runtime."""
    write_dense_onnx(model, folder / "dense.onnx")
    write_onnx(configuration, model, folder / "frozen.onnx")
    reduced = ReducedViT(model.network, configuration.build_method())
    return {
        "dense PyTorch": Contender(model.network),
        "frozen PyTorch": Contender(reduced),
        "dense ONNX Runtime": Contender(in_runtime(folder / "dense.onnx", threads)),
        "frozen ONNX Runtime": Contender(in_runtime(folder / "frozen.onnx", threads)),
    }


def in_runtime(path: Path, threads: int) -> Answer:
    runtime = session(path, threads=threads)

    def answer(images: Tensor) -> Tensor:
        return torch.from_numpy(runtime.run(["logits"], {"images": images.numpy()})[0])

    return answer


def compare(contenders: dict[str, Contender], model: LoadedModel, batches: Any) -> None:
    order = list(contenders.values())
    with torch.inference_mode():
        for number, (pixels, _) in enumerate(batches):
            images = model.prepare(pixels)
            if number == 0:
                for contender in order:
                    contender.answer(images)
            for place in range(len(order)):
                order[(number + place) % len(order)].run(images)


def speed_up(contenders: dict[str, Contender], whole: int) -> dict[str, float]:
    """Median over batches of how many times faster the frozen model is than the dense one."""
    found = {}
    for engine in ("PyTorch", "ONNX Runtime"):
        dense, frozen = contenders[f"dense {engine}"], contenders[f"frozen {engine}"]
        pairs = zip(dense.seconds[:whole], frozen.seconds[:whole], strict=True)
        found[engine] = statistics.median(slow / fast for slow, fast in pairs)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("frozen", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
