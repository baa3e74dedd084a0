"""Throughput of merging: what part of the saved multiply-adds is saved time?

    python benchmarks/merge.py --data imagenet/val --dtype float32 bfloat16 --json merge.json

One batch of images, held in memory; every contender runs once per round, in turn, so that all meet
the same machine. The speed-up is the median over rounds of dense time / time, the ideal is dense
multiply-adds / merged ones, the efficiency is speed-up / ideal. Dense is timm's own model, with
the faster of timm's two attentions (fused or not), which ours then uses too; naive is the patch of
`naive.py`. All run with the setting that lets a process keep the memory of freed tensors
(--fresh-memory: without), which the dense model gains most from.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import naive
import torch
from torch import Tensor

from atm_search.measure.flops import GIGA, CostModel
from atm_search.measure.setup import open_shard
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method
from atm_search.merging.tome import Tome
from atm_search.models.cpu import keep_freed_memory
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, load_model

ATM = [(0.985, 0.025, 0.885), (1.0, 0.035, 0.88), (0.98, 0.035, 0.84), (0.995, 0.045, 0.815)]
"""tau0, alpha, tau_min of published points of DeiT-T."""
TOME = [8, 13]


@dataclass(frozen=True)
class Contender:
    """Something that turns a batch into logits."""

    name: str
    gflops: float
    forward: Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """What one contender reached."""

    dtype: str
    name: str
    gflops: float
    images_per_s: float
    speed_up: float
    ideal: float
    efficiency: float


def take_faster_attention(model: LoadedModel, images: Tensor, repeats: int = 3) -> bool:
    """Whether fused attention is the faster one for the dense model; it is left so."""

    def switch(fused: bool) -> None:
        for block in model.network.blocks:
            block.attn.fused_attn = fused

    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        for fused, times in seconds.items():
            switch(fused)
            started = time.perf_counter()
            model.network(images)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    fused = min(seconds[True]) <= min(seconds[False])
    switch(fused)
    return fused


def contenders(model: LoadedModel, images: Tensor) -> list[Contender]:
    """Dense first, then every configuration, naive and ours."""
    network, cost = model.network, CostModel.of(model.network, model.preprocessing.input_size)
    tokens = (network.patch_embed.num_patches + network.num_prefix_tokens,) * model.depth
    found = [Contender("dense", cost.multiply_adds(tokens, tokens) / GIGA, lambda: network(images))]
    pairs: list[tuple[str, naive.TomeRule | naive.AtmRule, Method]] = [
        (f"ToMe r={r}", naive.TomeRule(r), Tome(r=r)) for r in TOME
    ]
    for tau0, alpha, tau_min in ATM:
        split = round(0.75 * model.depth)
        ours = Atm(tau0=tau0, alpha=alpha, tau_min=tau_min, split_depth=split)
        name = f"ATM {tau0:g} {alpha:g} {tau_min:g}"
        pairs.append((name, naive.AtmRule(tau0, alpha, tau_min, split), ours))
    for name, rule, method in pairs:
        patched = deepcopy(network)
        state = naive.patch(patched, rule)
        patched(images)
        gflops = naive.multiply_adds(patched, state) / GIGA
        found.append(Contender(f"{name}, naive", gflops, partial(patched, images)))
        out = run(network, method, images)
        gflops = cost.of_pass(out) / GIGA
        found.append(Contender(f"{name}, ours", gflops, partial(run, network, method, images)))
    return found


def race(entries: list[Contender], dtype: str, batch: int, rounds: int, sync: bool) -> list[Row]:
    """Every contender once per round, after one round of warm-up."""
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    for number in range(rounds + 1):
        for entry in entries:
            started = time.perf_counter()
            entry.forward()
            if sync:
                torch.cuda.synchronize()
            if number > 0:
                seconds[entry.name].append(time.perf_counter() - started)
        print(f"{dtype}: round {number} of {rounds}", file=sys.stderr, flush=True)
    dense = entries[0]
    rows = []
    for entry in entries:
        ratios = [a / b for a, b in zip(seconds[dense.name], seconds[entry.name], strict=True)]
        speed_up, ideal = statistics.median(ratios), dense.gflops / entry.gflops
        rate = batch / statistics.median(seconds[entry.name])
        rows.append(Row(dtype, entry.name, entry.gflops, rate, speed_up, ideal, speed_up / ideal))
    return rows


def markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| precision | | GFLOPs | images/s | speed-up | ideal | efficiency |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.dtype} | {row.name} | {row.gflops:.3f} | {row.images_per_s:.1f} "
        f"| {row.speed_up:.2f} | {row.ideal:.2f} | {row.efficiency:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write it as JSON if asked to."""
    options = _parser().parse_args()
    if not options.fresh_memory:
        keep_freed_memory()
    rows: list[Row] = []
    fused: dict[str, bool] = {}
    for dtype in options.dtype:
        model = load_model(
            options.model, checkpoint=options.checkpoint, device=options.device, dtype=dtype
        )
        shard = open_shard(model, data=options.data, images=options.batch_size)
        with torch.inference_mode():
            images = model.prepare(shard.images)
            fused[dtype] = take_faster_attention(model, images)
            entries = contenders(model, images)
            sync = model.device.type == "cuda"
            rows += race(entries, dtype, len(shard), options.rounds, sync)
    facts = {
        "machine": naive.machine(),
        "device": str(model.device),
        "model": model.name,
        "batch_size": options.batch_size,
        "images": options.batch_size,
        "warm_up_rounds": 1,
        "rounds": options.rounds,
        "fused_attention": fused,
        "fresh_memory": options.fresh_memory,
        "rows": [asdict(row) for row in rows],
    }
    print(", ".join(f"{key} {value}" for key, value in facts.items() if key != "rows"))
    print(markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="deit_t")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--fresh-memory", action="store_true", help="leave the allocator alone")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()
