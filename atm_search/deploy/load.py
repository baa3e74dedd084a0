"""From a YAML file to a ready model."""

from dataclasses import replace
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
    force: bool = False,
    trainable: bool = False,
) -> ReducedViT:
    """The model that a configuration file describes, in evaluation mode.

    Threads may share it, with any batch sizes: it keeps no state between calls.

    Args:
        path: a YAML file that `atm-search export` wrote.
        checkpoint: the weights; else the file that the configuration names, if it is there, else
            as `load_model` finds them.
        device: as torch names it, or `auto`: a GPU if there is one.
        dtype: float32, bfloat16 or float16; else the one that was measured.
        force: take other weights than those that were measured, fine-tuned ones for instance, and
            parameters that were edited since; the file's figures then say nothing of the model.
        trainable: let it run in training mode too, with gradients for its weights.

    Returns:
        A module: normalised images [batch, 3, height, width] to logits [batch, classes], or to
        the pooled feature [batch, dim] if it was measured without a classifier head.

    Raises:
        ConfigurationError: the file is not usable, or was edited after it was measured.
        CheckpointError: there are no weights, or others than those that were measured.
    """
    configuration = Configuration.read(Path(path), refuse_edits=not force)
    model = load_configured_model(
        configuration,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device,
        dtype=dtype,
        force=force,
    )
    reduced = ReducedViT(model.network, configuration.build_method(), trainable=trainable)
    return reduced.requires_grad_(trainable)


def load_configured_model(
    configuration: Configuration,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
    force: bool = False,
) -> LoadedModel:
    """The dense model of a configuration, with the weights and preprocessing that were measured.

    Raises:
        CheckpointError: there are no weights, or others than those that were measured, unless
            `force` takes them all the same.
    """
    hint = Path(configuration.model.weights_source)
    if checkpoint is None and hint.is_file():
        checkpoint = hint
    model = load_model(
        configuration.model.name,
        checkpoint=checkpoint,
        device=device,
        dtype=dtype or configuration.protocol.dtype,
        headless=bool(configuration.model.headless),
    )
    measured = configuration.model.weights_sha256
    if model.weights_digest != measured and not force:
        raise CheckpointError(
            f"The weights from {model.weights_source} ({model.weights_digest[:8]}) are not those "
            f"that were measured ({measured[:8]}). Pass the right ones as checkpoint; force takes "
            "these, for which the file's figures say nothing."
        )
    return replace(model, preprocessing=configuration.model.preprocessing)
