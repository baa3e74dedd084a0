"""What the store costs: trials per minute of many workers, and a suggestion's time in a long study.

    python benchmarks/scale.py --json scale.json
    python benchmarks/scale.py --storage postgresql://postgres@127.0.0.1/postgres

Workers measure a stand-in that takes 50 ms; whatever else passes between the beginnings of two
measurements is overhead: the store, the sampler (random, next to nothing) and the worker itself.
The ideal is that of workers which never wait. Suggestions are timed with the sampler that `auto`
takes for long studies.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

from faults import DENSE, ENVIRONMENT, identity, measure
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import create_trial

from atm_search.measure.measurement import Measurement
from atm_search.measure.racing import Race
from atm_search.merging.method import Method, Range
from atm_search.merging.registry import build
from atm_search.search.address import parse
from atm_search.search.samplers import make_sampler
from atm_search.search.store import open_store
from atm_search.search.study import Study, create_or_resume, load
from atm_search.search.worker import run


def main() -> None:
    warnings.filterwarnings("ignore", message="Heartbeat of storage")  # the worker beats itself
    options = _parser().parse_args()
    stamp = f"scale-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        stores = options.storage or [str(Path(folder) / "scale.db")]
        rows = [
            throughput(storage, f"{stamp}-{workers}", workers, options.trials, options.seconds)
            for storage in stores
            for workers in options.workers
        ]
        suggestion = None
        if options.finished:
            suggestion = suggestion_ms(str(Path(folder) / "long.db"), options.finished)
    print(f"{'store':12} {'workers':>7} {'trials/min':>10} {'ideal':>7} {'overhead/trial':>14}")
    for row in rows:
        print(
            f"{row['store']:12} {row['workers']:7} {row['trials_per_min']:10.0f} "
            f"{row['ideal_per_min']:7.0f} {row['overhead_ms']:11.1f} ms"
        )
    if suggestion is not None:
        print(
            f"A suggestion at {options.finished:,} finished trials: median "
            f"{suggestion['median']:.0f} ms, slowest {suggestion['slowest']:.0f} ms"
        )
    if options.json:
        figures = {"throughput": rows, "suggestion_ms": suggestion, "finished": options.finished}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def throughput(
    storage: str, name: str, workers: int, trials: int, seconds: float
) -> dict[str, Any]:
    """Figures of one study: `trials` for each of the workers, `seconds` each."""
    begun = _begin(storage, name, workers * trials)
    begun.storage.remove_session()
    begun.storage.engine.dispose()  # connections do not outlive a fork
    pipes = []
    for worker in range(workers):
        reading, writing = os.pipe()
        if os.fork() == 0:
            moments = _work(storage, name, worker, seconds)
            os.write(writing, json.dumps(moments).encode())
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    every = []
    for reading in pipes:
        with os.fdopen(reading) as pipe:
            every.append(json.loads(pipe.read()))
    for _ in range(workers):
        os.wait()
    # Until the first worker has nothing more to begin, all of them compete.
    until = min(moments[-1] for moments in every)
    gaps = [
        after - before for moments in every for before, after in pairwise(moments) if after <= until
    ]
    gap = statistics.mean(gaps)
    return {
        "store": parse(storage).get_backend_name(),
        "workers": workers,
        "trials_per_min": 60 * workers / gap,
        "ideal_per_min": 60 * workers / seconds,
        "overhead_ms": 1000 * (gap - seconds),
    }


def suggestion_ms(storage: str, finished: int) -> dict[str, float]:
    """Time that the next configuration of a long study takes to suggest."""
    study = _begin(storage, "long", finished + 50, sampler="auto")
    study.optuna.add_trials(_finished(study, finished))
    study.optuna.sampler = make_sampler(
        "auto", seed=0, budget=finished + 50, worker=0, started=finished
    )
    times = []
    for _ in range(20):
        trial = study.optuna.ask()
        started = time.perf_counter()
        params = study.identity.space.suggest(trial)
        times.append(1000 * (time.perf_counter() - started))
        measured = measure(build("atm", {**study.identity.fixed_params, **params}))
        study.optuna.tell(trial, (measured.top1, measured.gflops))
    return {"median": statistics.median(times), "slowest": max(times)}


def _begin(storage: str, name: str, budget: int, *, sampler: str = "random") -> Study:
    return create_or_resume(
        open_store(storage, create=True),
        name,
        identity=identity(),
        dense=lambda: DENSE,
        budget=budget,
        sampler=sampler,
        seed=0,
    )


def _work(storage: str, name: str, worker: int, seconds: float) -> list[float]:
    """When each measurement of one worker began."""
    moments = []

    def slow(method: Method, race: Race) -> Measurement:
        moments.append(time.monotonic())
        time.sleep(seconds)
        return measure(method)

    study = load(open_store(storage, create=False, wait_s=60), name)
    run(study, slow, environment=ENVIRONMENT, worker=worker)
    return moments


def _finished(study: Study, count: int) -> list[Any]:
    rng = random.Random(0)
    space = study.identity.space
    trials = []
    while len(trials) < count:
        params = space.at(rng.randrange(len(space)))
        if params["tau_min"] > params["tau0"]:
            continue
        measured = measure(build("atm", {**study.identity.fixed_params, **params}))
        distributions = {item.name: _distribution(item) for item in space.ranges}
        values = [measured.top1, measured.gflops]
        trials.append(create_trial(params=params, distributions=distributions, values=values))
    return trials


def _distribution(item: Range) -> FloatDistribution | IntDistribution:
    if item.is_integer:
        return IntDistribution(int(item.low), int(item.high), step=int(item.step))
    return FloatDistribution(item.low, item.high, step=item.step)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", action="append", help="again for another; default: SQLite")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=60, help="for each worker")
    parser.add_argument("--seconds", type=float, default=0.05, help="that a measurement takes")
    parser.add_argument("--finished", type=int, default=5000, help="0 times no suggestion")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
