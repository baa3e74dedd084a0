"""From a YAML file to a ready model."""

from pathlib import Path

from atm_search.deploy.configuration import Configuration
from atm_search.errors import CheckpointError
from atm_search.models.reduced import ReducedViT
from atm_search.models.zoo import LoadedModel, load_model


def load(
    path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
) -> ReducedViT:
    """The model that a configuration file describes, in evaluation mode.

    Args:
        path: a YAML file that `atm-search export` wrote.
        checkpoint: the weights; else the file that the configuration names, if it is there, else
            as `load_model` finds them.
        device: as torch names it, or `auto`: a GPU if there is one.
        dtype: float32, bfloat16 or float16; else the one that was measured.

    Returns:
        A module: normalised images [batch, 3, height, width] to logits [batch, classes].

    Raises:
        ConfigurationError: the file is not usable.
        CheckpointError: there are no weights, or others than those that were measured.
    """
    configuration = Configuration.read(Path(path))
    model = load_configured_model(
        configuration,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device,
        dtype=dtype,
    )
    return ReducedViT(model.network, configuration.build_method())


def load_configured_model(
    configuration: Configuration,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
) -> LoadedModel:
    """The dense model of a configuration, with the weights that were measured.

    Raises:
        CheckpointError: there are no weights, or others than those that were measured.
    """
    hint = Path(configuration.model.weights_source)
    if checkpoint is None and hint.is_file():
        checkpoint = hint
    model = load_model(
        configuration.model.name,
        checkpoint=checkpoint,
        crop_pct=configuration.model.preprocessing.crop_pct,
        device=device,
        dtype=dtype or configuration.protocol.dtype,
    )
    measured = configuration.model.weights_sha256
    if model.weights_digest != measured:
        raise CheckpointError(
            f"The weights from {model.weights_source} ({model.weights_digest[:8]}) are not those "
            f"that were measured ({measured[:8]}). Pass the right ones as checkpoint."
        )
    return model
