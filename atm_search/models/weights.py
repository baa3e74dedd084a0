"""Weights from a file into a network, and the digest that identifies them."""

import argparse
import hashlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from atm_search.errors import CheckpointError
from atm_search.models.reduction import require_vit

WRAPPERS = ("model", "state_dict_ema", "state_dict")
"""Names under which training scripts save the weights beside other things; DeiT: `model`. An
average over the training is preferred, since published accuracies are its (T2T-ViT)."""


HEADS = ("head.", "head_dist.")
"""What the names of a classifier head's weights begin with."""


def build_from_file(
    build: Callable[..., nn.Module],
    checkpoint: Path,
    *,
    headless: bool = False,
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
) -> VisionTransformer:
    """A network with the weights of a file.

    Args:
        build: makes the network; takes `num_classes`, which the file's head decides.
        checkpoint: .safetensors, else what `torch.save` wrote of plain tensors. Without a head in
            it the network has none either, and gives its pooled feature.
        headless: leave the head out if there is one.
        rename: from the names in the file to those that timm understands.

    Raises:
        CheckpointError: the file is missing, unreadable, or does not fit the network key by key.
        ModelError: there is no head, and the network has no feature without.
    """
    state = rename(read_checkpoint(checkpoint))
    if headless:
        state = {name: value for name, value in state.items() if not name.startswith(HEADS)}
    head = state.get("head.weight")
    network = require_vit(build(num_classes=0 if head is None else len(head)))
    given = state.get("pos_embed")
    if given is not None and given.shape != network.pos_embed.shape:
        # timm would resample positions without a word.
        raise CheckpointError(
            f"{checkpoint}: made for {given.shape[1]} positions of width {given.shape[2]}, but the "
            f"model has {network.pos_embed.shape[1]} of width {network.pos_embed.shape[2]}. Choose "
            "the model that these weights belong to."
        )
    state = checkpoint_filter_fn(state, network, adapt_layer_scale=True)  # DeiT-3 files say gamma_1
    expected = network.state_dict()
    missing = sorted(set(expected) - set(state))
    unexpected = sorted(set(state) - set(expected))
    reshaped = [
        f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(set(state) & set(expected))
        if state[name].shape != expected[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{checkpoint} does not fit the model. Keys: {'; '.join(problems)}. "
            "Choose the model that these weights belong to."
        )
    network.load_state_dict(state)
    return network


def read_checkpoint(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without wrappers and without a `module.` prefix.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds more than plain tensors.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"No checkpoint file at {checkpoint}.")
    content: Any
    try:
        if checkpoint.suffix == ".safetensors":
            content = load_file(checkpoint)
        else:
            # Training scripts save their arguments beside the weights: plain values, no code.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{checkpoint} is no checkpoint, or holds more than tensors, which could run code of "
            "its author: it was not loaded. Save its state_dict() alone, best as .safetensors."
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{checkpoint} cannot be read: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{checkpoint} holds no weights by name (a state_dict).")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def weights_digest(network: nn.Module) -> str:
    """sha256 of all weights (names, dtypes, shapes, values), whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
