"""Races: what is dominated stops early, and hardly ever anything else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from atm_search.errors import ParameterError
from atm_search.measure.outcomes import Outcomes
from atm_search.measure.racing import Bet, Race, RaceRules, Rival

IMAGES, BATCH, DELTA = 400, 50, 0.05

Bools = NDArray[np.bool_]


def outcomes(
    hits: Bools, *, gflops: float = 1.0, kl: float | NDArray[np.float64] = 0.01
) -> Outcomes:
    per_image = np.broadcast_to(np.asarray(kl), hits.shape)
    return Outcomes.of(hits, per_image, [gflops] * (len(hits) // BATCH))


def cheaper(hits: Bools, *, kl: float | NDArray[np.float64] = 0.01) -> Outcomes:
    """Outcomes of a rival."""
    return outcomes(hits, gflops=0.9, kl=kl)


def went(ours: Outcomes, *rivals: Outcomes, rules: RaceRules | None = None) -> Race:
    """The race of a configuration, run to its end."""
    race = Race([Rival(number, rival) for number, rival in enumerate(rivals)], rules)
    for batch, gflops in enumerate(ours.gflops):
        images = slice(batch * BATCH, (batch + 1) * BATCH)
        if not race.add(ours.hits[images], ours.distances[images], float(gflops)):
            break
    return race


def pair(rng: np.random.Generator, *, lost: int, gained: int) -> tuple[Bools, Bools]:
    """Hits of a configuration and its rival, in random order, that differ in so many images."""
    ours, theirs = np.zeros((2, IMAGES), bool)
    ours[: IMAGES * 3 // 4] = theirs[: IMAGES * 3 // 4] = True
    ours[:lost] = False
    theirs[IMAGES - gained :] = False
    ours[IMAGES - gained :] = True
    order = rng.permutation(IMAGES)
    return ours[order], theirs[order]


def test_a_much_worse_configuration_stops_early_and_says_by_whom() -> None:
    ours, theirs = pair(np.random.default_rng(0), lost=60, gained=2)
    race = went(outcomes(ours), cheaper(theirs))
    assert race.stopped_by == 0
    assert len(race.outcomes) <= IMAGES // 2
    assert len(race.outcomes) % BATCH == 0


def test_where_latency_counts_only_rivals_that_answer_as_fast_may_stop_a_trial() -> None:
    ours, theirs = pair(np.random.default_rng(0), lost=60, gained=2)
    for latency_ms, stopped in ((5.0, 0), (4.9, None)):
        race = Race([Rival(0, cheaper(theirs), latency_ms=5.0)])
        race.require_latency(latency_ms)
        mine = outcomes(ours)
        for batch in range(IMAGES // BATCH):
            images = slice(batch * BATCH, (batch + 1) * BATCH)
            if not race.add(mine.hits[images], mine.distances[images], 1.0):
                break
        assert race.stopped_by == stopped
    untimed = Race([Rival(0, cheaper(theirs))])
    untimed.require_latency(5.0)
    assert untimed.add(ours[:BATCH], np.full(BATCH, 0.01), 1.0)


@pytest.mark.parametrize("discordant", [12, 40, 160])
def test_a_configuration_that_is_just_not_dominated_is_stopped_in_delta_of_all_orders_at_most(
    discordant: int,
) -> None:
    """One hit more than the rival: the hardest case of the null hypothesis."""
    rng = np.random.default_rng(discordant)
    lost, gained = discordant // 2, discordant // 2 + 1
    orders, stopped = 1000, 0
    for _ in range(orders):
        ours, theirs = pair(rng, lost=lost, gained=gained)
        stopped += went(outcomes(ours), cheaper(theirs)).stopped_by is not None
    assert stopped <= orders * DELTA + 3 * (orders * DELTA * (1 - DELTA)) ** 0.5


def test_the_bound_holds_for_any_population_at_every_single_number() -> None:
    rng = np.random.default_rng(7)
    reached = 0
    for _ in range(1000):
        numbers = np.repeat([-1.0, -0.1, 0.0, 0.3, 0.8], [6, 80, 100, 20, 10])
        assert abs(numbers.sum()) < 1e-9  # the null holds with equality
        bet = Bet(len(numbers), least=0.0)
        bet.add(rng.permutation(numbers))
        reached += bet.peak >= 1 / DELTA
    assert reached <= 1000 * DELTA + 3 * (1000 * DELTA * (1 - DELTA)) ** 0.5


def test_half_of_the_images_are_enough_for_a_clear_gap() -> None:
    rng = np.random.default_rng(3)
    seen = [
        len(went(outcomes(ours), cheaper(theirs)).outcomes)
        for ours, theirs in (pair(rng, lost=24, gained=4) for _ in range(100))
    ]
    assert np.mean(seen) < IMAGES / 2


def test_a_bet_comes_to_the_same_however_the_numbers_are_cut() -> None:
    numbers = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.85, 0.05])
    once, often = Bet(300, least=1.0), Bet(300, least=1.0)
    once.add(numbers)
    for part in np.split(numbers, [1, 2, 90, 200]):
        often.add(part)
    assert often.peak == pytest.approx(once.peak)
    assert often.total == once.total
    with pytest.raises(ValueError, match="300"):
        often.add(numbers[:1])


def test_what_can_no_more_be_reached_stops_with_certainty() -> None:
    """All the rival's misses lie behind: nothing can be gained in the rest."""
    theirs = np.ones(IMAGES, bool)
    theirs[:BATCH] = False
    ours = theirs.copy()
    ours[BATCH] = False
    race = went(outcomes(ours), cheaper(theirs), rules=RaceRules(delta=1e-9))
    assert race.stopped_by == 0
    assert len(race.outcomes) == BATCH  # as good as the rival is dominated too


def test_a_dearer_point_stops_nobody_and_of_cheaper_ones_the_best_does() -> None:
    ours, theirs = pair(np.random.default_rng(0), lost=60, gained=0)
    worse = theirs & (np.arange(IMAGES) % 40 != 0)
    for cost in (0.8, 0.9, 0.902):  # less, the same, and more by too little to be sure of it
        assert went(outcomes(ours, gflops=cost), cheaper(theirs)).stopped_by is None
    rivals = [outcomes(worse, gflops=0.5), cheaper(theirs), outcomes(theirs)]
    assert went(outcomes(ours, gflops=0.95), *rivals).stopped_by == 1


def test_a_rival_that_turns_out_dearer_stops_nobody() -> None:
    ours, theirs = pair(np.random.default_rng(0), lost=24, gained=0)
    costs = np.linspace(0.9, 0.99, IMAGES // BATCH)
    assert went(outcomes(ours), Outcomes.of(theirs, theirs * 0.0, costs)).stopped_by == 0
    costs[1] = 1.2
    assert went(outcomes(ours), Outcomes.of(theirs, theirs * 0.0, costs)).stopped_by is None


def test_a_race_on_kl_stops_what_is_further_from_the_dense_model() -> None:
    rng = np.random.default_rng(0)
    hits = np.ones(IMAGES, bool)
    theirs = rng.lognormal(-5, 1.5, IMAGES)
    further = outcomes(hits, kl=theirs * rng.lognormal(0.8, 0.3, IMAGES))
    rules = RaceRules("kl")
    assert went(further, cheaper(hits, kl=theirs), rules=rules).stopped_by == 0
    assert (
        went(outcomes(hits, kl=theirs * 0.9), cheaper(hits, kl=theirs), rules=rules).stopped_by
        is None
    )
    assert went(further, cheaper(hits, kl=theirs), rules=RaceRules("off")).stopped_by is None


def test_a_margin_stops_what_is_ahead_by_less() -> None:
    ours, theirs = pair(np.random.default_rng(0), lost=10, gained=12)
    assert went(outcomes(ours), cheaper(theirs)).stopped_by is None
    wide = RaceRules(margin=5.0)
    assert went(outcomes(ours), cheaper(theirs), rules=wide).stopped_by == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on": "top5"}, "No race on 'top5'"),
        ({"delta": 0.0}, "delta=0.0"),
        ({"delta": 0.6}, "delta=0.6"),
        ({"margin": -1.0}, "margin=-1.0"),
    ],
)
def test_wrong_rules_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        RaceRules(**wrong)
