"""The frontier as a table and as plain values."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from atm_search.measure.measurement import Measurement
from atm_search.search.dense import Dense
from atm_search.search.fidelity import Relation, relation
from atm_search.search.frontier import (
    FrontierPoint,
    frontier,
    hypervolume,
    hypervolume_history,
    measured_points,
    partial_points,
    reference_point,
)
from atm_search.search.scores import FEATURE, KL, Score
from atm_search.search.study import Study
from atm_search.search.trials import Confirmation, TrialRecord, tally
from atm_search.show.tables import saving, settings_text

TOP1, CHANGE, AGREEMENT = "top-1", "change", "agreement"
INTERVAL, CONFIRMED = "95 % interval", "confirmed change"
"""Headings of columns that take two lines rather than cut others off."""

MOST_COLUMNS = 6
"""Parameters that get a column each; DiffRate has 24."""


def frontier_table(
    study: Study,
    records: Sequence[TrialRecord],
    *,
    with_dominated: bool = False,
    width: int | None = None,
) -> Table:
    """A row per frontier point, from the fewest GFLOPs to the most, and one for the dense model.

    With dominated points, a first column says which are on the frontier (*), which break a
    constraint (!), and which were raced out (~): the change of top-1 of these is predicted.

    Args:
        study: searched or not.
        records: of its trials.
        with_dominated: list all that was measured.
        width: columns of the terminal; where they do not do, top-1 is left out beside its change,
            and then one column has all parameters.
    """
    best = frontier(records, study.dense, study.objectives)
    points = measured_points(records, study.dense) if with_dominated else best
    columns = param_columns(points)
    for own, brief in ((columns, False), (columns, True), ([], True)):
        table = _table(
            study, records, best, points, own, with_dominated=with_dominated, brief=brief
        )
        if width is None or _natural_width(table) <= width:
            break
    table.caption = _caption(study, records, best, with_dominated=with_dominated)
    return table


def _natural_width(table: Table) -> int:
    """Columns that a table takes with nothing cut off or folded."""
    return Console(width=10_000).measure(table).maximum


def _table(
    study: Study,
    records: Sequence[TrialRecord],
    best: Sequence[FrontierPoint],
    points: Sequence[FrontierPoint],
    columns: Sequence[str],
    *,
    with_dominated: bool,
    brief: bool,
) -> Table:
    dense, headings = study.dense, _headings(study, brief=brief)
    table = Table(
        title=_title(study, best, points),
        title_justify="left",
        caption_justify="left",
    )
    if with_dominated:
        table.add_column("", min_width=1)
    confirmed = any(point.confirmation is not None for point in points)
    latency = study.objectives.latency
    timed = ["ms"] if latency else []
    others = [CONFIRMED] if confirmed else []
    for heading in ("GFLOPs", "saved", *timed, *headings, *others, "trial"):
        table.add_column(heading, justify="right", no_wrap=heading not in (INTERVAL, CONFIRMED))
    found = _relation(records, dense)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    if not columns:
        table.add_column("configuration", overflow="fold")

    def settings(configured: FrontierPoint) -> list[str]:
        if not columns:
            return [settings_text(configured)]
        return [str(configured.params.get(name, "")) for name in columns]

    numbers = {point.number for point in best}
    for point in points:
        measured = point.measurement
        mark = "*" if point.number in numbers else "!" if point.feasible is False else ""
        table.add_row(
            *([mark] if with_dominated else []),
            f"{measured.gflops:.4f}",
            saving(measured),
            *([f"{measured.latency_ms:.2f}"] if latency else []),
            *_quality(study, measured, headings),
            *([_confirmed(point, study.objectives.score)] if confirmed else []),
            str(point.number),
            *settings(point),
        )
    for point in partial_points(records, dense) if with_dominated else ():
        table.add_row(
            "~",
            f"{point.measurement.gflops:.4f}",
            saving(point.measurement),
            *([f"{point.measurement.latency_ms:.2f}"] if latency else []),
            *_foretold(study, point.measurement, headings, found),
            *([""] if confirmed else []),
            str(point.number),
            *settings(point),
        )
    table.add_section()
    quality = [f"{dense.top1:.2f}" if heading == TOP1 else "" for heading in headings]
    timed = [f"{dense.latency_ms:.2f}"] if dense.latency_ms is not None else []
    others = [""] if confirmed else []
    shown = [f"{dense.gflops:.4f}", "", *timed, *quality, *others, "dense"]
    table.add_row(*([""] if with_dominated else []), *shown)
    return table


def frontier_summary(
    study: Study, records: Sequence[TrialRecord], *, with_dominated: bool = False
) -> dict[str, Any]:
    """The same as plain values, for JSON; with the hypervolume after every finished trial."""
    dense = study.dense
    goals = study.objectives
    best = frontier(records, dense, goals)
    found = _relation(records, dense)
    summary = {
        "study": study.name,
        "objectives": str(goals),
        "dense": {
            "images": dense.images,
            "top1": dense.top1 if dense.has_labels else None,
            "gflops": dense.gflops,
            "latency_ms": dense.latency_ms,
        },
        "latency": study.identity.protocol.get("latency"),
        "constraints": study.identity.constraints.to_dict(),
        "trials": tally(records),
        "racing": dict(study.plan.racing),
        "hypervolume": hypervolume(best, dense, goals),
        "reference_point": dict(zip(goals.axes, reference_point(dense, goals), strict=True)),
        "hypervolume_history": hypervolume_history(records, dense, goals),
        "kl_to_top1": None if found is None else found.to_dict(),
        "frontier": [_values(point) for point in best],
    }
    if with_dominated:
        numbers = {point.number for point in best}
        summary["measured"] = [
            _values(point) | {"feasible": point.feasible, "on_frontier": point.number in numbers}
            for point in measured_points(records, dense)
        ]
        summary["partial"] = [
            _values(point)
            | {"feasible": point.feasible, "predicted": _prediction(point, found, dense)}
            for point in partial_points(records, dense)
        ]
    return summary


def param_columns(points: Sequence[FrontierPoint]) -> list[str]:
    """Parameters worth a column: all but switches, which a study does not vary.

    None where points are of several methods, or the parameters too many: one column has them all.
    """
    if len({point.method for point in points}) != 1:
        return []
    names = [
        name
        for name in points[0].params
        if not all(isinstance(point.params[name], bool) for point in points)
    ]
    return names if len(names) <= MOST_COLUMNS else []


def _headings(study: Study, *, brief: bool) -> list[str]:
    """Columns that say how good a point is; in brief, of a search by KL, without top-1 itself."""
    accuracy = [TOP1, CHANGE, INTERVAL] if study.dense.has_labels else []
    match study.objectives.searched:
        case "kl":
            shown = accuracy[1:] if brief else accuracy
            return ["KL", *(shown or [AGREEMENT])]
        case "feature":
            return [FEATURE.title]
    return accuracy


def _quality(study: Study, measured: Measurement, headings: Sequence[str]) -> list[str]:
    """One measurement in those columns."""
    shown = {}
    if study.objectives.searched == "feature":
        shown[FEATURE.title] = FEATURE.text(measured)
    if study.objectives.searched == "kl":
        labelled = study.dense.has_labels
        shown["KL"] = f"{measured.kl:.4f}" if labelled else KL.text(measured)
        shown[AGREEMENT] = f"{measured.agreement:.2f}"
    if study.dense.has_labels:
        low, high = measured.delta_ci95
        shown[TOP1] = f"{measured.top1:.2f}"
        shown[CHANGE] = f"{measured.delta_top1:+.2f}"
        shown[INTERVAL] = f"{low:+.2f} to {high:+.2f}"
    return [shown[heading] for heading in headings]


def _foretold(
    study: Study, measured: Measurement, headings: Sequence[str], found: Relation | None
) -> list[str]:
    """One measurement on fewer images in those columns: its distance, and what it foretells."""
    shown = dict(zip(headings, _quality(study, measured, headings), strict=True))
    if study.dense.has_labels:
        shown |= {heading: "" for heading in (TOP1, CHANGE, INTERVAL) if heading in shown}
        foretold = None if found is None else found.predict(measured, study.dense.images)
        if foretold is not None:
            low, high = foretold.ci95
            shown[CHANGE] = f"{foretold.delta_top1:+.2f}"
            shown[INTERVAL] = f"{low:+.2f} to {high:+.2f}"
    return list(shown.values())


def _prediction(
    point: FrontierPoint, found: Relation | None, dense: Dense
) -> dict[str, Any] | None:
    foretold = None if found is None else found.predict(point.measurement, dense.images)
    return None if foretold is None else foretold.to_dict()


def _confirmed(point: FrontierPoint, score: Score) -> str:
    return "" if point.confirmation is None else score.text(point.confirmation.measurement)


def _confirmed_on(points: Sequence[FrontierPoint]) -> list[str]:
    """What the confirmed figures are of, a sentence; none without."""
    images = {
        f"{found.measurement.images:,} images ({found.source})"
        for point in points
        if (found := point.confirmation) is not None
    }
    if not images:
        return []
    return [f"Confirmed: the change on {' or '.join(sorted(images))} that the search did not use."]


def _title(study: Study, best: Sequence[FrontierPoint], listed: Sequence[FrontierPoint]) -> str:
    """What is listed, of how many."""
    images = f"on {study.dense.images:,} images"
    if listed is best:
        return f"Frontier of {study.name}: {len(best)} configurations {images}"
    return f"{study.name}: {len(listed)} configurations {images}, {len(best)} on the frontier"


def _caption(
    study: Study,
    records: Sequence[TrialRecord],
    best: Sequence[FrontierPoint],
    *,
    with_dominated: bool,
) -> str:
    """What the figures mean, a sentence each."""
    goals = study.objectives
    lines = [f"Optimised: {goals.in_words()}."]
    if with_dominated:
        lines.append("* on the frontier, ! breaks a constraint.")
        if partial_points(records, study.dense):
            lines.append(_about_partial(study, _relation(records, study.dense)))
    if goals.searched == "kl":
        lines.append(
            "KL divergence from the dense model in nats."
            if study.dense.has_labels
            else "KL divergence from the dense model in nats, with its standard error; agreement: "
            "percent of images that get the dense model's class."
        )
    if goals.searched == "feature":
        lines.append(
            "Feature distance: mean cosine distance of the pooled feature from the dense model's, "
            "with its standard error."
        )
    if study.dense.has_labels:
        lines.append(
            f"Change of top-1 against the dense model's {study.dense.top1:.2f} % on the same "
            "images, in percentage points, with its 95 % interval (paired)."
        )
    if goals.latency:
        timed = study.identity.protocol["latency"]
        lines.append(
            f"ms: median time of a batch of {timed['batch_size']} on {timed['device']}, without "
            "decoding; neighbours that differ by a few percent may change places."
        )
    lines += _confirmed_on(best)
    found = _relation(records, study.dense)
    if found is not None:
        lines.append(found.in_words())
    lines.append(_hypervolume(study, best))
    counts = tally(records)
    lines.append(
        f"Trials: {counts['full']} measured in full, {counts['raced']} raced out, "
        f"{counts['reused']} reused, {counts['failed']} failed."
    )
    limits = study.identity.constraints
    if limits.max_drop is not None:
        lines.append(f"The frontier loses at most {limits.max_drop:g} points.")
    if limits.max_gflops is not None:
        lines.append(f"The frontier costs at most {limits.max_gflops:g} GFLOPs.")
    return " ".join(lines)


def _about_partial(study: Study, found: Relation | None) -> str:
    """What the figures of points that were raced out are."""
    text = "~ raced out: figures are of fewer images"
    if not study.dense.has_labels:
        return f"{text}."
    if found is None or found.is_weak:
        why = "too few are measured in full" if found is None else "KL and top-1 relate too weakly"
        return f"{text}; {why} to predict the change of top-1 from KL."
    return (
        f"{text}; the change of top-1 on all of them is predicted from KL, with a 95 % prediction "
        f"interval, unless KL is above {found.largest_kl:.4f}, the most that was measured in full."
    )


def _relation(records: Sequence[TrialRecord], dense: Dense) -> Relation | None:
    return relation(point.measurement for point in measured_points(records, dense))


def _hypervolume(study: Study, best: Sequence[FrontierPoint]) -> str:
    area = hypervolume(best, study.dense, study.objectives)
    far, gflops, *latency = reference_point(study.dense, study.objectives)
    score = study.objectives.score
    limit = f"top-1 {far:.2f} %" if score.is_accuracy else f"{score.title} {far:g} {score.unit}"
    units = [*filter(None, [score.unit]), "GFLOPs", *("ms" for _ in latency)]
    limits = [limit.rstrip(), f"{gflops:.4f} GFLOPs", *(f"{time:.2f} ms" for time in latency)]
    return (
        f"Hypervolume {area:.4f} {' x '.join(units)}, from the reference point {', '.join(limits)}."
    )


def _values(point: FrontierPoint) -> dict[str, Any]:
    return {
        "trial": point.number,
        "method": point.method,
        "params": dict(point.params),
        **point.measurement.figures(),
        "confirmed": None if point.confirmation is None else _confirmation(point.confirmation),
    }


def _confirmation(confirmation: Confirmation) -> dict[str, Any]:
    return {
        "shard_digest": confirmation.shard_digest,
        "source": confirmation.source,
        "after": confirmation.after,
        "device": confirmation.environment.device,
        **confirmation.measurement.figures(),
    }
