"""What is searched by, what is reported, and what labels are needed for."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from atm_search.errors import AtmSearchError, MeasurementError, ParameterError, StudyError
from atm_search.measure.latency import Latency
from atm_search.measure.measurement import LABELLED, Measurement
from atm_search.merging.method import Method
from atm_search.search.constraints import Constraints
from atm_search.search.dense import Dense
from atm_search.search.fidelity import relation, spearman
from atm_search.search.frontier import FrontierPoint, frontier, hypervolume
from atm_search.search.identity import Identity
from atm_search.search.objectives import FEATURE, GUIDED, KL, TOP1, Objectives
from atm_search.search.picks import Rule, pick
from atm_search.search.study import Study, load
from atm_search.search.worker import run

UNLABELLED = Dense(images=1000, top1_hits=None, top5_hits=None, gflops=1.254)


def without_labels(measurement: Measurement) -> Measurement:
    return replace(measurement, **dict.fromkeys(LABELLED))


TIMED = replace(TOP1, latency=True)


def timed(measurement: Measurement, milliseconds: float) -> Measurement:
    """The same with a latency."""
    latency = Latency(
        median_ms=milliseconds,
        low_ms=0.9 * milliseconds,
        high_ms=1.1 * milliseconds,
        runs=5,
        dense_ms=8.0,
        batch_size=10,
        device="a GPU",
    )
    return replace(measurement, latency=latency)


@pytest.mark.parametrize("latency", [False, True])
@pytest.mark.parametrize("objectives", [TOP1, KL, GUIDED, FEATURE])
def test_objectives_survive_their_text_and_an_identity(
    stub: ModuleType, objectives: Objectives, latency: bool
) -> None:
    objectives = replace(objectives, latency=latency)
    assert Objectives.parse(str(objectives)) == objectives
    identity = stub.identity(objectives=objectives)
    assert Identity.from_dict(identity.to_dict()) == identity


def test_a_study_from_before_there_was_a_choice_is_of_top1(stub: ModuleType) -> None:
    values = stub.identity().to_dict()
    del values["frontier"]
    assert Identity.from_dict(values).objectives == TOP1


def test_other_objectives_are_another_study(stub: ModuleType) -> None:
    differences = stub.identity(objectives=KL).differences(stub.identity())
    assert differences == ["made with objectives kl,gflops, you gave top1,gflops"]


def test_unknown_objectives_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"No objectives 'top5'. Known: top1,gflops, kl"):
        Objectives.parse("top5")
    with pytest.raises(ParameterError, match=r"No objectives 'latency'.*each with ,latency"):
        Objectives.parse("latency")
    with pytest.raises(ParameterError, match="not offered"):
        Objectives("top1", "kl")


def test_latency_is_a_third_objective_of_front_sampler_and_hypervolume(stub: ModuleType) -> None:
    dense = replace(stub.DENSE, latency_ms=8.0)
    cheap = timed(stub.measurement(0.8, 780), 6.0)
    fast = timed(stub.measurement(0.9, 780), 4.0)  # dominated but for its latency
    slow = timed(stub.measurement(0.9, 780), 7.0)
    assert TOP1.front([cheap, fast, slow]) == [0]
    assert TIMED.front([cheap, fast, slow]) == [0, 1]
    assert TIMED.told(fast, dense) == (78.0, 0.9, 4.0)
    assert replace(KL, latency=True).told(fast, dense) == (0.1, 0.9, 4.0)
    assert TIMED.directions[-1] == ("latency_ms", "minimize")
    assert TIMED.reference_point(dense) == pytest.approx((68.7, 1.254, 8.0))
    points = [FrontierPoint(0, "atm", {}, cheap), FrontierPoint(1, "atm", {}, fast)]
    # By hand: two boxes of height 9.3, and what they share.
    area = 0.454 * 2.0 + 0.354 * 4.0 - 0.354 * 2.0
    assert hypervolume(points, dense, TIMED) == pytest.approx(9.3 * area)
    assert pick(Rule("latency", 5.0), points, objectives=TIMED)[0].point.number == 1
    assert pick(Rule("budget", 0.85), points, objectives=TIMED)[0].point.number == 0
    with pytest.raises(StudyError, match=r"in 3 ms: the fastest, trial 1, takes 4\.00 ms"):
        pick(Rule("latency", 3.0), points, objectives=TIMED)
    untimed = [FrontierPoint(0, "atm", {}, stub.measurement(0.8, 780))]
    with pytest.raises(StudyError, match="--objectives top1,gflops,latency"):
        pick(Rule("latency", 3.0), untimed)


def test_a_pick_of_three_objectives_is_the_best_not_the_dearest(stub: ModuleType) -> None:
    points = [
        FrontierPoint(0, "atm", {}, timed(stub.measurement(0.8, 780), 6.0)),
        FrontierPoint(1, "atm", {}, timed(stub.measurement(0.9, 770), 4.0)),
    ]
    assert pick(Rule("budget", 1.0), points, objectives=TIMED)[0].point.number == 0
    with pytest.raises(StudyError, match=r"the best, trial 0, changes it by -0.70"):
        pick(Rule("drop", 0.1), points, objectives=TIMED)


def test_a_search_for_latency_keeps_it_with_every_trial_also_reused_ones(
    begin: Callable[..., Study], stub: ModuleType
) -> None:
    def measure(method: Method, race: object) -> Measurement:
        measured = stub.measure(method)
        return timed(measured, 10.0 * measured.gflops)

    space = stub.tome_identity(3)
    identity = replace(space, objectives=TIMED)
    dense = replace(stub.DENSE, latency_ms=12.5)
    study = begin(identity=identity, dense=lambda: dense, budget=4)
    for number in (1, 1, 2):
        study.optuna.enqueue_trial({"r": number})
    run(study, measure, environment=stub.ENVIRONMENT)
    records = [record for record in study.records() if record.measured]
    assert any(record.reused_from is not None for record in records)
    assert all(record.measurement.latency.batch_size == 10 for record in records)
    told = [trial.values[2] for trial in study.optuna.get_trials() if trial.values]
    assert told == [record.measurement.latency_ms for record in records]
    assert load(study.storage, "s").dense == dense
    area = hypervolume(frontier(records, dense, TIMED), dense, TIMED)
    assert area > 0.0


def test_a_trial_without_latency_fails_where_latency_is_an_objective(
    begin: Callable[..., Study], stub: ModuleType
) -> None:
    study = begin(identity=stub.identity(objectives=TIMED), budget=1)
    with pytest.raises(AtmSearchError, match="The measured latency_ms is nan"):
        run(study, stub.measure, environment=stub.ENVIRONMENT)


def test_kl_chooses_the_frontier_of_a_guided_search(stub: ModuleType) -> None:
    lucky = replace(stub.measurement(0.8, 790), kl=0.3)
    faithful = replace(stub.measurement(0.8, 780), kl=0.1)
    dear = replace(stub.measurement(1.0, 785), kl=0.05)
    assert TOP1.front([lucky, faithful, dear]) == [0]
    assert GUIDED.front([lucky, faithful, dear]) == [1, 2]
    assert KL.point(faithful) == (0.1, 0.8)
    assert GUIDED.point(faithful) == (78.0, 0.8)
    assert KL.told(lucky, stub.DENSE) == (0.3, 0.8)


@pytest.mark.parametrize("objectives", [KL, GUIDED])
def test_a_search_by_kl_finds_the_front_of_kl_and_races_on_it(
    begin: Callable[..., Study], stub: ModuleType, objectives: Objectives
) -> None:
    def measure(method: object, race: object) -> Measurement:
        measured = stub.measure(method)
        return replace(measured, kl=(measured.dense_gflops - measured.gflops) ** 2)

    study = begin(identity=stub.identity(objectives=objectives), budget=6)
    run(study, measure, environment=stub.ENVIRONMENT)
    records = study.records()
    assert study.plan.racing["on"] == "kl"
    told = [tuple(trial.values) for trial in study.optuna.get_trials()]
    assert told == [(r.measurement.kl, r.measurement.gflops) for r in records if r.measurement]
    points = frontier(records, study.dense, objectives)
    kl = [point.measurement.kl for point in points]
    assert len(points) > 1
    assert kl == sorted(kl, reverse=True)
    assert hypervolume(points, study.dense, objectives) > 0.0


def test_a_search_without_labels_goes_by_kl_from_end_to_end(
    begin: Callable[..., Study], stub: ModuleType
) -> None:
    def measure(method: object, race: object) -> Measurement:
        measured = stub.measure(method)
        return without_labels(replace(measured, kl=measured.dense_gflops - measured.gflops))

    study = begin(identity=stub.identity(objectives=KL), dense=lambda: UNLABELLED, budget=4)
    run(study, measure, environment=stub.ENVIRONMENT)
    points = frontier(study.records(), study.dense)
    assert points
    assert all(point.measurement.figures()["top1"] is None for point in points)


@pytest.mark.parametrize(
    ("changes", "racing", "message"),
    [
        ({"objectives": TOP1}, {}, "Use --objectives kl,gflops"),
        ({"objectives": GUIDED}, {}, "'guided' need labels"),
        ({"objectives": KL}, {"on": "top1"}, "use --race-on kl"),
        ({"objectives": FEATURE}, {"on": "top1"}, "use --race-on feature"),
        ({"objectives": FEATURE}, {"on": "kl"}, "use --race-on feature"),
        ({"objectives": KL}, {"on": "feature"}, "use --race-on kl"),
        ({"objectives": KL, "constraints": Constraints(max_drop=1.0)}, {}, "max_gflops"),
    ],
)
def test_what_needs_labels_is_refused_without(
    begin: Callable[..., Study],
    stub: ModuleType,
    changes: dict[str, object],
    racing: dict[str, str],
    message: str,
) -> None:
    with pytest.raises(ParameterError, match=message):
        begin(identity=stub.identity(**changes), dense=lambda: UNLABELLED, racing=racing)


def test_a_measurement_has_all_of_the_labels_counts_or_none(stub: ModuleType) -> None:
    measured = without_labels(stub.measurement(0.9, 780))
    assert not measured.has_labels
    assert np.isnan([measured.top1, measured.delta_top1, *measured.delta_ci95]).all()
    assert Measurement.from_dict(measured.to_dict()) == measured
    with pytest.raises(MeasurementError, match="some are missing"):
        replace(measured, lost=3)


def test_spearman_shares_ranks_among_ties() -> None:
    # By hand: ranks 0.5 0.5 2 3 and 0 1 2 3 correlate with 4.5 / sqrt(4.5 * 5).
    a, b = np.array([1.0, 1.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, b) == pytest.approx(4.5 / (4.5 * 5.0) ** 0.5)
    assert spearman(a, np.zeros(4)) == 0.0


def test_the_relation_of_kl_and_top1_is_found_and_called_weak_if_it_is(stub: ModuleType) -> None:
    strong = [replace(stub.measurement(0.9, 787 - n), kl=0.01 * n) for n in range(20)]
    found = relation(strong)
    assert found is not None
    assert found.rank_correlation == pytest.approx(-1.0)
    assert found.slope == pytest.approx(-10.0)  # a hit of 1,000 images per 0.01 nats
    assert not found.is_weak
    noise = [replace(stub.measurement(0.9, 787 + 5 * (-1) ** n), kl=0.01 * n) for n in range(20)]
    weak = relation(noise)
    assert weak is not None
    assert weak.is_weak
    assert "Too weak" in weak.in_words()
    assert weak.predict(noise[3], 1000) is None
    assert relation(strong[:5]) is None
    assert relation(map(without_labels, strong)) is None


def test_top1_is_foretold_from_kl_on_few_images_as_often_as_promised(stub: ModuleType) -> None:
    """Configurations whose change of top-1 scatters around a line; 20 are measured in full."""
    rng, inside, widths = np.random.default_rng(0), [], []
    for _ in range(12):
        kl = rng.uniform(0.01, 0.2, 120)
        hits = np.round(787 - 300 * kl + rng.normal(0, 8, 120)).astype(int)
        seen = kl + rng.normal(0, 0.01, 120)  # on 100 of 1,000 images
        full = [
            replace(stub.measurement(0.9, int(hit)), kl=float(value))
            for hit, value in zip(hits, kl, strict=True)
        ]
        found = relation(full[:20])
        assert found is not None
        for truth, value in zip(full[20:], seen[20:], strict=True):
            partial = replace(truth, images=100, kl=float(max(value, 0.0)), kl_se=0.01)
            foretold = found.predict(partial, 1000)
            if foretold is None:
                assert value > found.largest_kl
                continue
            low, high = foretold.ci95
            inside.append(low <= truth.delta_top1 <= high)
            widths.append(high - low)
    assert 0.93 <= np.mean(inside) <= 0.98
    assert np.mean(widths) < 5.0  # 4 x 0.8 points of scatter, and what KL on few images adds


def test_models_without_a_head_are_only_for_features() -> None:
    FEATURE.require_head("vit", has_head=False)
    KL.require_head("vit", has_head=True)
    with pytest.raises(ParameterError, match=r"vit has no classifier head.*feature,gflops"):
        KL.require_head("vit", has_head=False)


def test_hits_no_better_than_chance_are_known_as_such() -> None:
    assert Dense(1000, 4, 9, 1.0).is_guessing(1000)
    assert not Dense(1000, 5, 9, 1.0).is_guessing(1000)
    assert not Dense(1000, 787, 950, 1.254).is_guessing(1000)
    assert not UNLABELLED.is_guessing(1000)
