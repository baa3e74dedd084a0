"""Train the built-in model, `demo`, and write its weights: `python tools/train_demo.py`.

One CPU core does it in about half an hour, on images that are drawn as they are needed and never
repeat. So small a ViT learns shapes slowly from the class alone, hence four helps, none of which
the finished model carries: initial weights that resemble trained ones, every patch also says what
it shows (token labelling, as in LV-ViT), simple images come first, and for most of the time the
model sees only some of the patches, which costs less by as much.

A last, short stage lets ATM merge while training goes on. The published models need nothing of the
kind, and what the demo loses under merging therefore says nothing about them.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere in this field)
from safetensors.torch import save_file
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from atm_search.data.embedded import (
    CLASS_NAMES,
    GENERATOR_VERSION,
    VALIDATION_IMAGES,
    embedded_images,
)
from atm_search.merging.atm import Atm
from atm_search.models.reduction import run
from atm_search.models.zoo import DEMO_ARCHITECTURE, DEMO_PREPROCESSING

WEIGHTS = Path(__file__).parents[1] / "atm_search" / "models" / "demo.safetensors"
BATCH_SIZE = 32
MATRIX_LEARNING_RATE = 3e-3  # Muon, for the matrices of the blocks
LEARNING_RATE = 2e-3  # AdamW, for everything else
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
NUM_PATCHES = 196
BACKGROUND = len(CLASS_NAMES)
"""What a patch beside the shape says."""


class Stage(NamedTuple):
    """A stretch of the training."""

    num_images: int
    num_patches: int
    """How many of the patches the model sees."""
    preference: float
    """How much likelier these lie in or next to the shape; 0 is not at all."""
    simplest_of: int = 1
    """Images drawn for each one used: the simplest ones are."""
    first_image: int = 0
    """Number of the first image drawn, where the stage begins a training."""


class Example(NamedTuple):
    """A batch of training images."""

    pixels: Tensor
    """Normalised, [batch, 3, 112, 112]."""
    labels: Tensor
    """[batch]."""
    foreground: Tensor
    """Whether a patch lies in the shape, [batch, patches]."""


STAGES = (
    Stage(36_000, num_patches=48, preference=0.5, simplest_of=2),
    Stage(14_000, num_patches=48, preference=0.5),
    Stage(40_000, num_patches=64, preference=0.3),
    Stage(30_000, num_patches=98, preference=0.0),
    Stage(20_000, num_patches=NUM_PATCHES, preference=0.0),
)
MERGING = Stage(8_000, num_patches=NUM_PATCHES, preference=0.0, first_image=1_000_000)
"""A short last stage, see `merging_loss`."""
DENSE_IMAGES = 8
"""Images of every batch of that stage in which nothing merges."""


def main() -> None:
    """Train the demo model, measure it on the validation images and write its weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="default: in the package")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    model = VisionTransformer(**DEMO_ARCHITECTURE, weight_init="jax")
    initialise(model)
    patch_head = nn.Linear(model.embed_dim, BACKGROUND + 1)
    train([model, patch_head], STAGES, lambda *seen: learning_loss(model, patch_head, *seen))
    torch.manual_seed(args.seed + 1)
    train([model], (MERGING,), lambda example, _: merging_loss(model, example), peak=0.3)
    top1 = evaluate(model)
    metadata = {
        "top1": f"{top1:.2f}",
        "validation_images": str(VALIDATION_IMAGES),
        "training_images": str(sum(stage.num_images for stage in (*STAGES, MERGING))),
        "seed": str(args.seed),
        "generator_version": str(GENERATOR_VERSION),
    }
    save_file(model.state_dict(), args.output, metadata)
    print(f"{args.output}: top-1 {top1:.2f} % of {VALIDATION_IMAGES:,} validation images")


@torch.no_grad()
def initialise(model: VisionTransformer) -> None:
    """Gives positions and attention the form that training usually finds.

    Queries and keys start as similar, so that tokens attend to tokens like themselves; values and
    output as nearly the negative identity. Source: arXiv 2305.09828 (mimetic initialisation).
    """
    width = model.embed_dim
    side = math.isqrt(NUM_PATCHES)
    positions = build_sincos2d_pos_embed((side, side), dim=width, temperature=100.0)
    # The noise tells neighbours on a flat ground apart, whose keys would else be all but equal.
    positions = 0.5 * positions + 0.25 * torch.randn(positions.shape)
    model.pos_embed[:, model.num_prefix_tokens :] = positions
    for block in model.blocks:
        query, key, value = block.attn.qkv.weight.view(3, block.attn.num_heads, -1, width)
        for head in range(block.attn.num_heads):
            left, right = _factors(0.7, 0.7, width)
            query[head] = left[:, : block.attn.head_dim].T
            key[head] = right[: block.attn.head_dim]
        left, right = _factors(0.4, -0.4, width)
        value.copy_(right.view_as(value))
        block.attn.proj.weight.copy_(left)


def _factors(noise: float, identity: float, width: int) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is noise plus a multiple of the identity."""
    product = noise * torch.randn(width, width) / math.sqrt(width) + identity * torch.eye(width)
    left, scale, right = torch.linalg.svd(product)
    return left * scale.sqrt(), scale.sqrt()[:, None] * right


def train(
    modules: Sequence[nn.Module],
    stages: Sequence[Stage],
    loss_of: Callable[[Example, Stage], Tensor],
    *,
    peak: float = 1.0,
) -> None:
    """Trains in place; the learning rates rise to `peak` and then fall along half a cosine."""
    optimizers = _optimizers(modules)
    rates = [peak * optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    total = sum(stage.num_images for stage in stages)
    seen, drawn = 0, stages[0].first_image
    started = time.monotonic()
    for stage in stages:
        losses = []
        for _ in range(stage.num_images // BATCH_SIZE):
            loss = loss_of(draw(drawn, stage.simplest_of), stage)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(modules[0].parameters(), 1.0)
            warm_up = min(1.0, seen / (0.03 * total))
            factor = warm_up * (0.51 + 0.49 * math.cos(math.pi * seen / total))
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = factor * rate
                optimizer.step()
                optimizer.zero_grad()
            seen += BATCH_SIZE
            drawn += BATCH_SIZE * stage.simplest_of
            losses.append(loss.item())
            if len(losses) % 100 == 0:
                minutes = (time.monotonic() - started) / 60
                mean = sum(losses[-100:]) / 100
                progress = f"{seen:,} of {total:,} images, loss {mean:.3f}, {minutes:.1f} min"
                print(progress, flush=True)


def _optimizers(modules: Sequence[nn.Module]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, which then need fewer images; AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            is_matrix = name.startswith("blocks.") and parameter.ndim == 2
            (matrices if is_matrix else others).append(parameter)
    return [
        torch.optim.Muon(
            matrices,
            lr=MATRIX_LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.99)),
    ]


def draw(start: int, simplest_of: int) -> Example:
    """A batch of training images, from number `start` on."""
    drawn = embedded_images(BATCH_SIZE * simplest_of, split="train", start=start)
    used = np.argsort(drawn.complexity, kind="stable")[:BATCH_SIZE]
    return Example(
        pixels=DEMO_PREPROCESSING.normalise(torch.from_numpy(drawn.images[used])),
        labels=torch.from_numpy(drawn.labels[used]),
        foreground=torch.from_numpy(drawn.foreground[used]).flatten(1),
    )


def learning_loss(
    model: VisionTransformer, patch_head: nn.Module, example: Example, stage: Stage
) -> Tensor:
    """Loss of the class token plus that of the patches which the stage shows."""
    tokens = model._pos_embed(model.patch_embed(example.pixels))
    prefix, patches = tokens.tensor_split((model.num_prefix_tokens,), dim=1)
    shown = choose_patches(example.foreground, stage)
    patches = patches.gather(1, shown[:, :, None].expand(-1, -1, model.embed_dim))
    tokens = model.norm(model.blocks(torch.cat([prefix, patches], dim=1)))
    patch_logits = patch_head(tokens[:, model.num_prefix_tokens :])
    in_shape = example.foreground.gather(1, shown)
    patch_labels = torch.where(in_shape, example.labels[:, None], BACKGROUND)
    class_loss = F.cross_entropy(
        model.forward_head(tokens), example.labels, label_smoothing=LABEL_SMOOTHING
    )
    return class_loss + F.cross_entropy(patch_logits.flatten(0, 1), patch_labels.flatten())


def merging_loss(model: VisionTransformer, example: Example) -> Tensor:
    """Loss of the class token, in most images while ATM merges by some mild thresholds.

    Large pretrained models tolerate merging as they are. This one has no redundancy to spare:
    without this stage the mildest thresholds of the published space cost it six points.
    """
    tau0, alpha, tau_min = torch.rand(3).tolist()
    method = Atm(
        tau0=0.96 + 0.04 * tau0,
        alpha=0.015 + 0.02 * alpha,
        tau_min=0.88 + 0.065 * tau_min,
        split_depth=9,
    )
    dense, merged = example.pixels.tensor_split((DENSE_IMAGES,))
    logits = torch.cat([model(dense), run(model, method, merged).logits])
    return F.cross_entropy(logits, example.labels, label_smoothing=LABEL_SMOOTHING)


def choose_patches(foreground: Tensor, stage: Stage) -> Tensor:
    """Random patches of every image, those in or next to the shape preferred, [batch, shown]."""
    side = math.isqrt(foreground.shape[1])
    near = F.max_pool2d(foreground.float().view(-1, 1, side, side), 3, stride=1, padding=1)
    chance = torch.rand(foreground.shape) + stage.preference * near.flatten(1)
    return chance.topk(stage.num_patches).indices


@torch.inference_mode()
def evaluate(model: VisionTransformer) -> float:
    """Top-1 in percent of all validation images."""
    model.eval()
    validation = embedded_images(VALIDATION_IMAGES)
    hits = 0
    for start in range(0, VALIDATION_IMAGES, 100):
        part = slice(start, start + 100)
        logits = model(DEMO_PREPROCESSING.normalise(torch.from_numpy(validation.images[part])))
        hits += int((logits.argmax(dim=1) == torch.from_numpy(validation.labels[part])).sum())
    return 100.0 * hits / VALIDATION_IMAGES


if __name__ == "__main__":
    main()
