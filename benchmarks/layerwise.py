"""Can thresholds that are free in every block beat those of Eq. 1, with as many trials?

    python benchmarks/layerwise.py --data FOLDER [--checkpoint FILE] --json layerwise.json

For every seed one search of Eq. 1 over N new configurations, begun at the published ones. From
there two ways on: N more of Eq. 1, or N with free thresholds (`atm-layerwise`), begun at the
frontier of the first search. Those starting points have been measured already, so they count as no
trials; that their figures come out the same is checked. Both frontiers, which KL chose on the
search's images, are then measured on images that no search has seen. There they are compared at
equal GFLOPs, KL and top-1 interpolated along each frontier; intervals are of 1,000 bootstrap draws
of those images, the searches taken as they came out. The same command goes on where it was stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from atm_search.cli.prepare import measured_on
from atm_search.data.cache import Cache, cache_directory
from atm_search.data.folder import read_folder
from atm_search.data.unseen import require_unseen
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.precision import automatic
from atm_search.measure.provenance import device_name, versions
from atm_search.measure.racing import Race
from atm_search.measure.setup import BATCH_SIZE, open_shard
from atm_search.merging.method import Method
from atm_search.merging.registry import build, method_class
from atm_search.models.cpu import keep_freed_memory
from atm_search.models.zoo import LoadedModel, load_model
from atm_search.search.dense import Dense
from atm_search.search.frontier import FrontierPoint, frontier
from atm_search.search.identity import Identity
from atm_search.search.objectives import KL
from atm_search.search.space import Space
from atm_search.search.start_points import queue
from atm_search.search.steady import SteadyStorage
from atm_search.search.store import open_store
from atm_search.search.study import Study, create_or_resume
from atm_search.search.trials import Environment, TrialRecord
from atm_search.search.warm_start import warm_start
from atm_search.search.worker import run
from atm_search.show.published import published

Values = NDArray[np.float64]

EQ1, FREE = "atm", "atm-layerwise"
COSTS = np.arange(0.75, 1.051, 0.01)
"""GFLOPs at which frontiers are compared, for the mean over them."""
SHOWN = (1.0, 0.9, 0.8)
DRAWS = 1000


@dataclass(frozen=True)
class Fresh:
    """One configuration on images that the search did not see."""

    gflops: float
    kl: Values
    """Nats, [images]."""
    right: Values
    """1 where top-1 is right, [images]."""


class Bench:
    """The searches of one model, and their frontiers on other images."""

    def __init__(
        self, evaluator: Evaluator, fresh: Evaluator, store: SteadyStorage, trials: int
    ) -> None:
        self.evaluator, self.fresh, self.store, self.trials = evaluator, fresh, store, trials
        self._seen: dict[Method, Fresh] = {}

    def searched(self, seed: int) -> tuple[list[FrontierPoint], list[FrontierPoint]]:
        """Frontiers of Eq. 1 alone, and of Eq. 1 followed by free thresholds."""
        first = self._study(EQ1, seed, self.trials)
        if not first.records():
            known = warm_start(first, published(first.identity.model))
            queue(first, [dict(point) for point in known.points] if known else [])
        self._run(first)
        begun = _up_to(first.records(), self.trials)
        starts = frontier(begun, first.dense, KL)
        free = self._study(FREE, seed, len(starts) + self.trials)
        if not free.records():
            names = [item.name for item in free.identity.space.ranges]
            depth = self.evaluator.model.depth
            for point in starts:
                own = method_class(FREE).taken_over(EQ1, point.params, depth)
                assert own is not None
                free.optuna.enqueue_trial({name: own[name] for name in names})
        self._run(free)
        _check_same(starts, free.records())
        more = self._study(EQ1, seed, 2 * self.trials)
        self._run(more)
        both = [*begun, *free.records()]
        return frontier(more.records(), more.dense, KL), frontier(both, free.dense, KL)

    def on_fresh(self, point: FrontierPoint) -> Fresh:
        """A frontier's point on the other images; each method is measured once."""
        method = build(point.method, point.params)
        if method not in self._seen:
            race = Race()
            measured = self.fresh.measure(method, race=race)
            assert race.outcomes.hits is not None
            kl, hits = race.outcomes.kl.astype(float), race.outcomes.hits.astype(float)
            self._seen[method] = Fresh(measured.gflops, kl, hits)
        return self._seen[method]

    def _study(self, method: str, seed: int, budget: int) -> Study:
        evaluator, searched = self.evaluator, method_class(method)
        dense = evaluator.dense()
        identity = Identity(
            **measured_on(evaluator),
            method=method,
            fixed_params=searched.defaults() | {"prop_attn": evaluator.model.prop_attn},
            space=Space(searched.space(evaluator.model.depth)),
            objectives=KL,
        )
        return create_or_resume(
            self.store,
            f"{method} {seed}",
            identity=identity,
            dense=lambda: Dense(
                images=len(evaluator.shard),
                top1_hits=int(dense.hits().sum()),
                top5_hits=None if dense.top5_hit is None else int(dense.top5_hit.sum()),
                gflops=evaluator.dense_gflops,
            ),
            budget=max(budget, self._done(f"{method} {seed}")),
            seed=seed,
        )

    def _done(self, name: str) -> int:
        """Finished trials of a study, which may be there from an earlier run."""
        if name not in optuna.get_all_study_names(self.store):
            return 1
        study = optuna.load_study(study_name=name, storage=self.store)
        return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))

    def _run(self, study: Study) -> None:
        model = self.evaluator.model
        outcome = run(
            study,
            lambda method, race: self.evaluator.measure(method, race=race),
            environment=Environment(device_name(model.device), model.dtype_name, versions()),
            on_trial=lambda _, done, budget: print(
                f"{study.name}: {done} of {budget}", file=sys.stderr, flush=True
            ),
        )
        if outcome.interrupted:
            sys.exit(130)


def _up_to(records: Sequence[TrialRecord], trials: int) -> list[TrialRecord]:
    """The first so many finished trials."""
    return [record for record in records if record.measured][:trials]


def _check_same(starts: Sequence[FrontierPoint], records: Sequence[TrialRecord]) -> None:
    """Stop unless Eq. 1's frontier measured the same with free thresholds whose drops are 0."""
    for point, record in zip(starts, _up_to(records, len(starts)), strict=True):
        ours, theirs = point.measurement, record.measurement
        assert theirs is not None
        assert {**record.params, **point.params} == record.params
        same = ("kl", "gflops", "tokens_per_layer", "top1_hits", "images")
        if record.stopped_by is None and any(
            getattr(ours, name) != getattr(theirs, name) for name in same
        ):
            sys.exit(f"{point.params} measured {ours}, with free thresholds {theirs}")


def curve(points: Sequence[Fresh], weights: Values, at: Values) -> tuple[Values, Values]:
    """KL (log of nats) and top-1 (percent) of a frontier at some GFLOPs, linear between points.

    Args:
        points: from the fewest GFLOPs to the most.
        weights: how often every image counts, [images].
        at: GFLOPs.
    """
    gflops = np.array([point.gflops for point in points])
    order = np.argsort(gflops)
    kl = np.array([np.average(point.kl, weights=weights) for point in points])
    right = np.array([np.average(point.right, weights=weights) for point in points])
    return (
        np.interp(at, gflops[order], np.log(kl[order])),
        np.interp(at, gflops[order], 100.0 * right[order]),
    )


def compared(pairs: Sequence[tuple[list[Fresh], list[Fresh]]]) -> dict[str, Any]:
    """What free thresholds change at equal GFLOPs, the mean over seeds: low, mean and high."""
    images = len(pairs[0][0][0].kl)
    rng = np.random.default_rng(0)
    at = np.concatenate([COSTS, SHOWN])
    drawn = (rng.integers(images, size=images) for _ in range(DRAWS))
    draws = [np.ones(images), *(np.bincount(d, minlength=images).astype(float) for d in drawn)]
    kl, top1 = [], []
    for weights in draws:
        changes = [
            np.subtract(curve(free, weights, at), curve(eq1, weights, at)) for eq1, free in pairs
        ]
        mean = np.mean(changes, axis=0)
        kl.append(100.0 * np.expm1([mean[0, : len(COSTS)].mean(), *mean[0, len(COSTS) :]]))
        top1.append([mean[1, : len(COSTS)].mean(), *mean[1, len(COSTS) :]])
    names = ["mean", *map(str, SHOWN)]
    return {
        "kl_percent": dict(zip(names, map(_interval, np.transpose(kl)), strict=True)),
        "top1_points": dict(zip(names, map(_interval, np.transpose(top1)), strict=True)),
    }


def _interval(values: Values) -> list[float]:
    """The first value, of the images as they are, between bounds of the rest."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return [round(float(value), 3) for value in (low, values[0], high)]


def _levels(points: Sequence[Fresh]) -> dict[str, list[float]]:
    weights = np.ones(len(points[0].kl))
    kl, top1 = curve(points, weights, np.array(SHOWN))
    return {
        str(cost): [round(float(np.exp(a)), 4), round(float(b), 2)]
        for cost, a, b in zip(SHOWN, kl, top1, strict=True)
    }


def _plain(point: FrontierPoint, fresh: Fresh) -> dict[str, Any]:
    return {
        "method": point.method,
        "params": dict(point.params),
        "searched": {"gflops": point.measurement.gflops, "kl": point.measurement.kl},
        "fresh": {
            "gflops": fresh.gflops,
            "kl": float(fresh.kl.mean()),
            "top1": 100.0 * float(fresh.right.mean()),
        },
    }


def _fresh_evaluator(evaluator: Evaluator, data: Path, skip: int, cache: Cache) -> Evaluator:
    model: LoadedModel = evaluator.model
    shard = read_folder(
        data.resolve(),
        transform=model.preprocessing.pixels,
        num_classes=model.num_classes,
        skip=skip,
        cache=cache,
        transform_name=str(model.preprocessing),
    )
    require_unseen(shard, evaluator.shard)
    return Evaluator(model, shard, batch_size=evaluator.batch_size, cache=cache)


def markdown(facts: dict[str, Any]) -> str:
    """A row for the mean and for every cost shown."""
    lines = ["| GFLOPs | KL | top-1 |", "| --- | --- | --- |"]
    for name, (low, middle, high) in facts["change"]["kl_percent"].items():
        below, points, above = facts["change"]["top1_points"][name]
        head = f"{name} of {COSTS[0]:.2f} to {COSTS[-1]:.2f}" if name == "mean" else name
        lines.append(
            f"| {head} | {middle:+.1f} % ({low:+.1f} to {high:+.1f}) | "
            f"{points:+.2f} ({below:+.2f} to {above:+.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keep_freed_memory()
    cache = Cache(cache_directory(), lambda note: print(note, file=sys.stderr))
    model = load_model(options.model, checkpoint=options.checkpoint, device=options.device)
    shard = open_shard(model, data=options.data, images=options.images, cache=cache)
    model, reason = automatic(model, shard, batch_size=BATCH_SIZE, cache=cache)
    print(reason, file=sys.stderr)
    evaluator = Evaluator(model, shard, batch_size=BATCH_SIZE, cache=cache)
    fresh = _fresh_evaluator(evaluator, options.data, options.images, cache)
    bench = Bench(evaluator, fresh, open_store(str(options.store), create=True), options.trials)
    seeds, pairs = [], []
    for seed in range(options.seeds):
        fronts = bench.searched(seed)
        eq1, free = ([bench.on_fresh(point) for point in front] for front in fronts)
        pairs.append((eq1, free))
        seeds.append(
            {
                "seed": seed,
                "eq1": _levels(eq1),
                "free": _levels(free),
                "of_them_free": sum(point.method == FREE for point in fronts[1]),
                "change": compared([(eq1, free)]),
                "frontiers": [
                    [_plain(point, seen) for point, seen in zip(front, values, strict=True)]
                    for front, values in zip(fronts, (eq1, free), strict=True)
                ],
            }
        )
    facts = {
        "model": model.name,
        "device": device_name(model.device),
        "dtype": model.dtype_name,
        "images": len(shard),
        "fresh_images": len(fresh.shard),
        "dense_top1_fresh": round(100.0 * float(fresh.dense().hits().float().mean()), 2),
        "trials": [options.trials, options.trials],
        "change": compared(pairs),
        "seeds": seeds,
    }
    options.json.write_text(json.dumps(facts, indent=1) + "\n")
    for item in seeds:
        print(item["seed"], "eq1", item["eq1"], "free", item["free"], item["of_them_free"])
        print(markdown(item))
    print(markdown(facts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="deit_t")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="images, a folder per class")
    parser.add_argument("--images", type=int, default=300, help="that are searched on")
    parser.add_argument("--trials", type=int, default=60, help="N")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--store", type=Path, default=Path("layerwise.db"))
    parser.add_argument("--json", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
