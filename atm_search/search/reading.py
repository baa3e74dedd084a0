"""Trials as the store has them, read with two plain statements.

Optuna's own way takes seven, builds objects of its ORM and decodes the distribution of every
parameter twice. Workers read several times per trial, so that was most of what a trial cost.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, cast

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Row,
    Select,
    String,
    literal_column,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy import cast as as_type
from sqlalchemy.orm import Session

PARAM, USER, SYSTEM, VALUE, STEP = range(5)
"""What a row that belongs to a trial is."""

MOST_IDS = 500
"""In one statement; databases limit its parameters."""


def read_trials(
    session: Session,
    study_id: int,
    *,
    states: Collection[TrialState] | None,
    after: int,
    and_also: Collection[int],
) -> list[FrozenTrial]:
    """The trials of a study in the order of their ids.

    Args:
        session: open.
        study_id: of the study.
        states: those wanted; None takes all.
        after: only trials with greater ids,
        and_also: and these.
    """
    trial = models.TrialModel
    also = [number for number in and_also if number <= after]
    wanted: list[ColumnElement[bool]] = [trial.study_id == study_id]
    if also and len(also) <= MOST_IDS:
        wanted.append(or_(trial.trial_id > after, trial.trial_id.in_(also)))
    elif not also:
        wanted.append(trial.trial_id > after)
    if states is not None:
        wanted.append(trial.state.in_(list(states)))
    found = session.query(trial).filter(*wanted).order_by(trial.trial_id).all()
    if len(also) > MOST_IDS:
        kept = set(also)
        found = [row for row in found if row.trial_id > after or row.trial_id in kept]
    if not found:
        return []
    rows: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in session.connection().execute(_belongings(study_id, found)):
        rows[row.trial_id].append(row)
    return [_trial(model, rows[int(model.trial_id)]) for model in found]


def _belongings(
    study_id: int, trials: Sequence[models.TrialModel]
) -> "CompoundSelect[tuple[Any, ...]]":
    """Parameters, attributes and values of some trials; of all the study's if they are many."""
    ids = [int(trial.trial_id) for trial in trials]

    def of_trials(statement: Select[Any], trial_id: Any) -> Select[Any]:
        if len(ids) <= MOST_IDS:
            return statement.where(trial_id.in_(ids))
        owner = models.TrialModel
        joined = statement.join(owner, owner.trial_id == trial_id)
        return joined.where(owner.study_id == study_id, owner.trial_id >= ids[0])

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


def _name(kind: Any) -> Any:
    """A column of names as text: in some databases it is of a type of its own."""
    return as_type(kind, String(20))


def _trial(model: models.TrialModel, rows: Iterable[Row[Any]]) -> FrozenTrial:
    kinds: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        kinds[row.kind].append(row)
    params = [
        (row.name, _distribution(row.text), row.number)
        for row in sorted(kinds[PARAM], key=lambda row: cast(int, row.place))
    ]
    values = [_value(row) for row in sorted(kinds[VALUE], key=lambda row: cast(int, row.place))]
    return FrozenTrial(
        number=cast(int, model.number),
        state=cast(TrialState, model.state),
        value=None,
        values=values or None,
        datetime_start=model.datetime_start,
        datetime_complete=model.datetime_complete,
        params={name: kind.to_external_repr(value) for name, kind, value in params},
        distributions={name: kind for name, kind, _ in params},
        user_attrs={row.name: json.loads(row.text) for row in kinds[USER]},
        system_attrs={row.name: json.loads(row.text) for row in kinds[SYSTEM]},
        intermediate_values={row.place: _step(row) for row in kinds[STEP]},
        trial_id=int(model.trial_id),
    )


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
