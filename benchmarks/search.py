"""What races and reuse save, replayed on a table that was recorded image by image.

    python benchmarks/search.py benchmarks/TABLE.csv --seeds 5 --json benchmarks/search.json

Every search runs as a study with one worker in an SQLite file, over the recorded configurations:
with a sampler if the table is whole (`--sampler tpe`), else in a random order of its own for every
seed (`--sampler order`). Counted are image evaluations, which is what a search spends its time on.
A frontier has full measurements only, so its hypervolume needs no second measuring.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import optuna
from samplers import ENVIRONMENT, Table

from atm_search.search.frontier import hypervolume_history
from atm_search.search.objectives import TOP1, Objectives
from atm_search.search.samplers import SAMPLERS
from atm_search.search.store import open_store
from atm_search.search.study import create_or_resume
from atm_search.search.trials import TrialRecord, tally
from atm_search.search.worker import run

SHARES = (0.95, 0.99)
MODES: dict[str, dict[str, Any]] = {
    "no race": {"on": "off"},
    "top1": {"on": "top1"},
    "kl": {"on": "kl"},
    "kl, margin 10 %": {"on": "kl", "margin": 10.0},
    "kl, margin 20 %": {"on": "kl", "margin": 20.0},
    "kl, delta 0.5": {"on": "kl", "delta": 0.5},
    "kl, delta 0.5, margin 20 %": {"on": "kl", "delta": 0.5, "margin": 20.0},
}


@dataclass(frozen=True)
class Search:
    """One search, compared with the same one without races and reuse."""

    mode: str
    seed: int
    trials: int
    full: int
    raced: int
    reused: int
    share: float
    """Image evaluations, of those that trials in full would take."""
    hypervolume: float
    """Of that of the search without races."""
    to_reach: tuple[float | None, ...]
    """Thousands of image evaluations to each of SHARES of it; None if never reached."""


def search(
    table: Table,
    sampler: str,
    seed: int,
    trials: int,
    racing: dict[str, Any],
    objectives: Objectives = TOP1,
) -> list[TrialRecord]:
    """The records of one search."""
    with tempfile.TemporaryDirectory() as folder:
        study = create_or_resume(
            open_store(str(Path(folder) / "replay.db"), create=True),
            "replay",
            identity=replace(table.identity, objectives=objectives),
            dense=lambda: table.dense,
            budget=trials,
            sampler="random" if sampler == "order" else sampler,
            seed=seed,
            racing=racing,
        )
        if sampler == "order":
            names = [item.name for item in table.identity.space.ranges]
            for key in Random(seed).sample(sorted(table.measurements), trials):
                study.optuna.enqueue_trial(dict(zip(names, key, strict=True)))
        run(study, table.measure, environment=ENVIRONMENT)
        return study.records()


def compared(
    table: Table,
    mode: str,
    seed: int,
    records: list[TrialRecord],
    history: list[float],
    goal: float,
) -> Search:
    """A search's figures; `goal` is the hypervolume that counts as 1."""
    counts = tally(records)
    spent, costs = 0, []
    for record in records:
        if record.reused_from is None and record.measurement is not None:
            spent += record.measurement.images
        costs.append(spent / 1000)
    reached = (
        next((cost for cost, area in zip(costs, history, strict=True) if area >= part * goal), None)
        for part in SHARES
    )
    return Search(
        mode=mode,
        seed=seed,
        trials=len(records),
        full=counts["full"],
        raced=counts["raced"],
        reused=counts["reused"],
        share=counts["images"] / (len(records) * table.dense.images),
        hypervolume=history[-1] / goal,
        to_reach=tuple(reached),
    )


def markdown(searches: list[Search]) -> str:
    """A row per mode: medians, and the worst hypervolume."""
    heads = [f"to {100 * share:g} %" for share in SHARES]
    lines = [
        f"| race on | searches | image evaluations | {' | '.join(heads)} | hypervolume (worst) |",
        "| --- " * (len(SHARES) + 4) + "|",
    ]
    for mode in dict.fromkeys(item.mode for item in searches):
        own = [item for item in searches if item.mode == mode]
        cells = []
        for costs in zip(*(item.to_reach for item in own), strict=True):
            there = [cost for cost in costs if cost is not None]
            missed = f", {len(costs) - len(there)} never" if len(there) < len(costs) else ""
            cells.append(f"{statistics.median(there):.0f}k{missed}" if there else "never")
        share = statistics.median(item.share for item in own)
        area = [item.hypervolume for item in own]
        lines.append(
            f"| {mode} | {len(own)} | {100 * share:.0f} % | {' | '.join(cells)} | "
            f"{100 * statistics.median(area):.2f} % ({100 * min(area):.2f} %) |"
        )
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = Table.read(options.table, whole=options.sampler != "order")
    if not table.outcomes:
        sys.exit(f"{options.table} has no outcomes: record it with record.py --outcomes.")
    objectives = Objectives.parse(options.objectives)
    trials = min(options.trials, len(table.measurements))
    searches: list[Search] = []
    for seed in range(options.seeds):
        goal = 0.0
        for mode in options.modes:
            records = search(table, options.sampler, seed, trials, MODES[mode], objectives)
            history = hypervolume_history(records, table.dense, objectives)
            goal = goal or history[-1]
            searches.append(compared(table, mode, seed, records, history, goal))
            print(searches[-1], file=sys.stderr, flush=True)
    facts = {
        "table": options.table.name,
        "configurations": len(table.measurements),
        "images": table.dense.images,
        "sampler": options.sampler,
        "objectives": options.objectives,
        "searches": [asdict(item) for item in searches],
    }
    options.json.write_text(json.dumps(facts, indent=1) + "\n")
    print(markdown(searches))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--sampler", choices=[*SAMPLERS, "order"], default="tpe")
    parser.add_argument("--objectives", default="top1,gflops")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--json", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
