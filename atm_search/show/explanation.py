"""One trial, explained."""

from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from atm_search.errors import StudyError
from atm_search.measure.measurement import Measurement
from atm_search.search.scores import SCORES
from atm_search.search.trials import TrialRecord
from atm_search.show.charts import thresholds_of
from atm_search.show.tables import measurement_table, settings_text
from atm_search.show.view import View


def record_of(view: View, number: int) -> TrialRecord:
    """The record of a trial.

    Raises:
        StudyError: the study has no such trial.
    """
    if not 0 <= number < len(view.records):
        count = len(view.records)
        has = f"trials 0 to {count - 1}" if count else "no trial yet"
        raise StudyError(f"Study '{view.study.name}' has no trial {number}: it has {has}.")
    return view.records[number]


def explanation(view: View, number: int) -> Group:
    """What became of a trial, what it measured, and what each block did.

    Raises:
        StudyError: the study has no such trial.
    """
    record = record_of(view, number)
    title = f"Trial {number} of {view.study.name}: {settings_text(record) or 'no parameters'}"
    parts: list[Any] = [Text(title, style="bold"), Text(standing(view, record))]
    if record.measurement is not None:
        parts += [Text(""), measurement_table(record.measurement, title="")]
        parts.append(_blocks(record))
    if record.environment is not None:
        versions = ", ".join(f"{name} {v}" for name, v in record.environment.versions.items())
        where = f"Measured on {record.environment.device}, {record.environment.dtype}; {versions}"
        parts.append(Text(escape(where)))
    return Group(*parts)


def explanation_summary(view: View, number: int) -> dict[str, Any]:
    """The same for JSON.

    Raises:
        StudyError: the study has no such trial.
    """
    record = record_of(view, number)
    measured = record.measurement
    partial = measured is not None and measured.images < view.study.dense.images
    foretold = view.predicted(measured) if partial and measured is not None else None
    return {
        "study": view.study.name,
        "trial": number,
        "state": record.state.name.lower(),
        "standing": standing(view, record),
        "method": record.method,
        "params": dict(record.params),
        "picks": [name for name, point in view.picks.items() if point.number == number],
        "thresholds": _thresholds(record),
        "measurement": None if measured is None else measured.figures(),
        "predicted": None if foretold is None else foretold.to_dict(),
    }


def standing(view: View, record: TrialRecord) -> str:
    """What became of a trial, and where it stands, in a sentence or two."""
    measured = record.measurement
    if measured is None or not record.measured:
        return _unmeasured(record)
    if record.reused_from is not None:
        return (
            f"The same configuration as trial {record.reused_from}: its measurement was taken over."
        )
    images, score = view.study.dense.images, SCORES[view.study.objectives.searched]
    if measured.images < images:
        return (
            f"Raced out after {measured.images:,} of {images:,} images, when another was surely "
            f"better: the figures are estimates.{_predicted(view, measured)}"
        )
    if any(point.number == record.number for point in view.points):
        names = [name for name, point in view.picks.items() if point.number == record.number]
        also = f" It is the pick {', '.join(names).replace('_', ' ')}." if names else ""
        return (
            f"On the frontier: no other configuration beats it in both {score.title} and GFLOPs."
            f"{also}"
        )
    if record.feasible is False:
        return "Breaks a constraint of the study."
    sign, value = 1.0 if score.maximize else -1.0, score.of(measured)
    better = next(
        point
        for point in view.points
        if sign * (score.of(point.measurement) - value) >= 0.0
        and point.measurement.gflops <= measured.gflops
    )
    difference = f"{score.of(better.measurement) - value:+.{score.digits}f} {score.unit}".rstrip()
    return (
        f"Dominated by trial {better.number}: {difference} of {score.title} for "
        f"{better.measurement.gflops - measured.gflops:+.4f} GFLOPs."
    )


def _predicted(view: View, measured: Measurement) -> str:
    """What its KL foretells of top-1, in a sentence; or why nothing."""
    found, foretold = view.relation, view.predicted(measured)
    if foretold is not None:
        return f" By its KL, all images would change top-1 by {foretold.in_words()}."
    if found is None:  # no labels, or too few full measurements
        return ""
    if found.is_weak:
        return " KL and top-1 are too weakly related here to predict top-1 on all images."
    return " Its KL is beyond that of all full measurements, so top-1 is not predicted from it."


def _unmeasured(record: TrialRecord) -> str:
    if record.reason is not None:
        return f"Failed: {record.reason}"
    if record.interrupted:
        return "Interrupted before it was measured; its configuration was queued again."
    if record.lost:
        return "Its worker died or fell silent; its configuration was queued again, twice at most."
    if record.surplus:
        return "Given up unmeasured: other trials fill the budget, or measure the same."
    return f"{record.state.name.capitalize()}, without a measurement of atm-search's."


def _thresholds(record: TrialRecord) -> tuple[float, ...] | None:
    if record.measurement is None or record.method is None:
        return None
    return thresholds_of(record.method, record.params, record.measurement.tokens_per_layer)


def _blocks(record: TrialRecord) -> Table:
    """Tokens of every block's MLP, and the threshold where there is one."""
    assert record.measurement is not None  # the caller asked only then
    tokens = record.measurement.tokens_per_layer
    thresholds = _thresholds(record)
    table = Table(box=None, pad_edge=False)
    table.add_column("block", justify="right")
    table.add_column("tokens", justify="right")
    if thresholds is not None:
        table.add_column("threshold", justify="right")
    for index, count in enumerate(tokens):
        own = [] if thresholds is None else [f"{thresholds[index]:.3f}"]
        table.add_row(str(index + 1), f"{count:.1f}", *own)
    return table
