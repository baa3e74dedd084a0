"""Load a ViT by name, with its weights from wherever they are and its own preprocessing."""

import copy
import difflib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from atm_search.errors import CheckpointError, ModelError, ParameterError
from atm_search.models.preprocessing import Preprocessing
from atm_search.models.recipes import RECIPES, Recipe
from atm_search.models.reduction import require_vit
from atm_search.models.weights import build_from_file, weights_digest

CHECKPOINT_DIRECTORY = "ATM_SEARCH_CHECKPOINTS"
"""Environment variable: a directory that holds `<timm name>.safetensors`."""

ALIASES = {
    "deit_t": "deit_tiny_patch16_224.fb_in1k",
    "deit_s": "deit_small_patch16_224.fb_in1k",
    "deit_b": "deit_base_patch16_224.fb_in1k",
}

DEMO = "demo"
"""The built-in model, trained on the images of `atm_search.data.embedded`."""

DEMO_ARCHITECTURE: dict[str, Any] = {
    "img_size": 112,
    "patch_size": 8,
    "embed_dim": 64,
    "depth": 12,
    "num_heads": 2,
    "num_classes": 10,
}
"""196 patches and 12 blocks: the search space is that of DeiT."""

DEMO_PREPROCESSING = Preprocessing(
    input_size=(3, 112, 112),
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    crop_pct=1.0,
    crop_mode="center",
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A ViT ready to measure, and what identifies it. It is never changed after loading."""

    name: str
    """timm's name with its tag, a recipe's name, or `demo`."""
    network: VisionTransformer
    weights_digest: str
    """sha256 of the weights as loaded, before any change of dtype."""
    weights_source: str
    """Where the weights came from: a path, or in words."""
    preprocessing: Preprocessing
    prop_attn: bool
    """Whether proportional attention suits it: not if fine-tuned from MAE."""

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.network.blocks)

    @property
    def num_classes(self) -> int:
        """Number of classes of its head; 0 without one."""
        return int(self.network.num_classes)

    @property
    def has_head(self) -> bool:
        """Whether it gives class logits; else it gives its pooled feature."""
        return self.num_classes > 0

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._weight.dtype

    @property
    def dtype_name(self) -> str:
        """The same by name, such as float32."""
        return str(self.dtype).removeprefix("torch.")

    def in_dtype(self, name: str) -> "LoadedModel":
        """The same model in another dtype, sharing no weights with this one.

        Raises:
            ParameterError: there is no such dtype.
        """
        return replace(self, network=copy.deepcopy(self.network).to(_dtype(name)))

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = next(self.network.parameters())
        return weight

    def prepare(self, pixels: Tensor) -> Tensor:
        """The network's input for uint8 images [batch, 3, height, width], on its device."""
        return self.preprocessing.normalise(pixels.to(self.device)).to(self.dtype)


def load_model(
    name: str,
    *,
    checkpoint: Path | None = None,
    crop_pct: float | None = None,
    device: str = "auto",
    dtype: str = "float32",
    headless: bool = False,
) -> LoadedModel:
    """A ViT with its weights, in evaluation mode.

    Weights come from `checkpoint`, else from the directory that ATM_SEARCH_CHECKPOINTS names,
    else from timm's hub; those of `demo` are part of the package.

    Args:
        name: an alias (`deit_t`, `deit_s`, `deit_b`, `demo`), a recipe (`lvvit_s`, `t2t_vit_14`,
            `mae_b`, `dinov2_s`, ...) or any timm ViT.
        checkpoint: a .safetensors file, or a .pth file of plain tensors, bare or under "model",
            "state_dict_ema" or "state_dict". Its head decides the number of classes; without one
            the model has none and gives its pooled feature.
        crop_pct: overrides the model's own data configuration, 0 to 1.
        device: as torch names it, or `auto`: a GPU if there is one.
        dtype: float32, bfloat16 or float16.
        headless: leave a classifier head out (timm's `num_classes=0`).

    Raises:
        ModelError: no such model, one that no method can run in, or one with no feature of its own.
        CheckpointError: weights missing, unreadable, or not this model's.
        ParameterError: crop_pct, device or dtype is not usable.
    """
    torch_device, torch_dtype = _device(device), _dtype(dtype)
    if name == DEMO:
        network, source = _load_demo(checkpoint, headless)
        preprocessing = DEMO_PREPROCESSING
    elif name in RECIPES:
        network, source = _load_recipe(name, RECIPES[name], checkpoint, headless)
        preprocessing = RECIPES[name].preprocessing
    else:
        network, source = _load_timm(ALIASES.get(name, name), checkpoint, headless)
        name = _full_name(network)
        preprocessing = Preprocessing.from_config(resolve_model_data_config(network))
    if crop_pct is not None:
        if not 0.0 < crop_pct <= 1.0:
            raise ParameterError(f"crop_pct={crop_pct} is out of range: use 0 < crop_pct <= 1.")
        preprocessing = replace(preprocessing, crop_pct=crop_pct)
    digest = weights_digest(network)
    return LoadedModel(
        name=name,
        network=network.eval().requires_grad_(False).to(torch_device, torch_dtype),
        weights_digest=digest,
        weights_source=source,
        preprocessing=preprocessing,
        prop_attn="mae" not in name,
    )


def architecture(name: str) -> VisionTransformer:
    """A model without weights, by the name that it was loaded under: its shapes, at no cost.

    Raises:
        ModelError: there is no such model here.
    """
    if name not in (DEMO, *RECIPES) and not timm.is_model(name):
        raise ModelError(f"No model '{name}'. {_nearest(name)}")
    with torch.device("meta"):
        if name == DEMO:
            return VisionTransformer(**DEMO_ARCHITECTURE)
        if name in RECIPES:
            return RECIPES[name].build()
        return require_vit(timm.create_model(name, pretrained=False))


def _load_demo(checkpoint: Path | None, headless: bool) -> tuple[VisionTransformer, str]:
    build = partial(VisionTransformer, **DEMO_ARCHITECTURE)
    file = checkpoint or Path(__file__).with_name("demo.safetensors")
    network = build_from_file(build, file, headless=headless)
    return network, "built in" if checkpoint is None else str(checkpoint.resolve())


def _load_recipe(
    name: str, recipe: Recipe, checkpoint: Path | None, headless: bool
) -> tuple[VisionTransformer, str]:
    """A model of a recipe with its weights, and where they came from."""
    directory = os.environ.get(CHECKPOINT_DIRECTORY)
    wanted = [f"{name}.safetensors", recipe.file]
    if checkpoint is None and directory:
        found = (Path(directory) / file for file in wanted)
        checkpoint = next((file for file in found if file.is_file()), None)
    if checkpoint is None:
        local = (
            f"{CHECKPOINT_DIRECTORY}={directory} holds no {' or '.join(wanted)}"
            if directory
            else f"{CHECKPOINT_DIRECTORY} is not set"
        )
        raise CheckpointError(
            f"No weights for '{name}': timm's hub has none and {local}. Pass --checkpoint FILE. "
            f"Official: {recipe.file}, from the GitHub repository {recipe.repository}."
        )
    network = build_from_file(recipe.build, checkpoint, headless=headless, rename=recipe.rename)
    return network, str(checkpoint.resolve())


def _load_timm(name: str, checkpoint: Path | None, headless: bool) -> tuple[VisionTransformer, str]:
    """A timm model with its weights, and where they came from."""
    if not timm.is_model(name):
        raise ModelError(f"No model '{name}'. {_nearest(name)}")
    try:
        # Without weights first: a model that is refused should not be downloaded for it.
        network = require_vit(timm.create_model(name, pretrained=False))
    except RuntimeError as error:  # timm's words for a tag that the architecture does not have
        raise ModelError(f"No model '{name}': {error}") from error
    directory = os.environ.get(CHECKPOINT_DIRECTORY)
    if checkpoint is None and directory:
        found = Path(directory) / f"{_full_name(network)}.safetensors"
        checkpoint = found if found.exists() else None
    if checkpoint is not None:
        network = build_from_file(partial(timm.create_model, name), checkpoint, headless=headless)
        return network, str(checkpoint.resolve())
    classes = {"num_classes": 0} if headless else {}
    try:
        return timm.create_model(name, pretrained=True, **classes), "timm hub"
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = str(error).strip().split("\n")[0]
        local = (
            f"{CHECKPOINT_DIRECTORY}={directory} holds no {_full_name(network)}.safetensors"
            if directory
            else f"{CHECKPOINT_DIRECTORY} is not set"
        )
        raise CheckpointError(
            f"No weights for '{name}': timm's hub gave none ({reason}) and {local}. "
            "Pass --checkpoint FILE."
        ) from error


def _full_name(network: VisionTransformer) -> str:
    """timm's name of a network with the tag of its weights."""
    config = network.pretrained_cfg
    return ".".join(part for part in (config["architecture"], config.get("tag")) if part)


def _nearest(name: str) -> str:
    """A hint at the models whose names come nearest."""
    known = [
        *ALIASES,
        *RECIPES,
        DEMO,
        *timm.list_models(module="vision_transformer"),
        *timm.list_models("deit*"),
    ]
    matches = difflib.get_close_matches(name.split(".")[0], known, n=3)
    if matches:
        return f"Nearest: {', '.join(matches)}."
    return f"Use {', '.join([*ALIASES, DEMO, *RECIPES])} or a timm VisionTransformer."


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ParameterError(f"Device '{name}' is not usable here: {reason}") from error
    return device


def _dtype(name: str) -> torch.dtype:
    try:
        return DTYPES[name]
    except KeyError:
        raise ParameterError(f"dtype '{name}' is not known: use {', '.join(DTYPES)}.") from None
