"""Seconds per full measurement: our Evaluator against the loop of `naive.py`.

    python benchmarks/trial.py --checkpoint deit_t.safetensors --data DIR --dtype float32 bfloat16

The same model, images, order and batches; in float32 top-1 and GFLOPs must agree, or it ends with
an error. Naive runs in a process of its own, in float32, and its clock starts when the model is
loaded. Ours is what a further trial of a study costs: decoding the images and measuring the dense
model happen once per study and are stated beside it; what makes any ViT faster on a CPU
(`atm_search/models/cpu.py`) is switched on. Rounds take turns.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import naive
import torch

from atm_search.data.shard import Shard
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.setup import open_shard
from atm_search.merging.atm import Atm
from atm_search.models.cpu import choose_attention, keep_freed_memory
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, load_model


def main() -> None:
    """Print the table, and write it as JSON if asked to."""
    options = _parser().parse_args()
    method = Atm(
        tau0=options.tau0, alpha=options.alpha, tau_min=options.tau_min, split_depth=options.split
    )
    keep_freed_memory()
    sides = []
    for dtype in options.dtype:
        model = load_model(options.model, checkpoint=options.checkpoint, device="cpu", dtype=dtype)
        choose_attention(model.network)
        started = time.perf_counter()
        shard = open_shard(model, data=options.data, images=options.images)
        opened = time.perf_counter()
        evaluator = Evaluator(model, shard, batch_size=options.batch_size)
        evaluator.dense()
        once = {"open_s": opened - started, "dense_s": time.perf_counter() - opened}
        sides.append((model, shard, evaluator, once))
    theirs: list[dict[str, Any]] = []
    ours: list[list[dict[str, Any]]] = [[] for _ in sides]
    for number in range(options.rounds):
        theirs.append(_naive(options, method, sides[0][1]))
        print(f"round {number + 1}: naive {theirs[-1]['seconds']:.1f} s", file=sys.stderr)
        for runs, (model, shard, evaluator, _) in zip(ours, sides, strict=True):
            runs.append(_measure(evaluator, method, model, shard, options.batch_size))
            print(
                f"  ours, {model.dtype_name}: {runs[-1]['seconds']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    rows = [_row("naive", "float32", theirs, theirs, {})]
    for runs, (model, _, _, once) in zip(ours, sides, strict=True):
        rows.append(_row("ours", model.dtype_name, runs, theirs, once))
    facts = {
        "machine": naive.machine(),
        "model": sides[0][0].name,
        "images": len(sides[0][1]),
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "warm_up": "ours: the dense pass; naive: none",
        "method": method.params(),
        "rows": rows,
    }
    print(", ".join(f"{key} {value}" for key, value in facts.items() if key != "rows"))
    print(_markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    for row in rows[1:]:
        same = (row["top1"], round(row["gflops"], 9)) == (
            rows[0]["top1"],
            round(rows[0]["gflops"], 9),
        )
        if row["dtype"] == "float32" and not same:
            sys.exit("top-1 or GFLOPs differ between naive and ours in float32.")


def _naive(options: argparse.Namespace, method: Atm, shard: Shard) -> dict[str, Any]:
    """One trial of `naive.py` on the shard's images in the shard's order."""
    trial = naive.in_process(options, method.params(), shard.source, shard.names)
    return trial | {"top1": 100.0 * trial["top1_hits"] / trial["images"]}


def _measure(
    evaluator: Evaluator, method: Atm, model: LoadedModel, shard: Shard, batch_size: int
) -> dict[str, Any]:
    """One trial of ours, then its forward passes alone, to know their share."""
    started = time.perf_counter()
    measured = evaluator.measure(method)
    seconds = time.perf_counter() - started
    forward = 0.0
    with torch.inference_mode():
        for images, _ in shard.batches(batch_size):
            prepared = model.prepare(images)
            started = time.perf_counter()
            run(model.network, method, prepared)
            forward += time.perf_counter() - started
    return {
        "seconds": seconds,
        "forward_seconds": forward,
        "top1": measured.top1,
        "gflops": measured.gflops,
    }


def _row(
    name: str,
    dtype: str,
    runs: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    once: dict[str, float],
) -> dict[str, Any]:
    faster = [a["seconds"] / b["seconds"] for a, b in zip(theirs, runs, strict=True)]
    return {
        "name": name,
        "dtype": dtype,
        "top1": runs[0]["top1"],
        "gflops": runs[0]["gflops"],
        "seconds": statistics.median(item["seconds"] for item in runs),
        "forward_share": statistics.median(
            item["forward_seconds"] / item["seconds"] for item in runs
        ),
        "faster": statistics.median(faster),
        "once": once,
    }


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| | precision | top-1 | GFLOPs | s per trial | forward | times faster | once per study |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        once = ", ".join(f"{key.removesuffix('_s')} {s:.1f} s" for key, s in row["once"].items())
        lines.append(
            f"| {row['name']} | {row['dtype']} | {row['top1']:.2f} | {row['gflops']:.4f} "
            f"| {row['seconds']:.1f} | {row['forward_share']:.0%} | {row['faster']:.2f} | {once} |"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    naive.comparison_options(parser)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tau0", type=float, default=1.0)
    parser.add_argument("--alpha", type=float, default=0.035)
    parser.add_argument("--tau-min", type=float, default=0.88)
    parser.add_argument("--split", type=int, default=9)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()
