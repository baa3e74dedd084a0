"""Wall clock of a whole study, against a loop over as many trials with `naive.py`.

    python benchmarks/study.py --checkpoint deit_t.safetensors --data DIR --trials 200 --json F.json

Ours is `atm-search start` as a person types it, a process of its own with an empty cache: opening
the images, the precision, the dense model, every trial, the sampler and the store are all in it. A
few of its configurations, spread over their cost, are then measured by `naive.py`, half of them
before the study and half after, since machines change their speed; the loop takes their mean per
trial. What follows `--` goes to `start`, such as `-- --objectives top1,gflops --race-on kl`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import naive
from search import SHARES

from atm_search.search.frontier import hypervolume_history
from atm_search.search.store import open_store
from atm_search.search.study import load
from atm_search.search.trials import TrialRecord, tally

STUDY = "wall_clock"
TRIED = [(1.0, 0.015, 0.945), (1.0, 0.035, 0.88), (0.945, 0.05, 0.8)]
"""tau0, alpha and tau_min of what naive measures before the study: of high, middle and low cost."""


@dataclass(frozen=True)
class Ours:
    """What the study took."""

    seconds: float
    to_reach: tuple[float, ...]
    """Seconds to each of SHARES of the final hypervolume."""
    trials: int
    raced: int
    reused: int
    share: float
    """Image evaluations, of those that trials in full would take."""
    measuring: float
    """Seconds in which images were measured."""
    hypervolume: float
    """Of the frontier, in the score that is reported."""


def search(options: argparse.Namespace, folder: Path) -> tuple[Ours, list[TrialRecord]]:
    """The study, in `folder`."""
    command = [sys.executable, "-m", "atm_search", "start", "--study", STUDY, "--seed", "0"]
    command += ["--model", options.model, "--trials", str(options.trials), "--no-warm-start"]
    command += ["--data", str(options.data), "--batch-size", str(options.batch_size)]
    command += ["--images", str(options.images)] if options.images else []
    command += ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
    variables = {**os.environ, "ATM_SEARCH_CACHE": str(folder / "cache")}
    began = time.time()
    subprocess.run(
        [*command, *options.start], check=True, cwd=folder, env=variables, stdout=sys.stderr
    )
    seconds = time.time() - began
    study = load(open_store(str(folder / "atm-search.db"), create=False), STUDY)
    records = study.records()
    history = hypervolume_history(records, study.dense, study.objectives)
    ended = {trial.number: trial.datetime_complete for trial in study.optuna.get_trials()}
    reached = []
    for share in SHARES:
        first = next(i for i, area in enumerate(history) if area >= share * history[-1])
        moment = ended[records[first].number]
        assert moment is not None  # it has ended
        reached.append(moment.timestamp() - began)
    counts = tally(records)
    found = Ours(
        seconds=seconds,
        to_reach=tuple(reached),
        trials=len(records),
        raced=counts["raced"],
        reused=counts["reused"],
        share=counts["images"] / (len(records) * study.dense.images),
        hypervolume=history[-1],
        measuring=sum(
            record.measurement.seconds
            for record in records
            if record.measurement is not None and record.reused_from is None
        ),
    )
    return found, records


def naively(options: argparse.Namespace, params: dict[str, Any]) -> float:
    """Seconds of one trial of `naive.py`, the model loaded."""
    trial = naive.in_process(options, params, options.data)
    seconds = float(trial["seconds"])
    print(f"naive: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds * (options.images or trial["images"]) / trial["images"]


def main() -> None:
    """Print the comparison, and write it as JSON."""
    options = _parser().parse_args()
    names = ("tau0", "alpha", "tau_min")
    before = [
        naively(options, dict(zip(names, point, strict=True)) | {"split_depth": 9})
        for point in TRIED
    ]
    with tempfile.TemporaryDirectory() as folder:
        ours, records = search(options, Path(folder))
    options.json.write_text(json.dumps({"ours": asdict(ours)}, indent=1) + "\n")
    by_cost = sorted(
        (record.measurement.gflops, record.number, record.params)
        for record in records
        if record.measurement is not None
    )
    chosen = [by_cost[len(by_cost) * part // 6] for part in (1, 3, 5)]
    after = [naively(options, dict(params)) for _, _, params in chosen]
    each = statistics.mean(before + after)
    facts = {
        "machine": naive.machine(),
        "model": options.model,
        "options": options.start,
        "ours": asdict(ours),
        "naive": {"before": before, "after": after, "each": each},
        "times_faster": each * ours.trials / ours.seconds,
    }
    options.json.write_text(json.dumps(facts, indent=1) + "\n")
    reached = ", ".join(
        f"{100 * share:g} % of its hypervolume after {s:.0f} s"
        for share, s in zip(SHARES, ours.to_reach, strict=True)
    )
    print(
        f"{ours.trials} trials ({ours.raced} raced out, {ours.reused} reused) in {ours.seconds:.0f}"
        f" s, {ours.measuring:.0f} s of it measuring {100 * ours.share:.0f} % of all images; "
        f"{reached}\nnaive: {each:.1f} s per trial ({min(before + after):.1f} to "
        f"{max(before + after):.1f}), {each * ours.trials:.0f} s for as many: "
        f"{facts['times_faster']:.1f} times as long"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    naive.comparison_options(parser)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("start", nargs="*", help="options of `start`, after --")
    return parser


if __name__ == "__main__":
    main()
