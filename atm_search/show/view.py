"""Everything of a study that people look at, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial

from atm_search.errors import StudyError
from atm_search.measure.measurement import Measurement
from atm_search.search.fidelity import Prediction, Relation, relation
from atm_search.search.frontier import FrontierPoint, frontier, measured_points
from atm_search.search.identity import Identity
from atm_search.search.scores import Score
from atm_search.search.study import Study, load, names
from atm_search.search.study_file import PublishedSection
from atm_search.search.trials import TrialRecord
from atm_search.show.picks import picks
from atm_search.show.published import published


@dataclass(frozen=True)
class View:
    """A study as it was at one moment, with what it is compared with."""

    study: Study
    trials: Sequence[FrozenTrial]
    records: Sequence[TrialRecord]
    """Of the same trials."""
    rivals: Mapping[str, Sequence[FrontierPoint]]
    """Frontiers by name: of each method, where the study searches several, and of other studies of
    the same weights and images."""

    @cached_property
    def points(self) -> list[FrontierPoint]:
        """The frontier, from the fewest GFLOPs to the most."""
        return frontier(self.records, self.study.dense, self.study.objectives)

    @cached_property
    def picks(self) -> dict[str, FrontierPoint]:
        """The configurations that most people want, by name."""
        return picks(self.points, self.study.objectives)

    @property
    def score(self) -> Score:
        """What the frontier trades for GFLOPs."""
        return self.study.objectives.score

    @property
    def published(self) -> PublishedSection | None:
        """What others have published of the same model: accuracies, beside which none else go."""
        return published(self.study.identity.model) if self.score.is_accuracy else None

    @property
    def relation(self) -> Relation | None:
        """Of KL and top-1 over what is measured in full."""
        points = measured_points(self.records, self.study.dense)
        return relation(point.measurement for point in points)

    def predicted(self, measurement: Measurement) -> Prediction | None:
        """What the relation foretells for a measurement on some of the images."""
        found = self.relation
        return None if found is None else found.predict(measurement, self.study.dense.images)

    @property
    def raced(self) -> list[TrialRecord]:
        """Trials that were stopped early: measured on fewer images than the study has."""
        images = self.study.dense.images
        return [
            record
            for record in self.records
            if record.measured and record.measurement and record.measurement.images < images
        ]


def view(study: Study, others: Sequence[Study] = ()) -> View:
    """A study as it is now.

    Args:
        study: the study to look at.
        others: studies of the same store; those that can be compared become rivals.
    """
    trials = study.optuna.get_trials(deepcopy=False)
    records = [TrialRecord.of(trial) for trial in trials]
    return View(
        study=study,
        trials=trials,
        records=records,
        rivals=_by_method(study, records)
        | {
            other.name: points
            for other in others
            if other.name != study.name
            and _comparable(study, other)
            and (points := frontier(other.records(), other.dense, other.objectives))
        },
    )


def _by_method(study: Study, records: Sequence[TrialRecord]) -> dict[str, list[FrontierPoint]]:
    """The frontier of each of several methods, as far as they have one."""
    if not study.identity.is_conditional:
        return {}
    found = {}
    for method in study.identity.methods:
        own = [record for record in records if record.method == method]
        if points := frontier(own, study.dense, study.objectives):
            found[method] = points
    return found


def open_view(study: Study) -> View:
    """A study as it is now, with the rivals that its store holds."""
    others = []
    for name in names(study.storage):
        if name != study.name:
            try:
                others.append(load(study.storage, name))
            except StudyError:  # another program's
                continue
    return view(study, others)


def _comparable(study: Study, other: Study) -> bool:
    """Whether figures of both are of the same weights, images and protocol."""
    ours, theirs = study.identity, other.identity
    alike = (ours.weights_digest, ours.shard_digest) == (theirs.weights_digest, theirs.shard_digest)
    return alike and _accuracy_protocol(ours) == _accuracy_protocol(theirs)


def _accuracy_protocol(identity: Identity) -> dict[str, Any]:
    """How accuracies are measured: latencies are not drawn side by side."""
    return {name: value for name, value in identity.protocol.items() if name != "latency"}
