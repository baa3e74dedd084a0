"""Which judge of a configuration foretells its accuracy on other images, and finds frontiers?

    python benchmarks/fidelity.py TABLE.csv --json benchmarks/fidelity.json

The table is of `record.py --outcomes`: what every configuration did, image by image. Images are
split at random, again and again: a judge sees some of them, and what it says is compared with top-1
on others that it did not see. Five parts: rank correlation of each judge; the best configuration
of every band of GFLOPs by each judge, and what it keeps of its promise; how often the change of
top-1 that is predicted from KL on few images holds; whole searches by each judge, and raced ones
against one that measures all in full. Searches are studies with one worker, with a sampler if the
table is whole (`--sampler tpe`), else in a random order. Tables of fewer than 1,000 images are
split in halves.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from samplers import Table
from search import search

from atm_search.measure.measurement import Measurement
from atm_search.search.fidelity import relation, spearman
from atm_search.search.frontier import frontier
from atm_search.search.objectives import GUIDED, TOP1, Objectives
from atm_search.search.samplers import SAMPLERS
from atm_search.search.space import Key
from atm_search.search.trials import TrialRecord, tally

Values = NDArray[np.float64]

JUDGED, OTHERS = (50, 100, 300), 300
"""Images that judges see, and those that decide who was right."""

BAND = 0.024
"""Share of the dense model's GFLOPs within which configurations cost the same."""

FEWEST = 5
"""Configurations of a band in which a correlation says something."""

FITTED, PARTIAL = 30, (50, 100)
"""Configurations that a relation is worked out from, and images of those that it is used for."""

BUDGETS = (1.0, 0.9, 0.8)
TRIALS = 100
SEARCH_IMAGES = (50, 100, 200, 400)
HELD_OUT = 600
MODES: dict[str, tuple[str, Objectives]] = {
    "top1": ("top1", TOP1),
    "guided": ("kl", GUIDED),
    "kl, frontier of top1": ("kl", TOP1),
}
"""What is searched by, and how the frontier is chosen; `kl,gflops` finds what `guided` finds."""

BATCH = 25
"""Images after which a race may end."""

RACE_TRIALS, RACE_HELD_OUT = 200, 500
RACE_IMAGES = (50, 100, 250, 500)
RACES: dict[str, tuple[Objectives, dict[str, Any]]] = {
    "top1 in full": (TOP1, {"on": "off"}),
    "top1 raced": (TOP1, {"on": "top1"}),
    "guided raced": (GUIDED, {"on": "kl"}),
    "guided raced, margin 20 %": (GUIDED, {"on": "kl", "margin": 20.0}),
}


@dataclass(frozen=True)
class Recorded:
    """A table as arrays: configurations in rows, images in columns; more is better."""

    table: Table
    keys: list[Key]
    gflops: Values
    dense: Values
    judges: dict[str, Values]

    @classmethod
    def of(cls, table: Table) -> "Recorded":
        if table.dense_outcomes is None or table.dense_outcomes.hits is None:
            raise SystemExit("The table has no outcomes: record it with record.py --outcomes.")
        keys = sorted(table.outcomes)
        rows = [table.outcomes[key] for key in keys]
        judges = {"top1": np.array([row.hits for row in rows], float)}
        if table.agreements:
            judges["agreement"] = np.array([table.agreements[key] for key in keys], float)
        judges["kl"] = -np.array([row.distances for row in rows], float)
        gflops = np.array([table.measurements[key].gflops for key in keys])
        return cls(table, keys, gflops, np.array(table.dense_outcomes.hits, float), judges)

    @property
    def bands(self) -> Values:
        """The number of each configuration's band of cost."""
        return np.floor(self.gflops / (BAND * self.table.dense.gflops))

    def held_out(self, wanted: int) -> int:
        """Images for others: as many as wanted, but half at most."""
        return min(wanted, len(self.dense) // 2)

    def fitting(self, sizes: Sequence[int], held_out: int) -> list[int]:
        """Sizes for which the other images suffice, the largest cut to them if none is left."""
        left = len(self.dense) - self.held_out(held_out)
        return sorted({min(size, left) for size in sizes})

    def split(self, rng: np.random.Generator, *sizes: int) -> Iterator[NDArray[np.int64]]:
        """Disjoint random sets of images."""
        order = rng.permutation(len(self.dense))
        return iter(np.split(order, np.cumsum(sizes))[: len(sizes)])

    def measured(self, images: NDArray[np.int64]) -> list[Measurement]:
        """Every configuration on some images."""
        table = self.table.on(images, batch_size=len(images))
        return [table.measurements[key] for key in self.keys]


def in_bands(a: Values, b: Values, bands: Values) -> float:
    """Rank correlation among configurations of about equal cost: the mean over bands, by size."""
    found = [bands == band for band in np.unique(bands)]
    found = [rows for rows in found if rows.sum() >= FEWEST]
    if not found:
        return float("nan")
    weights = [rows.sum() for rows in found]
    return float(np.average([spearman(a[rows], b[rows]) for rows in found], weights=weights))


def correlations(data: Recorded, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Per judge and number of images: low, mean and high of the correlation with others' top-1.

    Every repeat draws new images and, with replacement, new configurations (bootstrap).
    """
    rng = np.random.default_rng(0)
    judged = data.fitting(JUDGED, OTHERS)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in data.judges}
    for _ in range(repeats):
        seen, others = data.split(rng, max(judged), data.held_out(OTHERS))
        rows = rng.integers(len(data.keys), size=len(data.keys))
        truth = data.judges["top1"][rows][:, others].mean(1)
        for name, values in data.judges.items():
            for images in judged:
                said = values[rows][:, seen[:images]].mean(1)
                found[name].setdefault(f"{images}", []).append(spearman(said, truth))
            same = in_bands(said, truth, data.bands[rows])
            found[name].setdefault(f"{images}, equal GFLOPs", []).append(same)
    return {name: {k: _interval(v) for k, v in by.items()} for name, by in found.items()}


def selections(data: Recorded, repeats: int) -> dict[str, dict[str, list[float]]]:
    """The best configuration of each band by each judge: its change of top-1, kept and promised."""
    rng = np.random.default_rng(1)
    bands, half = data.bands, data.held_out(OTHERS)
    groups = [np.flatnonzero(bands == band) for band in np.unique(bands)]
    groups = [rows for rows in groups if len(rows) >= FEWEST]
    judges: dict[str, Callable[[NDArray[np.int64]], Values]] = {
        name: (lambda seen, values=values: values[:, seen].mean(1))
        for name, values in data.judges.items()
    }
    judges["random"] = lambda seen: rng.random(len(data.keys))
    change = 100.0 * (data.judges["top1"] - data.dense)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in judges}
    for _ in range(repeats):
        seen, others = data.split(rng, half, half)
        for name, judge in judges.items():
            said = judge(seen)
            best = [rows[np.argmax(said[rows])] for rows in groups]
            kept = float(change[best][:, others].mean())
            promised = float(change[best][:, seen].mean())
            found[name].setdefault("kept", []).append(kept)
            found[name].setdefault("promised more", []).append(promised - kept)
    return {name: {k: _interval(v) for k, v in by.items()} for name, by in found.items()}


def predictions(data: Recorded, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Change of top-1 on all images, predicted from KL on some, as for a trial that is raced out.

    The relation comes from FITTED configurations measured on all images, drawn anew each time; the
    others are predicted. Errors are mean absolute ones; beside them that of the change of top-1
    seen on the same few images.
    """
    rng = np.random.default_rng(2)
    found: dict[str, dict[str, list[float]]] = {f"{images} images": {} for images in PARTIAL}
    count = len(data.dense)
    for _ in range(repeats):
        rows, (order,) = rng.permutation(len(data.keys)), data.split(rng, count)
        found_on = {n: data.measured(order[:n]) for n in (count, *PARTIAL)}
        full = [found_on[count][row] for row in rows]
        fit = relation(full[:FITTED])
        for images in PARTIAL:
            partial = [found_on[images][row] for row in rows[FITTED:]]
            said = [None if fit is None else fit.predict(m, count) for m in partial]
            own = found[f"{images} images"]
            own.setdefault("predicted, %", []).append(
                100.0 * np.mean([p is not None for p in said])
            )
            three = [x for x in zip(said, full[FITTED:], partial, strict=True) if x[0] is not None]
            if not three:
                continue
            truth = np.array([m.delta_top1 for _, m, _ in three])
            ends = np.array([p.ci95 for p, _, _ in three])
            inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
            own.setdefault("in the interval, %", []).append(100.0 * float(inside.mean()))
            own.setdefault("width", []).append(float((ends[:, 1] - ends[:, 0]).mean()))
            errors = np.array([p.delta_top1 for p, _, _ in three]) - truth
            own.setdefault("error", []).append(float(np.abs(errors).mean()))
            errors = np.array([m.delta_top1 for _, _, m in three]) - truth
            own.setdefault("error of top-1 seen", []).append(float(np.abs(errors).mean()))
    return {name: {k: _interval(v) for k, v in by.items()} for name, by in found.items()}


def scored(
    data: Recorded,
    records: list[TrialRecord],
    seen: int,
    goals: Objectives,
    others: NDArray[np.int64],
    budgets: Sequence[float],
) -> dict[str, float]:
    """A frontier on images that the search did not use.

    What is scored is what a person would take at a budget: the best by the search's own score.
    """
    space = data.table.identity.space
    dense = replace(data.table.dense, images=seen, top1_hits=0)
    points = frontier(records, dense, goals)
    rows = [data.keys.index(space.key(point.params)) for point in points]
    costs = np.array([point.measurement.gflops for point in points])
    kept = np.array(
        [100.0 * (data.judges["top1"][row] - data.dense)[others].mean() for row in rows]
    )
    found = {}
    for budget in budgets:
        within = np.flatnonzero(costs <= budget)
        found[f"at {budget}"] = float(kept[within[-1]]) if len(within) else float("nan")
    widths = np.diff(np.append(costs, data.table.dense.gflops))
    found["hypervolume"] = float((widths * np.maximum(kept + 10.0, 0.0)).sum())
    return found


def judged(
    data: Recorded, seeds: int, sampler: str, budgets: Sequence[float]
) -> dict[str, dict[str, list[float]]]:
    """The same number of trials by every judge on every number of images, nothing raced."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    sizes = data.fitting(SEARCH_IMAGES, HELD_OUT)
    for seed in range(seeds):
        split = data.split(np.random.default_rng(seed), max(sizes), data.held_out(HELD_OUT))
        seen, others = split
        for images in sizes:
            table = data.table.on(seen[:images], batch_size=BATCH)
            trials = min(TRIALS, len(data.keys))
            records = {
                goals.searched: search(table, sampler, seed, trials, {"on": "off"}, goals)
                for goals in (TOP1, GUIDED)
            }
            for mode, (by, goals) in MODES.items():
                score = scored(data, records[by], images, goals, others, budgets)
                found.setdefault((mode, images), []).append(score)
        print(f"seed {seed}: {TRIALS} trials by every judge", file=sys.stderr, flush=True)
    most = max(sizes)
    pairs = [(("guided", images), ("top1", most)) for images in (100, 50)]
    return compared(found, [*pairs, (("guided", 100), ("top1", 100))])


def raced(
    data: Recorded, seeds: int, sampler: str, budgets: Sequence[float]
) -> dict[str, dict[str, list[float]]]:
    """Long searches against one by top-1 that measures all in full, with what each looks at."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    held_out = data.held_out(RACE_HELD_OUT)
    sizes = data.fitting(RACE_IMAGES, RACE_HELD_OUT)
    most = max(sizes)
    trials = min(RACE_TRIALS, len(data.keys))
    for seed in range(seeds):
        seen, others = data.split(np.random.default_rng(seed), most, held_out)
        for images in sizes:
            table = data.table.on(seen[:images], batch_size=BATCH)
            for name, (goals, racing) in RACES.items():
                if goals.searched == "top1" and images < most:
                    continue
                records = search(table, sampler, seed, trials, racing, goals)
                score = scored(data, records, images, goals, others, budgets)
                looked_at = 100.0 * tally(records)["images"] / (trials * most)
                own = found.setdefault((name, images), [])
                own.append({"evaluations, %": looked_at, **score})
        print(f"seed {seed}: {trials} trials, raced", file=sys.stderr, flush=True)
    usual = ("top1 in full", most)
    return compared(found, [(other, usual) for other in found if other[0].startswith("guided")])


def compared(
    found: dict[tuple[str, int], list[dict[str, float]]],
    pairs: Sequence[tuple[tuple[str, int], tuple[str, int]]],
) -> dict[str, dict[str, list[float]]]:
    """Per mode and images: low, mean and high over seeds; and paired differences."""
    names = list(next(iter(found.values()))[0])
    table = {
        f"{mode}, {images}": {name: _mean([item[name] for item in own]) for name in names}
        for (mode, images), own in found.items()
    }
    for ours, theirs in pairs:
        both = list(zip(found[ours], found[theirs], strict=True))
        table[f"{ours[0]}, {ours[1]} - {theirs[0]}, {theirs[1]}"] = {
            name: _mean([a[name] - b[name] for a, b in both]) for name in names
        }
    return table


def _interval(values: list[float]) -> list[float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [round(float(value), 4) for value in (low, np.nanmean(values), high)]


def _mean(values: list[float]) -> list[float]:
    """Mean with its 95 % interval over seeds."""
    mean, error = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    return [round(float(value), 4) for value in (mean - 1.96 * error, mean, mean + 1.96 * error)]


def markdown(facts: dict[str, dict[str, list[float]]], digits: int = 2) -> str:
    """A row per name, a column per figure: mean (low to high)."""
    heads = list(next(iter(facts.values())))
    lines = [f"| | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for name, row in facts.items():
        cells = [f"{m:.{digits}f} ({a:.{digits}f} to {b:.{digits}f})" for a, m, b in row.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = Recorded.of(Table.read(options.table, whole=False))
    parts = {
        "configurations": len(data.keys),
        "images": len(data.dense),
        "correlations": correlations(data, options.repeats),
        "selections": selections(data, options.repeats),
        "predictions": predictions(data, options.repeats // 4),
    }
    print(f"{len(data.keys)} configurations, {len(data.dense)} images\n")
    shown = ("correlations", "selections", "predictions")
    print(*(markdown(parts[name]) for name in shown), sep="\n\n")
    if options.seeds:
        given = data, options.seeds, options.sampler, options.at
        parts |= {"sampler": options.sampler, "judged": judged(*given), "raced": raced(*given)}
        print(f"\n{markdown(parts['judged'])}\n\n{markdown(parts['raced'])}")
    options.json.write_text(json.dumps({"table": options.table.name, **parts}, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20, help="of the searches; 0 runs none")
    parser.add_argument("--at", type=float, nargs="+", default=BUDGETS, help="GFLOPs to compare at")
    parser.add_argument("--sampler", choices=[*SAMPLERS, "order"], default="order")
    parser.add_argument("--json", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
