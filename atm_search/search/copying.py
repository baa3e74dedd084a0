"""A study from one store into another, row by row and all at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.storages._rdb import models
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import IntegrityError

from atm_search.errors import StudyError
from atm_search.search.steady import SteadyStorage
from atm_search.search.study import Study, names

CHUNK = 200
"""Trials whose rows are in memory at once: outcomes take some 30 KB each."""

OF_STUDY = (
    models.StudyDirectionModel,
    models.StudyUserAttributeModel,
    models.StudySystemAttributeModel,
)
OF_TRIAL = (
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialParamModel,
    models.TrialValueModel,
    models.TrialIntermediateValueModel,
)
"""What belongs to a trial. Signs of life do not go: nobody runs the trial in the other store."""

OnTrials = Callable[[int, int], None]
"""Told of progress: trials copied, trials in all."""


def copy_study(source: Study, target: SteadyStorage, *, on_trials: OnTrials | None = None) -> int:
    """Copy a study with all that its store has of it, under the same name.

    Rows go as they are, so trials, numbers, states, times, values and attributes are the same in
    both. Source and target are a transaction each: the copy is of one moment, also while workers
    run, and nothing of it is there until all of it is.

    Args:
        source: the study.
        target: from `open_store`; of any kind.
        on_trials: told of progress.

    Returns:
        The number of trials.

    Raises:
        StudyError: the target has a study of that name.
        SQLAlchemyError: a store stopped working; the target is as it was.
    """
    if source.name in names(target):
        raise _exists(source.name)
    with _snapshot(source.storage) as reading, _transaction(target) as writing:
        try:
            study_id = _copy_study_row(reading, writing, source.name)
        except IntegrityError:  # somebody else made it a moment ago
            raise _exists(source.name) from None
        old_study_id = source.optuna._study_id
        for model in OF_STUDY:
            _copy(reading, writing, model.__table__, "study_id", {old_study_id: study_id})
        return _copy_trials(reading, writing, old_study_id, study_id, on_trials)


def _copy_study_row(reading: Connection, writing: Connection, name: str) -> int:
    """The id that the study has in the target."""
    studies = models.StudyModel.__table__
    row = reading.execute(select(studies).where(studies.c.study_name == name)).one()._asdict()
    row.pop("study_id")
    key = writing.execute(insert(studies).values(row)).inserted_primary_key
    assert key is not None  # of one row the database always says it
    return int(key[0])


def _copy_trials(
    reading: Connection,
    writing: Connection,
    old_study_id: int,
    study_id: int,
    on_trials: OnTrials | None,
) -> int:
    trials = models.TrialModel.__table__
    of_study = select(trials.c.trial_id).where(trials.c.study_id == old_study_id)
    # In the order of their ids, which readers take for that of the numbers.
    old_ids = list(reading.execute(of_study.order_by(trials.c.trial_id)).scalars())
    for start in range(0, len(old_ids), CHUNK):
        chunk = old_ids[start : start + CHUNK]
        rows = reading.execute(
            select(trials).where(trials.c.trial_id.in_(chunk)).order_by(trials.c.trial_id)
        )
        ids = _insert_trials(writing, [row._asdict() for row in rows], study_id)
        for model in OF_TRIAL:
            _copy(reading, writing, model.__table__, "trial_id", ids)
        if on_trials is not None:
            on_trials(start + len(chunk), len(old_ids))
    return len(old_ids)


def _insert_trials(
    writing: Connection, rows: Sequence[dict[str, Any]], study_id: int
) -> dict[int, int]:
    """The new id of every trial by its old one."""
    trials = models.TrialModel.__table__
    old_ids = {row["number"]: row.pop("trial_id") for row in rows}
    writing.execute(insert(trials), [row | {"study_id": study_id} for row in rows])
    made = writing.execute(
        select(trials.c.number, trials.c.trial_id)
        .where(trials.c.study_id == study_id)
        .where(trials.c.number.in_(list(old_ids)))
    )
    return {old_ids[number]: trial_id for number, trial_id in made}


def _copy(
    reading: Connection, writing: Connection, table: Table, owner: str, ids: Mapping[int, int]
) -> None:
    """Copy the rows of some owners; the key of a row is the database's own."""
    (key,) = table.primary_key.columns
    found = reading.execute(select(table).where(table.c[owner].in_(list(ids))).order_by(key))
    rows = [row._asdict() for row in found]
    for row in rows:
        del row[key.name]
        row[owner] = ids[row[owner]]
    if rows:
        writing.execute(insert(table), rows)


@contextmanager
def _snapshot(storage: SteadyStorage) -> Iterator[Connection]:
    """A connection to which the store stands still."""
    engine = storage.engine
    if engine.name != "sqlite":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        if engine.name == "sqlite":  # whose driver would begin with the first change only
            connection.exec_driver_sql("BEGIN")
        yield connection


@contextmanager
def _transaction(storage: SteadyStorage) -> Iterator[Connection]:
    """A connection whose changes come to be at the end of the block, together or not at all."""
    with storage.engine.connect() as connection:
        if storage.engine.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


def _exists(name: str) -> StudyError:
    return StudyError(
        f"The target has a study '{name}' already, and nothing was copied: name another store, or "
        "remove that study first (atm-search rm)."
    )
