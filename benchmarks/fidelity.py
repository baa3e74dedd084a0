"""Which judge of a configuration foretells its accuracy on other images, and finds frontiers?

    python benchmarks/fidelity.py TABLE.csv --json benchmarks/fidelity.json

The table is of `record.py --outcomes`: what every configuration did, image by image. Images are
split at random, again and again: a judge sees some of them, and what it says is compared with top-1
on others that it did not see. Four parts: rank correlation of each judge; the best configuration
of every band of GFLOPs by each judge, and what it keeps of its promise; how often the change of
top-1 that is predicted from KL on few images holds; whole searches. Tables of fewer than 1,000
images are split in halves.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState
from samplers import Table

from atm_search.measure.measurement import Measurement
from atm_search.search.fidelity import relation, spearman
from atm_search.search.frontier import frontier
from atm_search.search.objectives import GUIDED, TOP1, Objectives
from atm_search.search.samplers import make_sampler
from atm_search.search.space import Key
from atm_search.search.trials import TrialRecord

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

    def measured(self, row: int, images: NDArray[np.int64]) -> Measurement:
        """One configuration on some images."""
        hits, dense = self.judges["top1"][row, images] > 0, self.dense[images] > 0
        kl = -self.judges["kl"][row, images]
        return replace(
            self.table.measurements[self.keys[row]],
            images=len(images),
            top1_hits=int(hits.sum()),
            dense_top1_hits=int(dense.sum()),
            lost=int((dense & ~hits).sum()),
            gained=int((hits & ~dense).sum()),
            kl=float(kl.mean()),
            kl_se=float(kl.std() / len(images) ** 0.5),
        )


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
        full = [data.measured(int(row), order) for row in rows]
        fit = relation(full[:FITTED])
        for images in PARTIAL:
            partial = [data.measured(int(row), order[:images]) for row in rows[FITTED:]]
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


def search(
    data: Recorded, seed: int, seen: NDArray[np.int64], by: str, sampler: str
) -> list[TrialRecord]:
    """The records of one search of TRIALS different configurations on some images."""
    objectives, space = Objectives(by, by), data.table.identity.space
    dense = replace(data.table.dense, images=len(seen), top1_hits=int(data.dense[seen].sum()))
    rows = {key: row for row, key in enumerate(data.keys)}
    trials = min(TRIALS, len(rows))
    study = optuna.create_study(
        directions=[direction for _, direction in objectives.directions],
        sampler=make_sampler(sampler, seed=seed, budget=trials),
    )
    records: dict[Key, TrialRecord] = {}
    while len(records) < trials:
        trial = study.ask()
        key = space.key(space.suggest(trial))
        if key not in rows:  # of a table that is not whole: no trial
            study.tell(trial, state=TrialState.FAIL)
            continue
        measured = data.measured(rows[key], seen)
        study.tell(trial, objectives.told(measured, dense))
        if key not in records:
            records[key] = TrialRecord(
                number=trial.number,
                state=TrialState.COMPLETE,
                method=data.table.identity.method,
                params=trial.params,
                measurement=measured,
            )
    return list(records.values())


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


def searches(
    data: Recorded, seeds: int, sampler: str, budgets: Sequence[float]
) -> list[dict[str, Any]]:
    """Every mode on every number of images, each seed with images and an order of its own."""
    found, sizes = [], data.fitting(SEARCH_IMAGES, HELD_OUT)
    for seed in range(seeds):
        split = data.split(np.random.default_rng(seed), max(sizes), data.held_out(HELD_OUT))
        seen, others = split
        for images in sizes:
            records = {by: search(data, seed, seen[:images], by, sampler) for by in ("top1", "kl")}
            for mode, (by, goals) in MODES.items():
                score = scored(data, records[by], images, goals, others, budgets)
                found.append({"mode": mode, "images": images, "seed": seed, **score})
    return found


def compared(found: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Per mode and images: low, mean and high over seeds; and guided against top1 on more."""
    names = [name for name in found[0] if name not in ("mode", "images", "seed")]
    by: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for item in found:
        by.setdefault((item["mode"], item["images"]), []).append(item)
    table = {
        f"{mode}, {images}": {name: _mean([item[name] for item in own]) for name in names}
        for (mode, images), own in by.items()
    }
    most = max(images for _, images in by)
    for mode, images, other in (("guided", 100, most), ("guided", 50, most), ("guided", 100, 100)):
        pairs = list(zip(by[mode, images], by["top1", other], strict=True))
        table[f"{mode}, {images} - top1, {other}"] = {
            name: _mean([a[name] - b[name] for a, b in pairs]) for name in names
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
        found = searches(data, options.seeds, options.sampler, options.at)
        parts |= {"sampler": options.sampler, "searches": compared(found)}
        print(f"\n{markdown(parts['searches'])}")
    options.json.write_text(json.dumps({"table": options.table.name, **parts}, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20, help="of the searches; 0 runs none")
    parser.add_argument("--at", type=float, nargs="+", default=BUDGETS, help="GFLOPs to compare at")
    parser.add_argument("--sampler", default="random", help="one that repeats itself takes long")
    parser.add_argument("--json", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
