"""Optuna's SQL store, made to outlive a restart of its database and to do everything once."""

import copy
import functools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar, cast

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

from atm_search.search.owner import OWNER, signature
from atm_search.search.reading import read_trials
from atm_search.search.writing import Parameter, begin_trial, end_trial, write_params

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a lost database is waited for."""

HURRY_S = 5.0
"""The same for a worker that was asked to stop."""

FRESH_S = 0.01
"""A study read again so soon, and not written to between, has nothing new to say."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Between attempts; every pause is twice the one before, give or take a half."""


class SteadyStorage(RDBStorage):
    """Optuna's store; what meets a lost connection is done again once the database is back.

    A connection may be lost after a commit and before its answer. Reads and attributes may simply
    be repeated. A trial that is made, or taken from the queue, carries its owner's signature, by
    which a second attempt knows the first one's work; a trial that is told is recognised by its
    state and values. Changes of state hold a lock from reading to writing on SQLite too, where
    Optuna's own do not: of two processes that want a trial, one gets it.
    """

    hurried: Callable[[], bool] = staticmethod(lambda: False)
    """Whether to wait for HURRY_S at most: whoever runs has been asked to stop."""

    patience_s = PATIENCE_S
    back_at = float("-inf")
    """When a lost database was last found again, in monotonic seconds."""

    _known: tuple[int, int, frozenset[int]] | None = None
    """Study, last ended trial and open trials of whoever has read all that there is."""

    _known_until = 0.0
    """How long reading on would be in vain, in monotonic seconds."""

    _created: FrozenTrial | None = None
    """The trial made last, until it is read."""

    _params: list[Parameter] | None = None
    """Parameters that wait to be written together."""

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """The id of a new study; a second attempt takes the first one's for its own."""
        create = super().create_new_study

        def attempt(again: bool) -> int:
            try:
                return create(directions, study_name)
            except DuplicatedStudyError:
                if not again or study_name is None:
                    raise
                return int(self.get_study_id_from_name(study_name))

        return self._steadily(attempt)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """The id of a new trial, RUNNING unless the template says otherwise."""
        return self._create_new_trial(study_id, template_trial)._trial_id

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        # Optuna's own attempts would leave a second trial behind a lost answer.
        mine = signature()
        trial = copy.deepcopy(template_trial or create_trial(state=TrialState.RUNNING))

        def begin(again: bool) -> tuple[int, int]:
            with self._transaction() as connection:
                return begin_trial(connection, study_id, mine, again=again)

        def prepare(again: bool) -> tuple[int, int]:
            with self._written() as session:
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                made = _made_by(mine, study_id, session) if again else None
                if made is None:
                    made = self._get_prepared_new_trial(study_id, trial, session)
                    session.add(_owned(int(made.trial_id), mine))
                return int(made.trial_id), int(made.number)

        made = self._steadily(begin if template_trial is None else prepare)
        trial._trial_id, trial.number = made
        trial.system_attrs[OWNER] = mine
        self._created = copy.deepcopy(trial)
        return trial

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial as the store has it; one that was created just now is not read again."""
        created, self._created = self._created, None
        if created is not None and created._trial_id == trial_id:
            return created
        read = super().get_trial
        return self._steadily(lambda again: read(trial_id), reads=True)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        known = (study_id, trial_id_greater_than, frozenset(included_trial_ids))
        if known == self._known and time.monotonic() < self._known_until:
            return []

        def read(again: bool) -> list[FrozenTrial]:
            with self._reader.connect() as connection:
                return read_trials(
                    connection,
                    study_id,
                    states=None if states is None else [s for s in TrialState if s in states],
                    after=trial_id_greater_than,
                    and_also=included_trial_ids,
                )

        found = self._steadily(read, reads=True)
        # What Optuna's cache will say that it knows when it asks again.
        ended = {trial._trial_id for trial in found if trial.state.is_finished()}
        open_ids = included_trial_ids | {trial._trial_id for trial in found}
        last = max(ended | {trial_id_greater_than})
        self._known = study_id, last, frozenset(open_ids - ended)
        self._known_until = time.monotonic() + FRESH_S
        return found

    @contextmanager
    def params_together(self) -> Iterator[None]:
        """A block in which a trial is suggested; its parameters are written at its end, together.

        Whether they fit those of other trials is not asked: the study fixes its space.
        """
        self._params = []
        try:
            yield
            params = self._params
        finally:
            self._params = None

        def write(again: bool) -> None:
            try:
                with self._transaction() as connection:
                    write_params(connection, params)
            except IntegrityError:  # of a second attempt, which meets the rows of the first
                if not again:
                    raise

        if params:
            self._steadily(write)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        param = trial_id, param_name, param_value_internal, distribution
        if self._params is not None:
            self._params.append(param)
        else:
            write = super()._set_trial_param
            self._steadily(lambda again: write(*param, previous_distribution))

    def end_trial(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        *,
        user_attrs: Mapping[str, Any],
        constraints: Mapping[str, float],
    ) -> bool:
        """End a running trial with all that is known of it, in one transaction.

        Returns:
            False if others have ended it meanwhile.
        """

        for value in values or ():
            if not math.isfinite(value):
                raise ValueError(f"{value} is no value to compare trials by.")

        def end(again: bool) -> bool:
            with self._transaction() as connection:
                return end_trial(
                    connection,
                    trial_id,
                    state,
                    values or (),
                    user_attrs=user_attrs,
                    constraints=constraints,
                    again=again,
                )

        return self._steadily(end)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Start a waiting trial or end a running one; False if it is no more waiting."""
        mine = signature()

        def change(again: bool) -> bool:
            with self._written() as session:
                trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
                if again and trial.state == state and _is_ours(trial, mine, values):
                    return True
                self.check_trial_is_updatable(trial_id, cast(TrialState, trial.state))
                if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
                    return False
                for objective, value in enumerate(values or ()):
                    self._set_trial_value_without_commit(session, trial, objective, value)
                if state == TrialState.RUNNING:
                    self._set_trial_attr_without_commit(
                        session, models.TrialSystemAttributeModel, trial_id, OWNER, mine
                    )
                    session.add(models.TrialHeartbeatModel(trial_id=trial_id))
                _move(trial, state)
                return True

        return self._steadily(change)

    def fail_lost(
        self, trial: FrozenTrial, study_id: int, record: Any, key: str, twin: FrozenTrial | None
    ) -> bool:
        """Fail a running trial whose worker is gone and queue its twin, both or neither.

        Args:
            trial: as it was read.
            study_id: of its study.
            record: kept with the trial, under `key`.
            twin: a waiting trial, or None.

        Returns:
            False if the trial is running no more.
        """

        def fail(again: bool) -> bool:
            with self._written() as session:
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                dead = models.TrialModel.find_or_raise_by_id(
                    trial._trial_id, session, for_update=True
                )
                if dead.state != TrialState.RUNNING:
                    return False
                self._set_trial_attr_without_commit(
                    session, models.TrialUserAttributeModel, trial._trial_id, key, record
                )
                _move(dead, TrialState.FAIL)
                if twin is not None:
                    self._get_prepared_new_trial(study_id, twin, session)
                return True

        return self._steadily(fail)

    def annotate(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial, finished or not, which Optuna's own does not.

        Whoever has read the finished trial before keeps it as it was.
        """
        attribute = models.TrialUserAttributeModel

        def write(again: bool) -> None:
            with self._written() as session:
                # The trial's row is the lock: of two processes one waits, and then finds the other.
                models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
                wanted = (attribute.trial_id == trial_id, attribute.key == key)
                found = session.query(attribute).filter(*wanted).one_or_none()
                if found is None:
                    found = attribute(trial_id=trial_id, key=key)
                    session.add(found)
                found.value_json = json.dumps(value)

        self._steadily(write)

    def beat_once(self, trial_id: int) -> None:
        """Record a sign of life, or raise at once: the next beat comes anyway."""
        super().record_heartbeat(trial_id)

    @cached_property
    def _reader(self) -> Engine:
        """The engine with every statement standing alone, which saves two messages per reading.

        A trial's row is read first, so whoever sees it finished sees all that belongs to it.
        """
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _written(self) -> Iterator[Session]:
        """A transaction that will write: on SQLite it takes the lock before it reads."""
        with _create_scoped_session(self.scoped_session) as session:
            if self.engine.name == "sqlite":
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """The same for plain statements."""
        with self.engine.begin() as connection:
            if self.engine.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _steadily(self, attempt: Callable[[bool], T], *, reads: bool = False) -> T:
        """What an operation returns, tried until it meets a database.

        Args:
            attempt: the operation; told whether it may have been done before.
            reads: whether it changes nothing.
        """
        pause, lost_at, again = FIRST_PAUSE_S, 0.0, False
        if not reads:
            self._known = None
        while True:
            try:
                found = attempt(again)
            except (SQLAlchemyError, StorageInternalError) as error:
                lost_at = lost_at or time.monotonic()
                waited = time.monotonic() - lost_at
                limit = min(self.patience_s, HURRY_S) if self.hurried() else self.patience_s
                if waited >= limit or not is_passing(error):
                    raise
            else:
                if again:
                    self.back_at = time.monotonic()
                if pause > 8 * FIRST_PAUSE_S:
                    print("The store is back.", file=sys.stderr)
                return found
            again = True
            if pause == 4 * FIRST_PAUSE_S:  # not for a deadlock, or a lock held a moment too long
                print("The store does not answer; waiting for it.", file=sys.stderr)
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE_S)


REPEATABLE = (
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "_get_stale_trial_ids",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "record_heartbeat",
)
"""Operations of Optuna's store that come to the same if they are done twice."""


def _repeated(operation: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(operation)
    def steady(self: SteadyStorage, *args: Any, **kwargs: Any) -> T:
        reads = "get_" in operation.__name__
        return self._steadily(lambda again: operation(self, *args, **kwargs), reads=reads)

    return steady


for _name in REPEATABLE:
    setattr(SteadyStorage, _name, _repeated(getattr(RDBStorage, _name)))


def is_passing(error: BaseException) -> bool:
    """Whether a database may answer later what it did not answer now."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, DBAPIError):
            if "sqlite3" in type(chain.orig).__module__:
                return "locked" in str(chain.orig) or "busy" in str(chain.orig)
            if chain.connection_invalidated:
                return True
            if isinstance(chain, OperationalError | InterfaceError):
                return True
        # Optuna tries some reads again in the same transaction, which hides the first error.
        chain = chain.__cause__ or chain.__context__
    return False


def _made_by(owner: dict[str, Any], study_id: int, session: Session) -> models.TrialModel | None:
    """The trial of a study that carries this signature."""
    attribute = models.TrialSystemAttributeModel
    return (
        session.query(models.TrialModel)
        .join(attribute, attribute.trial_id == models.TrialModel.trial_id)
        .filter(models.TrialModel.study_id == study_id)
        .filter(attribute.key == OWNER, attribute.value_json == json.dumps(owner))
        .first()
    )


def _owned(trial_id: int, owner: dict[str, Any]) -> models.TrialSystemAttributeModel:
    return models.TrialSystemAttributeModel(
        trial_id=trial_id, key=OWNER, value_json=json.dumps(owner)
    )


def _is_ours(
    trial: models.TrialModel, mine: dict[str, Any], values: Sequence[float] | None
) -> bool:
    """Whether a trial looks as if the attempt whose answer was lost had succeeded."""
    if trial.state == TrialState.RUNNING:
        return any(
            item.key == OWNER and json.loads(item.value_json) == mine
            for item in trial.system_attributes
        )
    return _holds(trial, values)


def _holds(trial: models.TrialModel, values: Sequence[float] | None) -> bool:
    stored = [item.value for item in sorted(trial.values, key=lambda item: item.objective)]
    return stored == list(values or ())


def _move(trial: models.TrialModel, state: TrialState) -> None:
    trial.state = state
    if state == TrialState.RUNNING:
        trial.datetime_start = datetime.now()
    elif state.is_finished():
        trial.datetime_complete = datetime.now()
