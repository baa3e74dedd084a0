"""The model and the first images of a study, as far as this machine has them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atm_search.data.shard import Shard
from atm_search.errors import CheckpointError
from atm_search.measure.setup import DATA_DIRECTORY, open_shard
from atm_search.models.zoo import LoadedModel, load_model
from atm_search.search.study import Study
from atm_search.show.pictures import CANDIDATES


@dataclass(frozen=True)
class Subject:
    """What pictures are made from."""

    model: LoadedModel
    shard: Shard
    """The first images of the study's; enough to choose examples from."""


def open_subject(
    study: Study,
    *,
    checkpoint: Path | None = None,
    data: Path | None = None,
    device: str = "cpu",
) -> Subject:
    """The model and images of a study, from where its first start had them unless told otherwise.

    Only the first images are read, so that a large folder does not have to be.

    Raises:
        InputError: weights or images are not here, or the weights are others.
    """
    identity, hints = study.identity, study.plan.hints
    if checkpoint is None:
        checkpoint = _there(hints.get("weights"), Path.is_file)
    if data is None and not os.environ.get(DATA_DIRECTORY):
        data = _there(hints.get("data"), Path.is_dir)
    preprocessing = identity.protocol.get("preprocessing", {})
    model = load_model(
        identity.model,
        checkpoint=checkpoint,
        crop_pct=preprocessing.get("crop_pct"),
        device=device,
        headless=identity.objectives.headless,
    )
    if model.weights_digest != identity.weights_digest:
        raise CheckpointError(
            f"The weights from {model.weights_source} ({model.weights_digest[:8]}) are not those "
            f"of study '{study.name}' ({identity.weights_digest[:8]})."
        )
    images = min(CANDIDATES, identity.images)
    shard = open_shard(model, data=data, images=images, skip_corrupt=True, need_labels=False)
    return Subject(model, shard)


def _there(hint: str | None, exists: Callable[[Path], bool]) -> Path | None:
    """Where something was on the machine that began the study, if this one has it too."""
    if hint is None or not Path(hint).is_absolute():
        return None
    return Path(hint) if exists(Path(hint)) else None
