"""A model's stand-in for searches, and a worker process around it.

As a script: python stub_worker.py '{"storage": ..., "budget": ...}' starts `processes` workers.
Each prints one line when a measurement begins, one per ended trial and one at its end; the exit
code is 130 if it was interrupted.
"""

import json
import os
import sys
import time
from typing import Any

from atm_search.measure.measurement import Measurement
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method, Range
from atm_search.search.dense import Dense
from atm_search.search.identity import Identity
from atm_search.search.space import Space
from atm_search.search.store import open_store
from atm_search.search.study import create_or_resume
from atm_search.search.trials import Environment, TrialRecord
from atm_search.search.worker import run

IMAGES = 1000
DENSE = Dense(images=IMAGES, top1_hits=787, top5_hits=950, gflops=1.254)
ENVIRONMENT = Environment("cpu", "float32", {"torch": "2.0"})


def identity(**changes: Any) -> Identity:
    """What the stand-in's studies fix."""
    facts: dict[str, Any] = {
        "model": "deit_tiny_patch16_224",
        "weights_digest": "ab" * 32,
        "shard_digest": "4f1c" * 16,
        "images": IMAGES,
        "protocol": {"batch_size": 100, "dtype": "float32", "preprocessing": {"crop_pct": 0.9}},
        "method": "atm",
        "fixed_params": {"prop_attn": True, "cls_only_last_block": True},
        "space": Space(Atm.space(12)),
    }
    return Identity(**(facts | changes))


def tome_identity(largest_r: int) -> Identity:
    """A study of a space so small that it can be measured whole."""
    fixed = {"prop_attn": True, "cls_only_last_block": False, "inflection": 0.0}
    space = Space((Range("r", 0, largest_r, 1),))
    return identity(method="tome", fixed_params=fixed, space=space)


def measurement(gflops: float, top1_hits: int, *, images: int = IMAGES) -> Measurement:
    """A measurement with these objectives."""
    return Measurement(
        images=images,
        top1_hits=top1_hits,
        top5_hits=940,
        dense_top1_hits=DENSE.top1_hits,
        dense_top5_hits=DENSE.top5_hits,
        lost=max(0, DENSE.top1_hits - top1_hits),
        gained=max(0, top1_hits - DENSE.top1_hits),
        agreements=900,
        kl=0.1,
        kl_se=0.01,
        gflops=gflops,
        dense_gflops=DENSE.gflops,
        matching_gflops=0.01,
        tokens_per_layer=(100.0,) * 12,
        seconds=0.5,
    )


def measure(method: Method, race: object = None) -> Measurement:
    """A smooth trade of accuracy for compute: the lower the thresholds, the less of both."""
    params = method.params()
    if method.name == "tome":
        share = 1 - 0.03 * params["r"]
    else:
        assert isinstance(method, Atm)
        thresholds = method.thresholds(12)
        share = sum(thresholds) / 12 - 0.2 * (1 - params["tau0"])
    loss = 300 * (1 - share) ** 2 + 0.5 * abs(params.get("split_depth", 9) - 9)
    return measurement(DENSE.gflops * share**3, round(DENSE.top1_hits - 10 * loss))


def say(*words: object) -> None:
    """Print a line by one call of the system: workers share a pipe, and `print` writes in parts."""
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def work(
    storage: str,
    *,
    budget: int,
    seconds: float = 0.0,
    worker: int = 0,
    sampler: str = "random",
    step: int = 1,
) -> int:
    """Run one worker to its end; its exit code."""

    def slow(method: Method, race: object = None) -> Measurement:
        say("measuring")
        time.sleep(seconds)
        return measure(method)

    def on_trial(record: TrialRecord, done: int, total: int) -> None:
        say("trial", record.number, record.state.name, done, total)

    begun = create_or_resume(
        open_store(storage, create=True, interval_s=1, grace_s=2),
        "s",
        identity=identity(),
        dense=lambda: DENSE,
        budget=budget,
        sampler=sampler,
        seed=0,
        step=step,
    )
    outcome = run(begun, slow, environment=ENVIRONMENT, worker=worker, on_trial=on_trial)
    say("outcome", json.dumps(vars(outcome)))
    return 130 if outcome.interrupted else 0


def main(*, processes: int = 1, **options: Any) -> int:
    """Fork the workers: one import of torch serves them all."""
    children = []
    for worker in range(1, processes):
        child = os.fork()
        if child == 0:
            os._exit(work(**options, worker=worker))
        children.append(child)
    codes = [work(**options)]
    codes += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(**json.loads(sys.argv[1])))
