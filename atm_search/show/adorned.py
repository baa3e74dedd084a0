"""The stock dashboard with what it lacks: a note, our figures and token pictures.

They reach it by its own extension points, as if somebody had called `save_note` and
`save_plotly_graph_object` and uploaded artifacts, but nothing is written. Whoever only looks
changes no store, and no worker has to read hundreds of rows of figures with its study; what is
shown is made when somebody looks, as new as our own page, and nothing is left to clean up.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO

import bottle  # type: ignore[import-untyped]
import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from optuna_dashboard import save_note, save_plotly_graph_object

from atm_search.errors import AtmSearchError, InputError
from atm_search.search.frontier import hypervolume_history
from atm_search.search.steady import SteadyStorage
from atm_search.show.note import caveats, note
from atm_search.show.page import figures
from atm_search.show.view import View

OBJECTIVES = {
    "top1": "top-1 (%)",
    "kl": "KL from dense (nats)",
    "feature": "feature distance from dense",
    "gflops": "GFLOPs",
    "latency_ms": "latency (ms)",
}
"""Objectives as people read them, with their units."""

NOTE, VERSION = "dashboard:note_", "dashboard:note_ver"
"""System attributes of a study: those that hold its note, and its version among them."""

ARTIFACT = "dashboard:artifacts:{trial}:{artifact}"
"""The same with what the stock dashboard knows of a file of a finished trial."""

Attributes = Mapping[str, Any]


def adornments(seen: View) -> dict[str, Any]:
    """What the stock dashboard finds of a study in its system attributes: ours alone."""
    study = seen.study
    scratch = optuna.create_study(storage=InMemoryStorage(), directions=study.optuna.directions)
    names = [name for name, _ in study.objectives.directions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        scratch.set_metric_names([OBJECTIVES.get(name, name) for name in names])
    save_note(scratch, _markdown(seen))
    # A page that is open takes up a note when its version grows.
    scratch._storage.set_study_system_attr(scratch._study_id, VERSION, 1 + _ended(seen))
    history = hypervolume_history(seen.records, study.dense, study.objectives)
    for name, figure in figures(seen, history=history).items():
        # It fills the card that it is shown in.
        figure.update_layout(width=None, height=None, autosize=True)
        save_plotly_graph_object(scratch, figure, graph_object_id=name)
    found = dict(scratch._storage.get_study_system_attrs(scratch._study_id))
    ids = {trial.number: trial._trial_id for trial in seen.trials}
    for point in seen.points:
        artifact = f"{study.optuna._study_id}-{point.number}"
        key = ARTIFACT.format(trial=ids[point.number], artifact=artifact)
        found[key] = json.dumps(
            {
                "artifact_id": artifact,
                "filename": f"tokens-of-trial-{point.number}.png",
                "mimetype": "image/png",
                "encoding": None,
            }
        )
    return found


def _ended(seen: View) -> int:
    return sum(trial.state.is_finished() for trial in seen.trials)


def _markdown(seen: View) -> str:
    place = f"/frontier?study={seen.study.name}"
    first, *others = note(seen)
    points = "\n".join(f"- {line}" for line in others)
    return f"{first}\n\n{points}\n\n{' '.join(caveats(seen))}\n\n[The frontier's page]({place})\n"


class AdornedStorage(_CachedStorage):
    """A store as the stock dashboard sees it: Optuna's own wrapper, without its memory."""

    def __init__(self, store: SteadyStorage, adorned: Callable[[int], Attributes]) -> None:
        """Wrap a store.

        Args:
            store: from `open_store`.
            adorned: from the id of a study to what is added to its system attributes.
        """
        super().__init__(store)
        self._adorned = adorned

    def get_all_studies(self) -> list[FrozenStudy]:
        """Every study, with what is added to it."""
        studies = super().get_all_studies()
        for study in studies:
            study.system_attrs = self._with(study._study_id, study.system_attrs)
        return studies

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """System attributes of a study, with what is added to them."""
        return self._with(study_id, super().get_study_system_attrs(study_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Any = None
    ) -> list[FrozenTrial]:
        """Every trial, as the store has it now."""
        return self._backend.get_all_trials(study_id, deepcopy, states)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial, as the store has it now."""
        return self._backend.get_trial(trial_id)

    def _with(self, study_id: int, own: dict[str, Any]) -> dict[str, Any]:
        added = self._adorned(study_id)
        if any(key.startswith(NOTE) for key in own):  # somebody wrote one, which counts more
            added = {key: value for key, value in added.items() if not key.startswith(NOTE)}
        return own | dict(added)


class TokenPictures:
    """Artifacts that are drawn when somebody looks at them; kept nowhere else."""

    def __init__(self, draw: Callable[[int, int], bytes]) -> None:
        """Offer pictures.

        Args:
            draw: from the id of a study and the number of a trial to its picture, a PNG.
        """
        self._draw = draw

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The picture of a study's trial."""
        study_id, _, number = artifact_id.partition("-")
        if not (study_id.isdecimal() and number.isdecimal()):
            raise ArtifactNotFound(f"No token picture {artifact_id}.")
        try:
            return BytesIO(self._draw(int(study_id), int(number)))
        except AtmSearchError as error:
            raise bottle.HTTPResponse(f"{error}\n", 404, {"Content-Type": "text/plain"}) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refuse to keep a file."""
        raise InputError("This dashboard keeps no files.")

    def remove(self, artifact_id: str) -> None:
        """Nothing is kept, so nothing is removed: a study that is deleted has no files."""
