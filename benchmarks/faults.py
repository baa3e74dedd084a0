"""The kill test: searches whose workers and database are killed, stopped and restarted.

    python benchmarks/faults.py --kills 100 --stops 10
    python benchmarks/faults.py --storage postgresql://postgres@127.0.0.1/postgres \
        --kills 1000 --stops 50 --restarts 20 \
        --restart-command 'pg_ctlcluster --skip-systemctl-redirect 15 main restart -m fast'

Eight workers measure a stand-in that takes 20 to 200 ms. At random moments one of them is killed
(kill -9) and replaced, or stopped for longer than the grace period, or the database restarts.
Studies of a fixed budget follow one another until all of that has happened. Then every study has
exactly its budget of finished trials, no trial runs, every finished trial holds the values of its
configuration, and every measurement that a worker saw stored is there. A worker appends what the
store acknowledged to a file of its own, with one unbuffered write: the ledger.

A server gets a database of its own for the test, which is dropped at the end; a restart concerns
all of its databases, so it happens only where a command for it is given.
"""

import argparse
import json
import math
import os
import random
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy

from atm_search.measure.measurement import Measurement
from atm_search.merging.atm import Atm
from atm_search.merging.method import Method
from atm_search.search.address import full, parse
from atm_search.search.dense import Dense
from atm_search.search.identity import Identity
from atm_search.search.space import Space
from atm_search.search.store import open_store
from atm_search.search.study import Study, create_or_resume, load
from atm_search.search.trials import Environment, TrialRecord
from atm_search.search.worker import run

IMAGES = 1000
DENSE = Dense(images=IMAGES, top1_hits=787, top5_hits=950, gflops=1.254)
ENVIRONMENT = Environment("stand-in", "float32", {})
INTERVAL_S = 1
STUDY_LIMIT_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    storage: str
    workers: int = 8
    budget: int = 60
    kills: int = 100
    stops: int = 5
    restarts: int = 0
    restart_command: str = ""
    grace_s: int = 3
    pause_s: tuple[float, float] = (0.05, 0.4)
    """Between two events, from and to."""
    shortest_ms: int = 20
    longest_ms: int = 200
    seed: int = 0


@dataclass
class Report:
    """What happened, and what is wrong with the studies; all the last four should be 0."""

    store: str
    studies: int = 0
    finished: int = 0
    kills: int = 0
    stops: int = 0
    restarts: int = 0
    worker_errors: int = 0
    """Workers that ended with an error of their own."""
    seconds: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    """Trials by how they ended: finished, reused, lost, surplus, failed, waiting."""
    remeasured: int = 0
    """Configurations measured by more than one finished trial."""
    wrong_budget: int = 0
    """Studies with more or fewer finished trials than their budget."""
    running: int = 0
    """Trials left RUNNING."""
    damaged: int = 0
    """Finished trials whose values are not those of their configuration."""
    missing: int = 0
    """Measurements that the store acknowledged and does not have."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, damaged or counted twice."""
        wrong = (self.wrong_budget, self.running, self.damaged, self.missing, self.remeasured)
        return not any(wrong) and not self.worker_errors


def measure(method: Method, race: object = None) -> Measurement:
    """A smooth trade of accuracy for compute, the same for the same configuration."""
    params = method.params()
    share = sum(Atm(**params).thresholds(12)) / 12 - 0.2 * (1 - params["tau0"])
    loss = 300 * (1 - share) ** 2 + 0.5 * abs(params["split_depth"] - 9)
    hits = round(DENSE.top1_hits - 10 * loss)
    return Measurement(
        images=IMAGES,
        top1_hits=hits,
        top5_hits=940,
        dense_top1_hits=DENSE.top1_hits,
        dense_top5_hits=DENSE.top5_hits,
        lost=max(0, DENSE.top1_hits - hits),
        gained=max(0, hits - DENSE.top1_hits),
        agreements=900,
        kl=0.1,
        kl_se=0.01,
        gflops=float(DENSE.gflops * share**3),
        dense_gflops=DENSE.gflops,
        matching_gflops=0.01,
        tokens_per_layer=(100.0,) * 12,
        seconds=0.5,
    )


def identity() -> Identity:
    """What the stand-in's studies fix."""
    return Identity(
        model="stand-in",
        weights_digest="ab" * 32,
        shard_digest="cd" * 32,
        images=IMAGES,
        protocol={"batch_size": 100, "dtype": "float32", "preprocessing": {"crop_pct": 0.9}},
        method="atm",
        fixed_params={"prop_attn": True, "cls_only_last_block": True},
        space=Space(Atm.space(12)),
    )


def work(plan: Plan, name: str, number: int, ledger: Path) -> None:
    """Be a worker of a study, and note in the ledger what the store acknowledged."""
    rng = random.Random(f"{plan.seed} {name} {number} {os.getpid()}")

    def slow(method: Method, race: object = None) -> Measurement:
        time.sleep(rng.uniform(plan.shortest_ms, plan.longest_ms) / 1000)
        return measure(method)

    with ledger.open("ab", buffering=0) as book:

        def note(record: TrialRecord, done: int, total: int) -> None:
            if record.measured and record.measurement is not None:
                entry = [record.number, dict(record.params), record.measurement.gflops]
                book.write(json.dumps(entry).encode() + b"\n")

        study = load(open_store(plan.storage, create=False, **_heart(plan), wait_s=60), name)
        run(study, slow, environment=ENVIRONMENT, worker=number, on_trial=note)


def _heart(plan: Plan) -> dict[str, int]:
    return {"interval_s": INTERVAL_S, "grace_s": plan.grace_s}


class Crew:
    """The workers of one study; forked, as importing torch anew takes seconds."""

    def __init__(self, plan: Plan, name: str, folder: Path) -> None:
        self._plan, self._name, self._folder = plan, name, folder
        self._stopped: dict[int, float] = {}
        self._started = 0
        self.alive: set[int] = set()
        self.errors = 0
        for _ in range(plan.workers):
            self.hire()

    def hire(self) -> None:
        """Start one more worker."""
        self._started += 1
        ledger = self._folder / f"{self._name}-{self._started}.jsonl"
        child = os.fork()
        if child == 0:
            self._be_worker(ledger)
        self.alive.add(child)

    def _be_worker(self, ledger: Path) -> NoReturn:
        try:
            work(self._plan, self._name, self._started, ledger)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def kill(self, rng: random.Random) -> bool:
        """Kill a worker and hire another in its place; False if there is none to kill."""
        awake = sorted(self.alive - set(self._stopped))
        if not awake:
            return False
        victim = rng.choice(awake)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        self.alive.discard(victim)
        self.hire()
        return True

    def stop(self, rng: random.Random) -> bool:
        """Stop a worker for longer than the grace period; False if all are or have ended."""
        awake = sorted(self.alive - set(self._stopped))
        if len(awake) < 2:
            return False
        victim = rng.choice(awake)
        os.kill(victim, signal.SIGSTOP)
        self._stopped[victim] = time.monotonic() + self._plan.grace_s + 1 + INTERVAL_S
        return True

    def tend(self) -> None:
        """Wake whoever was stopped for long enough, and bury whoever has ended."""
        for pid, until in list(self._stopped.items()):
            if time.monotonic() >= until:
                os.kill(pid, signal.SIGCONT)
                del self._stopped[pid]
        for pid in list(self.alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.alive.discard(pid)
                self._stopped.pop(pid, None)
                self.errors += status != 0

    def dismiss(self) -> None:
        """Kill all."""
        for pid in self.alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.alive.clear()


def torment(plan: Plan, folder: Path, say: Callable[[str], None] = print) -> Report:
    """Run studies until every event has happened, and look at what they left."""
    rng = random.Random(plan.seed)
    report = Report(store=parse(plan.storage).get_backend_name())
    begun_at = time.monotonic()
    events = ["kill"] * plan.kills + ["stop"] * plan.stops + ["restart"] * plan.restarts
    rng.shuffle(events)
    while events or not report.studies:
        name = f"s{report.studies}"
        _begin(plan, name)
        crew = Crew(plan, name, folder)
        try:
            _disturb(plan, crew, events, report, rng)
        finally:
            crew.dismiss()
        report.worker_errors += crew.errors
        report.studies += 1
        _inspect(plan, name, folder, report)
        say(
            f"study {name}: {report.finished} finished, {report.kills} kills, {report.stops} "
            f"stops, {report.restarts} restarts, {time.monotonic() - begun_at:.0f} s"
            f"{'' if report.is_clean else ', NOT CLEAN'}"
        )
    report.seconds = time.monotonic() - begun_at
    return report


def _begin(plan: Plan, name: str) -> None:
    """Make a study; its connections do not outlive this, as workers are forked from here."""
    storage = open_store(plan.storage, create=True, **_heart(plan))
    create_or_resume(
        storage,
        name,
        identity=identity(),
        dense=lambda: DENSE,
        budget=plan.budget,
        sampler="random",
        seed=plan.seed,
    )
    storage.remove_session()
    storage.engine.dispose()


def _disturb(plan: Plan, crew: Crew, events: list[str], report: Report, rng: random.Random) -> None:
    """Let events happen as long as a study runs."""
    deadline = time.monotonic() + STUDY_LIMIT_S
    next_at = time.monotonic() + rng.uniform(*plan.pause_s)
    while crew.alive:
        if time.monotonic() > deadline:
            raise TimeoutError(f"A study did not end within {STUDY_LIMIT_S:.0f} s.")
        crew.tend()
        if events and time.monotonic() >= next_at:
            next_at = time.monotonic() + rng.uniform(*plan.pause_s)
            match events[-1]:
                case "kill" if crew.kill(rng):
                    report.kills += 1
                    events.pop()
                case "stop" if crew.stop(rng):
                    report.stops += 1
                    events.pop()
                case "restart":
                    subprocess.run(shlex.split(plan.restart_command), check=True)
                    report.restarts += 1
                    events.pop()
        time.sleep(0.02)


def _inspect(plan: Plan, name: str, folder: Path, report: Report) -> None:
    """Count what is right and what is wrong with a study that has ended."""
    storage = open_store(plan.storage, create=False, **_heart(plan))
    study = load(storage, name)
    records = study.records()
    trials = study.optuna.get_trials(deepcopy=False)
    finished = [record for record in records if record.measured]
    report.finished += len(finished)
    report.wrong_budget += len(finished) != plan.budget
    report.running += sum(record.state.name == "RUNNING" for record in records)
    for record in records:
        ending = _ending(record)
        report.states[ending] = report.states.get(ending, 0) + 1
    for record in finished:
        report.damaged += not _is_intact(study, record, trials[record.number].values)
    own = Counter(
        study.identity.space.key(record.params) for record in finished if record.reused_from is None
    )
    report.remeasured += sum(count > 1 for count in own.values())
    stored = {record.number: record for record in finished}
    for number, params, gflops in _ledger(name, folder):
        record = stored.get(number)
        report.missing += (
            record is None
            or dict(record.params) != params
            or record.measurement is None
            or record.measurement.gflops != gflops
        )
    storage.remove_session()
    storage.engine.dispose()


def _is_intact(study: Study, record: TrialRecord, values: list[float]) -> bool:
    expected = measure(study.identity.configured({k: record.params[k] for k in record.params}))
    found = record.measurement == expected
    return found and all(map(math.isclose, values, (expected.top1, expected.gflops)))


def _ending(record: TrialRecord) -> str:
    if record.measured:
        return "finished" if record.reused_from is None else "reused"
    for ending in ("lost", "surplus", "interrupted"):
        if getattr(record, ending):
            return ending
    return record.state.name.lower()


def _ledger(name: str, folder: Path) -> Iterator[tuple[int, dict[str, Any], float]]:
    """What the workers of a study saw stored; a line that a kill cut short does not count."""
    for file in sorted(folder.glob(f"{name}-*.jsonl")):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                number, params, gflops = json.loads(line)
                yield number, params, gflops


@contextmanager
def fresh_store(storage: str | None, folder: Path) -> Iterator[str]:
    """The address of an empty store: a file, or a database of its own on a server."""
    if storage is None:
        yield f"sqlite:///{folder / 'faults.db'}"
        return
    url = parse(storage)
    engine = sqlalchemy.create_engine(
        full(url), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    name = f"atm_faults_{secrets.token_hex(4)}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield full(url.set(database=name))
    finally:
        force = " WITH (FORCE)" if url.get_backend_name() == "postgresql" else ""
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")


def table(report: Report) -> str:
    """A report as a Markdown table."""
    facts = asdict(report) | {"states": ", ".join(f"{k} {v}" for k, v in report.states.items())}
    facts["seconds"] = f"{report.seconds:.0f}"
    lines = ["| what | " + report.store + " |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {k} | {v} |" for k, v in facts.items() if k != "store")])


def main() -> int:
    """Parse, run, print; 1 if anything was lost."""
    defaults = Plan(storage="")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", help="address of a server; without it a SQLite file")
    for option in ("workers", "budget", "kills", "stops", "restarts", "seed"):
        parser.add_argument(f"--{option}", type=int, default=getattr(defaults, option))
    parser.add_argument("--restart-command", default="", help="how to restart the server")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = vars(parser.parse_args())
    storage, output = given.pop("storage"), given.pop("output")
    if given["restarts"] and not given["restart_command"]:
        parser.error("--restarts needs --restart-command")
    with (
        tempfile.TemporaryDirectory() as folder,
        fresh_store(storage, Path(folder)) as address,
    ):
        plan = Plan(storage=address, **given)
        report = torment(plan, Path(folder), lambda line: print(line, file=sys.stderr, flush=True))
    print(table(report))
    if output is not None:
        output.write_text(json.dumps({**given, **asdict(report)}, indent=2) + "\n")
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
