"""Token pictures of a study's trials, drawn when they are asked for and kept."""

import threading
from io import BytesIO

import torch

from atm_search.errors import InputError, StudyError
from atm_search.merging.registry import build
from atm_search.search.study import Study
from atm_search.search.trials import TrialRecord
from atm_search.show.pictures import simple_to_complex, token_picture
from atm_search.show.subject import Subject, open_subject

EXAMPLES = 4
"""Images of a picture, from simple to complex."""

KEPT = 64
"""Pictures kept; the oldest goes first."""


class Gallery:
    """Draws one picture at a time, on one core, so that workers of this machine go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subjects: dict[str, tuple[Subject, list[int]]] = {}
        self._drawn: dict[tuple[str, int], bytes] = {}

    def png(self, study: Study, record: TrialRecord) -> bytes:
        """What a measured trial merges, as a PNG.

        Raises:
            InputError: the trial was not measured, or weights or images are not here.
        """
        key = f"{study.identity.weights_digest}{study.identity.shard_digest}"
        with self._lock:
            known = self._drawn.get((key + study.name, record.number))
            if known is not None:
                return known
            torch.set_num_threads(1)
            if key not in self._subjects:
                subject = _opened(study)
                chosen = simple_to_complex(subject.model, subject.shard, EXAMPLES)
                self._subjects[key] = subject, chosen
            subject, chosen = self._subjects[key]
            png = trial_png(subject, record, chosen)
            self._drawn[key + study.name, record.number] = png
            if len(self._drawn) > KEPT:
                del self._drawn[next(iter(self._drawn))]
            return png


def trial_png(subject: Subject, record: TrialRecord, examples: list[int]) -> bytes:
    """What a measured trial merges, as a PNG.

    Raises:
        StudyError: the trial was not measured.
    """
    if record.measurement is None or record.method is None:
        raise StudyError(f"Trial {record.number} has no measurement: there is nothing to draw.")
    picture = token_picture(
        subject.model,
        subject.shard,
        build(record.method, record.params),
        gflops=record.measurement.gflops,
        examples=examples,
    )
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _opened(study: Study) -> Subject:
    try:
        return open_subject(study)
    except InputError as error:
        raise StudyError(
            f"Token pictures need the weights and the images of study '{study.name}' on the "
            f"dashboard's machine: {error} ATM_SEARCH_CHECKPOINTS and ATM_SEARCH_DATA say where "
            "they are."
        ) from error
