"""Adaptive Token Sampling (arXiv 2111.15667), used without training."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from atm_search.errors import ParameterError
from atm_search.merging.method import Attended, Layer, Method, Range
from atm_search.merging.pruning import keep
from atm_search.merging.tokens import Tokens

FEWEST = 8
"""Samples at least; a block with no more tokens is left alone."""


@dataclass(frozen=True, kw_only=True)
class Ats(Method):
    """Let only a sample of the tokens gather in attention, and go on, after a quarter of the depth.

    Samples stand at even distances in the distribution of scores, the attention of the class token
    times the length of the value; a token that is sampled twice stays once. How many stay differs
    from image to image: an image costs what its own tokens cost, and a batch is padded to its
    largest.

    Source: arXiv 2111.15667 and its official code, where the samples are as many as the tokens at
    first.
    """

    name: ClassVar[str] = "ats"
    needs_class_token: ClassVar[bool] = True

    samples: int
    """Samples drawn in every block, the class token among them; >= 8. As many as the model has
    tokens, 197, is the published setting."""

    def __post_init__(self) -> None:
        if self.samples < FEWEST:
            raise ParameterError(f"samples={self.samples} is too few: use {FEWEST} or more.")

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Up to twice the 197 tokens of a ViT with 196 patches: fewer duplicates, more tokens."""
        return (Range("samples", FEWEST, 400, 1),)

    def check(self, depth: int) -> None:
        """Any number of samples suits any depth."""

    def needs_probabilities(self, number: int, depth: int) -> bool:
        """After the first quarter of the blocks."""
        return number > depth // 4

    def attend(self, tokens: Tokens, layer: Layer) -> Attended:
        """What the sampled tokens gather from all."""
        prefix = tokens.num_prefix_tokens
        if len(tokens) <= max(FEWEST, prefix + 1):
            return super().attend(tokens, layer)
        probabilities, values = layer.spelt_out()
        v = values(tokens.x)
        length = v.float().square().sum(dim=(1, 3)).sqrt()
        score = (probabilities[:, :, 0].sum(dim=1) * length)[:, prefix:]
        chosen = _sample(score, tokens.sizes()[:, prefix:] > 0, self.samples - 1)
        staying = _keep_chosen(tokens, chosen)
        rows = torch.arange(prefix, device=chosen.device).expand(len(chosen), -1)
        rows = torch.cat([rows, _positions(chosen)[:, : len(staying) - prefix] + prefix], dim=1)
        index = rows[:, None, :, None].expand(-1, probabilities.shape[1], -1, len(tokens))
        gathered = probabilities.gather(2, index).to(v.dtype) @ v
        cost = len(tokens) * (tokens.x.shape[2] + self.samples - 1)
        return Attended(staying, gathered, tokens, cost)


def _sample(score: Tensor, real: Tensor, points: int) -> Tensor:
    """Which tokens are sampled, bool [batch, tokens].

    Args:
        score: >= 0, float32 [batch, tokens].
        real: which rows are tokens, not padding, bool [batch, tokens].
        points: samples to draw.
    """
    # Padding stands first, so that it has no part in the distribution of its image.
    value, order = score.masked_fill(~real, -1.0).sort(dim=1, stable=True)
    cdf = value.clamp(min=0.0).cumsum(dim=1)
    cdf = cdf / cdf[:, -1:].clamp(min=1e-20)
    first = (~real).sum(dim=1, keepdim=True)
    low = cdf.gather(1, first.clamp(max=real.shape[1] - 1))
    cdf = (cdf - low) / (1.0 - low).clamp(min=1e-20)
    start = cdf.masked_fill(cdf <= 0.0, 1.0).amin(dim=1, keepdim=True)
    at = start + (1.0 - start) * torch.linspace(0.0, 1.0, points, device=score.device)
    cdf = cdf.masked_fill(value < 0.0, torch.inf)
    nearest = (at[:, :, None] - cdf[:, None]).abs().argmin(dim=2)
    chosen = torch.zeros_like(real).scatter_(1, order.gather(1, nearest), True)
    return chosen & real


def _positions(chosen: Tensor) -> Tensor:
    """All positions, the chosen ones first, each part ascending, int64 [batch, tokens]."""
    return (~chosen).int().argsort(dim=1, stable=True)


def _keep_chosen(tokens: Tokens, chosen: Tensor) -> Tokens:
    """The prefix tokens and the chosen ones, padded to the image that keeps most."""
    prefix = tokens.num_prefix_tokens
    counts = chosen.sum(dim=1) + prefix
    most = int(counts.max())
    kept = keep(tokens, _positions(chosen)[:, : most - prefix] + prefix)
    source = kept.source
    if source is not None:
        source = source.where(source < counts[:, None], -1)
    differ = bool((counts < most).any())
    return replace(kept, source=source, count=counts if differ else None)
