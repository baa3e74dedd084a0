"""How much merging in one block alone moves what the head reads (arXiv 2505.15160, Figure 2)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from torch import Tensor

from atm_search.merging.atm import Atm
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.tokens import Tokens
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel


@dataclass(frozen=True, kw_only=True)
class InOneBlock(Method):
    """Another method, at work in one block only."""

    inner: Method
    block: int
    """1 for the first."""

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Nothing is searched."""
        return ()

    def check(self, depth: int) -> None:
        """Raise ParameterError if the inner method does not suit the depth."""
        self.inner.check(depth)

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """What the inner method does, if the block is the chosen one."""
        if layer.number != self.block:
            return Reduced(tokens)
        return self.inner.reduce(tokens, layer)


def class_token_distance(
    model: LoadedModel, pixels: Tensor, thresholds: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Mean cosine distance of the class token that the head reads from the dense model's.

    In every run one block merges, with one threshold; all others leave the tokens alone. The last
    block is left out: what it merges, a class-token head does not see.

    Args:
        model: any with a class token.
        pixels: one batch, uint8 [images, 3, height, width].
        thresholds: cosine similarities, each in (0, 1].

    Returns:
        [thresholds, depth - 1], from 0, the same direction, to 2.
    """
    images = model.prepare(pixels)
    with torch.inference_mode(), _read_by_head(model) as read:
        model.network(images)
        dense = read.pop()
        rows = []
        for threshold in thresholds:
            for block in range(1, model.depth):
                run(model.network, _merging(model, threshold, block), images)
                rows.append(1.0 - F.cosine_similarity(read.pop(), dense).double().mean().item())
    return np.array(rows).reshape(len(thresholds), model.depth - 1)


def sensitivity_figure(
    distances: npt.NDArray[np.float64], thresholds: Sequence[float]
) -> go.Figure:
    """A line per threshold over the block that merges; from `class_token_distance`."""
    figure = go.Figure()
    for threshold, line in zip(thresholds, distances, strict=True):
        blocks = list(range(1, len(line) + 1))
        figure.add_scatter(x=blocks, y=line.tolist(), name=f"threshold {threshold:g}")
    return figure.update_layout(
        title="What merging in one block alone does to the class token",
        xaxis_title="block that merges",
        yaxis_title="cosine distance from the dense model's",
        template="plotly_white",
        width=720,
        height=420,
    )


def _merging(model: LoadedModel, threshold: float, block: int) -> InOneBlock:
    """Alternate matching at one threshold, in one block."""
    inner = Atm(tau0=threshold, alpha=0.0, tau_min=threshold, split_depth=model.depth)
    return InOneBlock(inner=inner, block=block, prop_attn=model.prop_attn)


@contextmanager
def _read_by_head(model: LoadedModel) -> Iterator[list[Tensor]]:
    """Collects the class token, float32 [images, dim], of every forward pass of the block."""
    read: list[Tensor] = []

    def keep(module: Any, given: Any, output: Tensor) -> None:
        read.append(output[:, 0].float())

    handle = model.network.norm.register_forward_hook(keep)
    try:
        yield read
    finally:
        handle.remove()
