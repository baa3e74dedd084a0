"""How soon a page of a large study is there: the dashboard's data, and the report.

    python benchmarks/pages.py --trials 2000

Makes a study of invented measurements with Optuna's own `add_trials`, then measures what a reader
waits for: opening the store and building the page's data, the same when a trial has come in
(which is all that workers feel of a reader), and the report.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import optuna

from atm_search.measure.measurement import Measurement
from atm_search.merging.atm import Atm
from atm_search.search.dense import Dense
from atm_search.search.identity import Identity
from atm_search.search.space import Space
from atm_search.search.store import open_store
from atm_search.search.study import Study, create_or_resume, load
from atm_search.search.trials import ATTRIBUTE, Environment, TrialRecord
from atm_search.show.live import LivePages
from atm_search.show.page import report_page
from atm_search.show.view import open_view

IMAGES = 1000
DENSE = Dense(images=IMAGES, top1_hits=787, top5_hits=950, gflops=1.254)
DISTRIBUTIONS = {
    item.name: optuna.distributions.IntDistribution(int(item.low), int(item.high))
    if item.is_integer
    else optuna.distributions.FloatDistribution(item.low, item.high, step=item.step)
    for item in Atm.space(12)
}


def main() -> None:
    """Make the study, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="an SQLite file to make, or to use again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = given.keep or Path(folder) / "large.db"
        if not file.exists():
            make(file, given.trials)
        measure(file, Path(folder))


def make(file: Path, trials: int) -> None:
    """A store with one study of that many invented trials."""
    identity = Identity(
        model="deit_tiny_patch16_224.fb_in1k",
        weights_digest="ab" * 32,
        shard_digest="cd" * 32,
        images=IMAGES,
        protocol={"batch_size": 100, "dtype": "float32", "preprocessing": {"crop_pct": 0.9}},
        method="atm",
        fixed_params={"prop_attn": True, "cls_only_last_block": True},
        space=Space(Atm.space(12)),
    )
    study = create_or_resume(
        open_store(str(file), create=True),
        "large",
        identity=identity,
        dense=lambda: DENSE,
        budget=trials + 1,
        sampler="random",
        seed=0,
        hints={"weights": "none", "data": "invented"},
    )
    draw = random.Random(0)
    study.optuna.add_trials([trial(identity, draw, number) for number in range(trials)])


def trial(identity: Identity, draw: random.Random, number: int) -> optuna.trial.FrozenTrial:
    """A finished trial with an invented measurement; every fifth was stopped early."""
    params = identity.space.at(draw.randrange(len(identity.space)))
    share = sum(Atm(**params).thresholds(12)) / 12 - 0.2 * (1 - params["tau0"])  # type: ignore[arg-type]
    images = IMAGES if number % 5 else 300
    lost = round(images * (0.3 * (1 - share) + abs(draw.gauss(0, 0.004))))
    dense = DENSE.top1_hits * images // IMAGES
    measurement = Measurement(
        images=images,
        top1_hits=dense - lost,
        top5_hits=images * 94 // 100,
        dense_top1_hits=dense,
        dense_top5_hits=images * 95 // 100,
        lost=lost,
        gained=0,
        agreements=images - lost,
        kl=0.1,
        kl_se=0.01,
        gflops=DENSE.gflops * share**3,
        dense_gflops=DENSE.gflops,
        matching_gflops=0.01,
        tokens_per_layer=tuple(197 * share ** (block + 1) for block in range(12)),
        seconds=0.5,
    )
    record = TrialRecord(
        number=number,
        state=optuna.trial.TrialState.COMPLETE,
        method="atm",
        params={**identity.fixed_params, **params},
        measurement=measurement,
        environment=Environment("invented", "float32", {"torch": "2.0"}),
    )
    return optuna.trial.create_trial(
        values=[measurement.top1, measurement.gflops],
        params=params,
        distributions=DISTRIBUTIONS,
        user_attrs={ATTRIBUTE: record.to_dict()},
    )


def measure(file: Path, folder: Path) -> None:
    """Print what a reader waits for, in seconds."""
    started = time.perf_counter()
    pages = LivePages(open_store(str(file), create=False))
    size = ask(pages)
    print(f"first data of the page   {time.perf_counter() - started:6.2f} s, {size / 1e6:.2f} MB")
    started = time.perf_counter()
    ask(pages)
    print(f"the same, nothing new    {time.perf_counter() - started:6.2f} s")
    study: Study = load(open_store(str(file), create=False))
    study.optuna.add_trial(trial(study.identity, random.Random(1), 1))
    pages._pages["large"].good_until = 0.0  # it is kept for a while
    started = time.perf_counter()
    ask(pages)
    print(f"with a new trial         {time.perf_counter() - started:6.2f} s")
    started = time.perf_counter()
    report = folder / "report.html"
    report.write_text(report_page(open_view(load(open_store(str(file), create=False)))))
    seconds = time.perf_counter() - started
    print(f"report                   {seconds:6.2f} s, {report.stat().st_size / 1e6:.1f} MB")


def ask(pages: LivePages) -> int:
    """Bytes of the page's data."""
    environ = {"PATH_INFO": "/frontier/data", "QUERY_STRING": "study=large"}
    return sum(len(part) for part in pages(environ, lambda status, headers: None))


if __name__ == "__main__":
    main()
