"""Measure a sub-grid of a model once, so that searches can be replayed on it in seconds.

    python benchmarks/record.py --model demo --images 300 --step 3 -o benchmarks/demo_300.csv

Each configuration becomes a line as soon as it is measured; the same command goes on where it was
stopped. The first line says, as JSON, what was measured on what. With --outcomes a last column has
what the configuration did image by image, which races need.
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

from atm_search.measure.evaluator import Evaluator
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Race
from atm_search.measure.setup import BATCH_SIZE, open_shard
from atm_search.merging.registry import build, method_class
from atm_search.models.zoo import load_model
from atm_search.search.space import Space

FIGURES = ("top1_hits", "gflops", "kl")
OUTCOMES = "outcomes"
"""Column with `Outcomes.to_text`."""

DIGITS = 9
"""Of GFLOPs and KL: a millionth of a percent, and files that are read."""


def main() -> None:
    options = _parser().parse_args()
    model = load_model(
        options.model,
        checkpoint=options.checkpoint,
        device=options.device,
        dtype=options.dtype,
    )
    shard = open_shard(model, data=options.data, images=options.images)
    evaluator = Evaluator(model, shard, batch_size=options.batch_size)
    method = method_class("atm")
    space = _thinned(Space(method.space(model.depth)), options.step)
    about = {
        "model": model.name,
        "weights": model.weights_digest,
        "shard": shard.digest,
        "images": len(shard),
        "batch_size": options.batch_size,
        "dtype": model.dtype_name,
        "dense_top1_hits": int(evaluator.dense().hits().sum()),
        "dense_gflops": round(evaluator.dense_gflops, DIGITS),
        "method": "atm",
        "fixed_params": method.defaults() | {"prop_attn": model.prop_attn},
        "space": space.to_list(),
    }
    if options.outcomes:
        hits = evaluator.dense().hits().cpu()
        dense = Outcomes.of(hits, [0.0] * len(hits), [evaluator.dense_gflops])
        about["dense_outcomes"] = dense.to_text()
    names = [item.name for item in space.ranges]
    figures = [*FIGURES, OUTCOMES] if options.outcomes else list(FIGURES)
    done = _begun(options.output, about, [*names, *figures])
    started = time.perf_counter()
    with options.output.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for index in range(done, len(space)):
            params = space.at(index)
            race = Race()
            measured = evaluator.measure(build("atm", about["fixed_params"] | params), race=race)
            row = [*params.values(), measured.top1_hits, round(measured.gflops, DIGITS)]
            row.append(round(measured.kl, DIGITS))
            writer.writerow([*row, race.outcomes.to_text()] if options.outcomes else row)
            file.flush()
            rate = (time.perf_counter() - started) / (index + 1 - done)
            print(f"{index + 1} of {len(space)}, {rate:.2f} s each", file=sys.stderr, flush=True)


def _thinned(space: Space, steps: list[int]) -> Space:
    """The sub-grid of one step for all ranges, or of one for each."""
    if len(steps) == 1:
        return space.thinned(steps[0])
    alone = [Space((item,)).thinned(step) for item, step in zip(space.ranges, steps, strict=True)]
    return Space(tuple(item for one in alone for item in one.ranges))


def _begun(path: Path, about: dict[str, Any], headings: list[str]) -> int:
    """How many configurations a file has already, in order; a new one gets its headings."""
    head = [f"# {json.dumps(about)}", ",".join(headings)]
    if not path.exists():
        path.write_text("\n".join(head) + "\n")
        return 0
    lines = path.read_text().splitlines(keepends=True)
    if [line.rstrip("\n") for line in lines[:2]] != head:
        sys.exit(f"{path} was recorded from something else: name another file.")
    if not lines[-1].endswith("\n"):  # stopped in the middle of a line
        path.write_text("".join(lines[:-1]))
        return len(lines) - 3
    return len(lines) - 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument(
        "--step", type=int, nargs="+", default=[3], help="every step-th value, for all or each"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--outcomes", action="store_true", help="record image by image too")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
