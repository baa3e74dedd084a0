"""What people see of a study: picks, status, words, figures, explanations."""

import dataclasses

import pytest
from optuna.trial import TrialState
from rich.console import Console

from atm_search.errors import StudyError
from atm_search.measure.measurement import Measurement
from atm_search.search.frontier import FrontierPoint
from atm_search.search.study import Study
from atm_search.search.trials import TrialRecord
from atm_search.show.explanation import explanation_summary, standing
from atm_search.show.figures import frontier_figure
from atm_search.show.frontier import frontier_summary, frontier_table
from atm_search.show.importance import importance
from atm_search.show.note import caveats, commands, note, provenance
from atm_search.show.page import figures
from atm_search.show.picks import picks
from atm_search.show.published import STUDIES, published
from atm_search.show.status import status, status_text
from atm_search.show.view import View


def point(number: int, gflops: float, change: int, images: int = 1000) -> FrontierPoint:
    """A point that loses or gains that many of a thousand images."""
    lost, gained = max(-change, 0), max(change, 0)
    measurement = Measurement(
        images=images,
        top1_hits=800 + change,
        top5_hits=900,
        dense_top1_hits=800,
        dense_top5_hits=900,
        lost=lost,
        gained=gained,
        agreements=images - lost - gained,
        kl=0.1,
        kl_se=0.01,
        gflops=gflops,
        dense_gflops=1.25,
        matching_gflops=0.0,
        tokens_per_layer=(100.0,) * 12,
        seconds=1.0,
    )
    return FrontierPoint(number, "tome", {"r": number}, measurement)


def test_picks_are_the_cheapest_without_loss_the_knee_and_the_cheapest_within_a_point() -> None:
    points = [point(0, 0.5, -90), point(1, 0.6, -20), point(2, 0.7, -10), point(3, 0.9, 0)]
    points.append(point(4, 1.0, 3))
    found = {name: pick.number for name, pick in picks(points).items()}
    assert found == {"lossless": 3, "knee": 1, "within_1_point": 2}
    assert set(picks(points[:2])) == {"knee"}
    assert picks([]) == {}


def test_published_frontiers_are_found_by_alias_and_by_timm_name() -> None:
    assert list(STUDIES.glob("*.yaml"))
    by_alias = published("deit_t")
    assert by_alias is not None
    assert by_alias.dense.top1 == 72.14
    assert published("deit_tiny_patch16_224.fb_in1k") == by_alias
    assert published("deit_tiny_patch16_224") == by_alias
    assert published("deit_tiny_distilled_patch16_224.fb_in1k") is None
    assert published("demo") is None


def test_a_view_has_the_frontier_and_the_rivals_of_the_same_images(seen: View) -> None:
    assert seen.points
    assert set(seen.rivals) == {"rival"}
    assert not seen.raced
    names = {trace.name for trace in frontier_figure(seen).data}
    assert {"dense model", "rival", "trials", "frontier, 95 % interval"} <= names


def test_early_stopped_trials_are_told_from_others(seen: View, study: Study) -> None:
    first = seen.records[0]
    assert first.measurement is not None
    short = dataclasses.replace(first.measurement, images=20)
    raced = dataclasses.replace(first, measurement=short)
    partial = dataclasses.replace(seen, records=[raced, *seen.records[1:]])
    assert [record.number for record in partial.raced] == [0]
    assert status(partial).raced == 1
    assert "Raced out after 20 of 40 images" in standing(partial, raced)
    assert any("raced out" in line for line in caveats(partial))
    traces = {trace.name: trace for trace in frontier_figure(partial).data}
    assert list(traces["raced out (estimate)"].customdata) == [0]
    assert 0 not in traces["trials"].customdata


def test_what_was_raced_out_is_foretold_from_its_kl(seen: View, study: Study) -> None:
    """12 configurations that lose 2.5 points per 0.1 nats, give or take one image of 40."""
    first = seen.records[0]
    assert first.measurement is not None
    hits = first.measurement.dense_top1_hits
    assert hits is not None

    def record(number: int, kl: float, lost: int, images: int = 40) -> TrialRecord:
        measured = dataclasses.replace(
            first.measurement,  # type: ignore[type-var]
            **{"images": images, "kl": kl, "kl_se": 0.01, "gflops": 0.1 + 0.001 * number},
            **{"top1_hits": hits - lost, "lost": lost, "gained": 0},
        )
        return dataclasses.replace(first, number=number, measurement=measured, params={})

    full = [record(number, 0.1 * number, number + number % 2) for number in range(12)]
    raced = [record(12, 0.55, 0, images=20), record(13, 9.0, 0, images=20)]
    partial = dataclasses.replace(seen, records=[*full, *raced])
    found = partial.relation
    assert found is not None
    assert not found.is_weak
    assert f"By its KL, all images would change top-1 by {found.slope * 0.55:+.2f} points" in (
        standing(partial, raced[0])
    )
    assert "beyond that of all full measurements" in standing(partial, raced[1])
    low, high = explanation_summary(partial, 12)["predicted"]["ci95"]
    assert low < found.slope * 0.55 < high
    assert explanation_summary(partial, 13)["predicted"] is None
    summary = frontier_summary(study, partial.records, with_dominated=True)
    assert [point["trial"] for point in summary["partial"]] == [12, 13]
    assert summary["partial"][0]["predicted"]["ci95"] == [low, high]
    console = Console(width=200)
    with console.capture() as printed:
        console.print(frontier_table(study, partial.records, with_dominated=True))
    row = next(line for line in printed.get().splitlines() if "~" in line)
    assert f"{low:+.2f} to {high:+.2f}" in row
    names = [trace.name for trace in figures(partial, history=[])["fidelity"].data]
    assert names == ["measured in full", "95 % prediction interval", "fit"]
    assert any("rank correlation of KL and top-1" in line for line in caveats(partial))


def test_published_points_stand_at_their_own_change(seen: View, study: Study) -> None:
    identity = dataclasses.replace(study.identity, model="deit_tiny_patch16_224.fb_in1k")
    deit = dataclasses.replace(seen, study=dataclasses.replace(study, identity=identity))
    (trace,) = [t for t in frontier_figure(deit).data if t.name.startswith("published")]
    assert trace.x[-1] == 1.05
    assert trace.y[-1] == pytest.approx(study.dense.top1 + 72.19 - 72.14)


def test_status_counts_what_became_of_trials(seen: View) -> None:
    now = status(seen)
    assert (now.done, now.budget, now.running, now.failed) == (9, 9, 0, 0)
    assert now.seconds_left is None
    assert now.images_per_second is not None
    assert status_text(now) == "9 of 9 trials"


def test_the_note_says_what_was_searched_and_the_picks(seen: View) -> None:
    text = "\n".join(note(seen))
    assert "ATM in demo" in text
    assert "on 40 images (embedded)" in text
    for name, pick in seen.picks.items():
        assert f"{name.replace('_', ' ').capitalize()} (" in text
        assert f"trial {pick.number}: {pick.measurement.gflops:.4f} GFLOPs" in text
    facts = dict(provenance(seen.study, seen))
    assert seen.study.identity.weights_digest in facts["weights"]
    again = dict(commands(seen))["search again, or on"]
    assert again.startswith("atm-search start --model demo --images 40 --batch-size 100")
    assert "--checkpoint" not in again


def test_figures_are_drawn_as_soon_as_there_is_something(seen: View) -> None:
    drawn = figures(seen, history=[0.0] * 9)
    assert set(drawn) == {"frontier", "tokens", "thresholds", "hypervolume", "importance"}
    assert len(drawn["tokens"].data) == len(seen.points)
    assert drawn["tokens"].data[0].y == seen.points[0].measurement.tokens_per_layer
    empty = dataclasses.replace(seen, trials=[], records=[])
    assert set(figures(empty, history=[])) - {"importance"} == {"frontier"}
    assert any("No finished trial yet" in line for line in note(empty))


def test_importance_is_a_share_per_objective_and_parameter(study: Study) -> None:
    shares = importance(study)
    assert set(shares) == {"kl", "gflops"}
    for share in shares.values():
        assert set(share) == {"tau0", "alpha", "tau_min", "split_depth"}
        assert sum(share.values()) == pytest.approx(1.0)


def test_every_trial_is_explained(seen: View) -> None:
    frontier = {point.number for point in seen.points}
    for record in seen.records:
        text = standing(seen, record)
        assert text.startswith("On the frontier") == (record.number in frontier)
        if record.number not in frontier:
            assert any(f"trial {number}" in text for number in frontier)
    summary = explanation_summary(seen, 0)
    assert summary["thresholds"][0] == 1.0
    assert summary["measurement"]["images"] == 40
    with pytest.raises(StudyError, match="no trial 99: it has trials 0 to 8"):
        explanation_summary(seen, 99)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"reason": "out of memory"}, "Failed: out of memory"),
        ({"interrupted": True}, "Interrupted"),
        ({"lost": True}, "worker died"),
        ({"surplus": True}, "Given up unmeasured"),
        ({}, "Fail, without a measurement"),
    ],
)
def test_trials_without_a_measurement_say_why(
    seen: View, facts: dict[str, object], words: str
) -> None:
    record = TrialRecord(number=0, state=TrialState.FAIL, **facts)  # type: ignore[arg-type]
    assert words in standing(seen, record)
