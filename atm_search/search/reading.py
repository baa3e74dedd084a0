"""Trials as the store has them, read with two plain statements.

Optuna's own way takes seven, builds objects of its ORM and decodes the distribution of every
parameter twice. Workers read several times per trial, so that was most of what a trial cost.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    String,
    bindparam,
    literal_column,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy import cast as as_type

PARAM, USER, SYSTEM, VALUE, STEP = range(5)
"""What a row that belongs to a trial is."""

MOST_IDS = 500
"""In one statement; databases limit its parameters."""


def read_trials(
    connection: Connection,
    study_id: int,
    *,
    states: Collection[TrialState] | None,
    after: int,
    and_also: Collection[int],
) -> list[FrozenTrial]:
    """The trials of a study in the order of their ids.

    Args:
        connection: open.
        study_id: of the study.
        states: those wanted; None takes all.
        after: only trials with greater ids,
        and_also: and these.
    """
    also = [number for number in and_also if number <= after]
    if len(also) > MOST_IDS:
        bounds, wanted = {"after": -1, "also": []}, {*also}
    else:
        bounds, wanted = {"after": after, "also": also}, set()
    found = [
        row
        for row in connection.execute(TRIALS, bounds | {"study_id": study_id})
        if not wanted or row.trial_id > after or row.trial_id in wanted
        if states is None or row.state in states
    ]
    if not found:
        return []
    ids = [int(row.trial_id) for row in found]
    if len(ids) <= MOST_IDS:
        belongings = connection.execute(BELONGINGS, {"ids": ids})
    else:
        limits = {"study_id": study_id, "first": ids[0]}
        belongings = connection.execute(BELONGINGS_OF_MANY, limits)
    rows: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in belongings:
        rows[row.trial_id].append(row)
    return [_trial(row, rows[row.trial_id]) for row in found]


def _belongings(of_trials: "Callable[[Select[Any], Any], Select[Any]]") -> "CompoundSelect[Any]":
    """Parameters, attributes and values of the trials that `of_trials` limits a statement to."""

    def rows(kind: int, model: Any, place: Any, name: Any, number: Any, text: Any) -> Select[Any]:
        statement = select(
            model.trial_id.label("trial_id"),
            literal_column(str(kind)).label("kind"),
            place.label("place"),
            name.label("name"),
            number.label("number"),
            text.label("text"),
        )
        return of_trials(statement, model.trial_id)

    param, value = models.TrialParamModel, models.TrialValueModel
    user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    step = models.TrialIntermediateValueModel
    return union_all(
        rows(
            PARAM,
            param,
            param.param_id,
            param.param_name,
            param.param_value,
            param.distribution_json,
        ),
        rows(USER, user, null(), user.key, null(), user.value_json),
        rows(SYSTEM, system, null(), system.key, null(), system.value_json),
        rows(VALUE, value, value.objective, _name(value.value_type), value.value, null()),
        rows(
            STEP,
            step,
            step.step,
            _name(step.intermediate_value_type),
            step.intermediate_value,
            null(),
        ),
    )


def _of_few(statement: Select[Any], trial_id: Any) -> Select[Any]:
    return statement.where(trial_id.in_(bindparam("ids", expanding=True)))


def _of_many(statement: Select[Any], trial_id: Any) -> Select[Any]:
    owner = models.TrialModel
    joined = statement.join(owner, owner.trial_id == trial_id)
    return joined.where(
        owner.study_id == bindparam("study_id"), owner.trial_id >= bindparam("first")
    )


def _name(kind: Any) -> Any:
    """A column of names as text: in some databases it is of a type of its own."""
    return as_type(kind, String(20))


def _trial(trial: Row[Any, Any, Any, Any, Any], rows: Iterable[Row[Any]]) -> FrozenTrial:
    kinds: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        kinds[row.kind].append(row)
    params = [
        (row.name, _distribution(row.text), row.number)
        for row in sorted(kinds[PARAM], key=lambda row: cast(int, row.place))
    ]
    values = [_value(row) for row in sorted(kinds[VALUE], key=lambda row: cast(int, row.place))]
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        values=values or None,
        datetime_start=_local(trial.datetime_start),
        datetime_complete=_local(trial.datetime_complete),
        params={name: kind.to_external_repr(value) for name, kind, value in params},
        distributions={name: kind for name, kind, _ in params},
        user_attrs={row.name: json.loads(row.text) for row in kinds[USER]},
        system_attrs={row.name: json.loads(row.text) for row in kinds[SYSTEM]},
        intermediate_values={row.place: _step(row) for row in kinds[STEP]},
        trial_id=trial.trial_id,
    )


def _local(moment: datetime | None) -> datetime | None:
    """A moment as Optuna shows it; it is stored in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _value(row: Row[Any]) -> float:
    kind = models.TrialValueModel.TrialValueType[row.name]
    return models.TrialValueModel.stored_repr_to_value(row.number, kind)


def _step(row: Row[Any]) -> float:
    step = models.TrialIntermediateValueModel
    kind = step.TrialIntermediateValueType[row.name]
    return step.stored_repr_to_intermediate_value(row.number, kind)


@cache
def _distribution(text: str) -> BaseDistribution:
    """Few in a study, and never changed."""
    return json_to_distribution(text)


_TABLE = models.TrialModel.__table__.c

# Made once: a statement takes longer to build than to run.
TRIALS = (
    select(
        _TABLE.trial_id,
        _TABLE.number,
        _TABLE.state,
        _TABLE.datetime_start,
        _TABLE.datetime_complete,
    )
    .where(_TABLE.study_id == bindparam("study_id"))
    .where(
        or_(
            _TABLE.trial_id > bindparam("after"),
            _TABLE.trial_id.in_(bindparam("also", expanding=True)),
        )
    )
    .order_by(_TABLE.trial_id)
)
BELONGINGS = _belongings(_of_few)
BELONGINGS_OF_MANY = _belongings(_of_many)
