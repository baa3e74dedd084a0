"""Replay every sampler on a recorded table: how fast does each find the frontier?

    python benchmarks/samplers.py benchmarks/demo_300.csv --seeds 10 --json benchmarks/samplers.json

A search can reach exactly the recorded configurations: they are its space. Its quality is the share
of the hypervolume of the whole table, from the reference point that `frontier` states. Every search
runs as a study with one worker in an SQLite file; measuring costs nothing.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from atm_search.measure.measurement import Measurement
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Race
from atm_search.merging.method import Method
from atm_search.search.dense import Dense
from atm_search.search.frontier import hypervolume_history
from atm_search.search.identity import Identity
from atm_search.search.samplers import SAMPLERS
from atm_search.search.space import Key, Space
from atm_search.search.store import open_store
from atm_search.search.study import create_or_resume
from atm_search.search.trials import Environment, TrialRecord
from atm_search.search.worker import run

AGREEMENTS = "agreements"
"""Column that says, image by image, where the class is the dense model's: 0 and 1, in hex."""

OUTCOMES = "outcomes"
"""Column with `Outcomes.to_text`, if `record.py --outcomes` wrote the table."""

CHECKPOINTS = (50, 100, 150, 200)
ENVIRONMENT = Environment("table", "float32", {})


@dataclass(frozen=True)
class Table:
    """A recorded sub-grid, standing in for the model."""

    identity: Identity
    dense: Dense
    measurements: dict[Key, Measurement]
    outcomes: dict[Key, Outcomes]
    """Image by image; empty if that was not recorded."""
    dense_outcomes: Outcomes | None = None
    agreements: dict[Key, NDArray[np.bool_]] = field(default_factory=dict)
    """Image by image; empty if that was not recorded."""

    @classmethod
    def read(cls, path: Path, *, whole: bool = True) -> "Table":
        """What `record.py` wrote, if it is whole, unless a part will do."""
        with path.open() as file:
            about = json.loads(file.readline().removeprefix("# "))
            rows = list(csv.DictReader(file))
        space = Space.from_list(about["space"])
        if whole and len(rows) < len(space):
            sys.exit(f"{path} has {len(rows)} of {len(space)} configurations: record it first.")
        identity = Identity(
            model=about["model"],
            weights_digest=about["weights"],
            shard_digest=about["shard"],
            images=about["images"],
            protocol={"batch_size": about["batch_size"], "dtype": about["dtype"]},
            method=about["method"],
            fixed_params=about["fixed_params"],
            space=space,
        )
        dense = Dense(about["images"], about["dense_top1_hits"], 0, about["dense_gflops"])
        texts = [row.pop(OUTCOMES, None) for row in rows]
        agreed = [row.pop(AGREEMENTS, None) for row in rows]
        numbers = [{name: float(value) for name, value in row.items()} for row in rows]
        keys = [space.key(row) for row in numbers]
        seen = zip(keys, texts, strict=True)
        return cls(
            identity,
            dense,
            {key: _measurement(row, dense) for key, row in zip(keys, numbers, strict=True)},
            {key: Outcomes.from_text(text) for key, text in seen if text is not None},
            Outcomes.from_text(about["dense_outcomes"]) if "dense_outcomes" in about else None,
            {
                key: np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[
                    : dense.images
                ].astype(bool)
                for key, text in zip(keys, agreed, strict=True)
                if text is not None
            },
        )

    def measure(self, method: Method, race: Race) -> Measurement:
        """The recorded measurement, as far as the race lets it come."""
        key = self.identity.space.key(method.params())
        full = self.measurements[key]
        if key not in self.outcomes or self.dense_outcomes is None:
            return full
        ours, batch_size, done = self.outcomes[key], self.identity.protocol["batch_size"], 0
        for gflops in ours.gflops:
            images = slice(done, done + batch_size)
            going = race.add(ours.hits[images], ours.distances[images], float(gflops))
            done = min(images.stop, len(ours))
            if not going:
                break
        if done == len(ours):
            return full
        measured = self._on(key, np.arange(done))
        return replace(measured, gflops=float(race.outcomes.gflops.mean()))

    def on(self, images: NDArray[np.int64], *, batch_size: int) -> "Table":
        """The same on some of the images, in this order, as a shard of its own.

        What a configuration costs is its mean over all images in every batch: these images never
        were one.
        """
        if self.dense_outcomes is None:
            raise ValueError("The table was not recorded image by image.")
        dense = self.dense_outcomes.hits[images]
        batches = -(-len(images) // batch_size)
        outcomes, measurements = {}, {}
        for key, whole in self.outcomes.items():
            costs = np.full(batches, self.measurements[key].gflops)
            outcomes[key] = Outcomes(whole.hits[images], whole.distances[images], costs)
            measurements[key] = self._on(key, images)
        protocol = self.identity.protocol | {"batch_size": batch_size}
        return replace(
            self,
            identity=replace(self.identity, images=len(images), protocol=protocol),
            dense=replace(self.dense, images=len(images), top1_hits=int(dense.sum())),
            measurements=measurements,
            outcomes=outcomes,
            dense_outcomes=Outcomes.of(dense, np.zeros(len(images)), np.zeros(batches)),
            agreements={key: agreed[images] for key, agreed in self.agreements.items()},
        )

    def _on(self, key: Key, images: NDArray[np.int64]) -> Measurement:
        """What one configuration did on some of the images."""
        ours, dense = self.outcomes[key].hits[images], self.dense_outcomes.hits[images]
        kl = self.outcomes[key].distances[images].astype(float)
        return replace(
            self.measurements[key],
            images=len(images),
            top1_hits=int(ours.sum()),
            dense_top1_hits=int(dense.sum()),
            lost=int((dense & ~ours).sum()),
            gained=int((ours & ~dense).sum()),
            kl=float(kl.mean()),
            kl_se=float(kl.std() / len(images) ** 0.5),
        )

    def best(self) -> float:
        """Hypervolume of all that was recorded."""
        history = hypervolume_history(
            [
                TrialRecord(
                    number=number, state=TrialState.COMPLETE, method="atm", measurement=measurement
                )
                for number, measurement in enumerate(self.measurements.values())
            ],
            self.dense,
        )
        return history[-1]


@dataclass(frozen=True)
class Replay:
    """One search."""

    sampler: str
    seed: int
    shares: tuple[float, ...]
    """Percent of the table's hypervolume after each of CHECKPOINTS."""
    repeats: int
    """Trials whose configuration was measured before."""
    seconds: float


def replay(table: Table, sampler: str, seed: int) -> Replay:
    """A search of CHECKPOINTS[-1] trials on the table."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        study = create_or_resume(
            open_store(str(Path(folder) / "replay.db"), create=True),
            "replay",
            identity=table.identity,
            dense=lambda: table.dense,
            budget=CHECKPOINTS[-1],
            sampler=sampler,
            seed=seed,
            racing={"on": "off"},
        )
        run(study, table.measure, environment=ENVIRONMENT)
        records = study.records()
    history = hypervolume_history(records, table.dense)
    return Replay(
        sampler,
        seed,
        tuple(100.0 * history[trials - 1] / table.best() for trials in CHECKPOINTS),
        sum(record.reused_from is not None for record in records),
        time.perf_counter() - started,
    )


def markdown(replays: list[Replay]) -> str:
    """A row per sampler: median shares with their range over seeds."""
    heads = [f"after {trials}" for trials in CHECKPOINTS]
    lines = [
        f"| sampler | seeds | {' | '.join(heads)} | repeats | s per search |",
        "| --- " * (len(CHECKPOINTS) + 4) + "|",
    ]
    for sampler in dict.fromkeys(item.sampler for item in replays):
        own = [item for item in replays if item.sampler == sampler]
        cells = [
            f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
            for shares in zip(*(item.shares for item in own), strict=True)
        ]
        repeats = statistics.median(item.repeats for item in own)
        seconds = statistics.median(item.seconds for item in own)
        lines.append(
            f"| {sampler} | {len(own)} | {' | '.join(cells)} | {repeats:g} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = Table.read(options.table)
    replays: list[Replay] = []
    if options.json.exists():  # seeds that are there already stay
        replays = [
            Replay(**{**item, "shares": tuple(item["shares"])})
            for item in json.loads(options.json.read_text())["replays"]
        ]
    done = {(item.sampler, item.seed) for item in replays}
    for seed in range(options.seeds):
        for sampler in options.samplers:
            if (sampler, seed) in done:
                continue
            replays.append(replay(table, sampler, seed))
            print(replays[-1], file=sys.stderr, flush=True)
            facts = {
                "table": options.table.name,
                "configurations": len(table.measurements),
                "hypervolume": table.best(),
                "checkpoints": CHECKPOINTS,
                "replays": [asdict(item) for item in replays],
            }
            options.json.write_text(json.dumps(facts, indent=1) + "\n")
    print(markdown(replays))


def _measurement(row: dict[str, float], dense: Dense) -> Measurement:
    """A recorded line; what was not recorded is 0 and no search reads it."""
    hits = int(row["top1_hits"])
    return Measurement(
        images=dense.images,
        top1_hits=hits,
        top5_hits=0,
        dense_top1_hits=dense.top1_hits,
        dense_top5_hits=0,
        lost=max(0, dense.top1_hits - hits),
        gained=max(0, hits - dense.top1_hits),
        agreements=0,
        kl=row["kl"],
        kl_se=0.0,
        gflops=row["gflops"],
        dense_gflops=dense.gflops,
        matching_gflops=0.0,
        tokens_per_layer=(),
        seconds=1.0,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--samplers",
        nargs="+",
        choices=SAMPLERS,
        default=["gp", "tpe", "nsga2", "nsga3", "qmc", "random"],
    )
    parser.add_argument("--json", type=Path, required=True, help="also the place to resume from")
    return parser


if __name__ == "__main__":
    main()
