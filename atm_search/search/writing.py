"""A trial's beginning, parameters and end, each written with a few plain statements.

Optuna's own way looks every row up before it writes it, and builds objects of its ORM for them.
All of these run in a transaction of the caller's, who commits it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import TrialState
from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from atm_search.search.owner import OWNER

STUDIES = cast(Table, models.StudyModel.__table__)
TRIALS = cast(Table, models.TrialModel.__table__)
PARAMS = cast(Table, models.TrialParamModel.__table__)
VALUES = cast(Table, models.TrialValueModel.__table__)
USER = cast(Table, models.TrialUserAttributeModel.__table__)
SYSTEM = cast(Table, models.TrialSystemAttributeModel.__table__)
BEATS = cast(Table, models.TrialHeartbeatModel.__table__)

# Made once: a statement takes longer to build than to run.
INSERT = {table: insert(table) for table in (TRIALS, PARAMS, VALUES, USER, SYSTEM, BEATS)}
LOCKED_STUDY = (
    select(STUDIES.c.study_id).where(STUDIES.c.study_id == bindparam("of_study")).with_for_update()
)
NUM_TRIALS = (
    select(func.count()).select_from(TRIALS).where(TRIALS.c.study_id == bindparam("of_study"))
)
END = update(TRIALS).where(
    TRIALS.c.trial_id == bindparam("of_trial"), TRIALS.c.state == TrialState.RUNNING
)

FINITE = models.TrialValueModel.TrialValueType.FINITE

Parameter = tuple[int, str, float, BaseDistribution]
"""Trial, name, internal value, distribution."""


def begin_trial(
    connection: Connection, study_id: int, owner: Mapping[str, Any], *, again: bool
) -> tuple[int, int]:
    """Id and number of a new running trial, with its first sign of life.

    Args:
        connection: in a transaction.
        study_id: of the study.
        owner: the signature of whoever runs the trial, used for no other one.
        again: whether an attempt before this one may have made the trial.

    Raises:
        KeyError: there is no such study.
    """
    of_study = {"of_study": study_id}
    if connection.scalar(LOCKED_STUDY, of_study) is None:
        raise KeyError(models.NOT_FOUND_MSG)
    signed = {"key": OWNER, "value_json": json.dumps(owner)}
    if again:
        made = (
            select(TRIALS.c.trial_id, TRIALS.c.number)
            .join(SYSTEM, SYSTEM.c.trial_id == TRIALS.c.trial_id)
            .where(TRIALS.c.study_id == study_id, SYSTEM.c.key == OWNER)
            .where(SYSTEM.c.value_json == signed["value_json"])
        )
        if (row := connection.execute(made).first()) is not None:
            return int(row.trial_id), int(row.number)
    # The study's row is locked, so nobody else numbers a trial of it now.
    number = int(connection.scalar(NUM_TRIALS, of_study) or 0)
    trial = {"study_id": study_id, "number": number, "state": TrialState.RUNNING}
    inserted = connection.execute(INSERT[TRIALS], trial | {"datetime_start": _now()})
    trial_id = int(cast(Sequence[int], inserted.inserted_primary_key)[0])
    connection.execute(INSERT[SYSTEM], signed | {"trial_id": trial_id})
    connection.execute(INSERT[BEATS], {"trial_id": trial_id})
    return trial_id, number


def write_params(connection: Connection, params: Iterable[Parameter]) -> None:
    """Insert the parameters of running trials."""
    rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": value,
            "distribution_json": distribution_to_json(distribution),
        }
        for trial_id, name, value, distribution in params
    ]
    connection.execute(INSERT[PARAMS], rows)


def end_trial(
    connection: Connection,
    trial_id: int,
    state: TrialState,
    values: Sequence[float],
    *,
    user_attrs: Mapping[str, Any],
    constraints: Mapping[str, float],
    again: bool,
) -> bool:
    """End a running trial with all that is known of it.

    Args:
        connection: in a transaction.
        trial_id: of the trial.
        state: in which it ends.
        values: of its objectives, finite.
        user_attrs: none of which it has yet.
        constraints: by name, as Optuna keeps them.
        again: whether an attempt before this one may have ended the trial.

    Returns:
        False if others have ended it meanwhile.

    Raises:
        KeyError: there is no such trial.
    """
    end = {"of_trial": trial_id, "state": state, "datetime_complete": _now()}
    if connection.execute(END, end).rowcount == 0:
        return _has_ended(connection, trial_id, state, values) and again
    system_attrs = {f"{_CONSTRAINTS_KEY}:{key}": value for key, value in constraints.items()}
    for table, attrs in ((USER, user_attrs), (SYSTEM, system_attrs)):
        if attrs:
            connection.execute(
                INSERT[table],
                [
                    {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                    for key, value in attrs.items()
                ],
            )
    if values:
        connection.execute(
            INSERT[VALUES],
            [
                {"trial_id": trial_id, "objective": place, "value": value, "value_type": FINITE}
                for place, value in enumerate(values)
            ],
        )
    return True


def _has_ended(
    connection: Connection, trial_id: int, state: TrialState, values: Sequence[float]
) -> bool:
    """Whether a trial ended like this."""
    found = connection.scalar(select(TRIALS.c.state).where(TRIALS.c.trial_id == trial_id))
    if found is None:
        raise KeyError(models.NOT_FOUND_MSG)
    stored = select(VALUES.c.value).where(VALUES.c.trial_id == trial_id)
    ordered = connection.scalars(stored.order_by(VALUES.c.objective))
    return bool(found == state) and list(ordered) == list(values)


def _now() -> datetime:
    """As Optuna stores it: UTC, and naive."""
    return datetime.now(UTC).replace(tzinfo=None)
