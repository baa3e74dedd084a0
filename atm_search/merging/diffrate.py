"""DiffRate (arXiv 2305.17997): counts per block, searched here instead of learned."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from atm_search.errors import ParameterError
from atm_search.merging.method import Layer, Method, Range, Reduced
from atm_search.merging.pruning import by_importance, cls_attention, keep
from atm_search.merging.tokens import Tokens

COUNTS = {"prune": "prune_kept", "merge": "merge_kept"}
"""Parameters are `prune_1` to `prune_L` and `merge_1` to `merge_L`: prefix and field."""


@dataclass(frozen=True, kw_only=True)
class DiffRate(Method):
    """In every block drop the least important tokens, then merge the least important of the rest.

    Importance is the class token's attention. A count above the tokens that are there changes
    nothing, so that any counts are a schedule. Its authors learn them by gradient, with the weights
    frozen; their published schedules run here as they are.

    Source: arXiv 2305.17997 and its official code: a group's features are their plain mean, and a
    merged token's size counts by its similarity.
    """

    name: ClassVar[str] = "diffrate"
    needs_class_token: ClassVar[bool] = True

    prune_kept: tuple[int, ...]
    """Tokens, prefix tokens included, that pruning leaves in every block, first to last; >= 1."""
    merge_kept: tuple[int, ...]
    """Tokens that merging leaves after it; >= 1."""

    def __post_init__(self) -> None:
        for field in COUNTS.values():
            counts = tuple(getattr(self, field))
            object.__setattr__(self, field, counts)  # a list, as files have it, has no hash
            if not counts or any(type(count) is not int or count < 1 for count in counts):
                raise ParameterError(
                    f"{field}={list(counts)} is no list of counts: give one, >= 1, per block."
                )

    @classmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """Every count of the 197 tokens of a ViT with 196 patches, for every block."""
        return tuple(
            Range(f"{prefix}_{number}", 1, 197, 1)
            for prefix in COUNTS
            for number in range(1, depth + 1)
        )

    def check(self, depth: int) -> None:
        """Raise ParameterError unless there are two counts per block."""
        if not len(self.prune_kept) == len(self.merge_kept) == depth:
            raise ParameterError(
                f"The schedule has {len(self.prune_kept)} and {len(self.merge_kept)} counts, the "
                f"model {depth} blocks."
            )

    def params(self) -> dict[str, Any]:
        """Every parameter by name, a count of one block each."""
        params = super().params()
        for prefix, field in COUNTS.items():
            counts = params.pop(field)
            params |= {f"{prefix}_{number}": count for number, count in enumerate(counts, 1)}
        return params

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "DiffRate":
        """The method with these parameters, as `params` gives them.

        Raises:
            ParameterError: a parameter is unknown or missing, or breaks its rule.
        """
        rest, schedule = dict(params), dict[str, Any]()
        for prefix, field in COUNTS.items():
            number, counts = 1, []
            while f"{prefix}_{number}" in rest:
                counts.append(rest.pop(f"{prefix}_{number}"))
                number += 1
            if not counts:
                raise ParameterError(
                    f"{cls.name} needs a value for {prefix}_1 to {prefix}_<depth>."
                )
            schedule[field] = tuple(counts)
        excess = sorted(set(rest) - set(cls.defaults()))
        if excess:
            raise ParameterError(
                f"{cls.name} has no parameter '{excess[0]}'. It has: prune_1 to prune_<depth>, "
                f"merge_1 to merge_<depth>, {', '.join(cls.defaults())}."
            )
        return cls(**rest, **schedule)

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """Drop and merge down to the block's counts, the prefix tokens always among them."""
        count, prefix = len(tokens), tokens.num_prefix_tokens
        kept = min(max(self.prune_kept[layer.number - 1], prefix), count)
        merged = min(max(self.merge_kept[layer.number - 1], prefix), kept)
        if merged == count:
            return Reduced(tokens)
        attention, multiply_adds = cls_attention(layer, tokens.size if self.prop_attn else None)
        order = by_importance(attention, prefix)
        if merged == prefix:  # nothing is left to merge into
            kept = merged
        tokens = keep(tokens, order[:, : kept - prefix])
        if merged < kept:
            multiply_adds += (kept - merged) * (merged - prefix) * tokens.x.shape[2]
            tokens = _merge_last(tokens, merged)
        return Reduced(tokens, multiply_adds)


def _merge_last(tokens: Tokens, kept: int) -> Tokens:
    """The first `kept` tokens, each later one averaged into its most similar one of them."""
    prefix = tokens.num_prefix_tokens
    unit = F.normalize(tokens.x.float(), dim=2, eps=1e-6)
    similarity, target = (unit[:, kept:] @ unit[:, prefix:kept].transpose(1, 2)).max(dim=2)
    target = target + prefix
    size = tokens.sizes()
    # A negative factor would shrink the token that others join.
    arriving = size[:, kept:] * similarity.clamp(0.0, 1.0)
    return replace(
        tokens,
        x=_plain_mean(tokens.x, target, kept),
        size=size[:, :kept].scatter_add(1, target, arriving),
        source=_follow(tokens.source, target, kept),
    )


def _plain_mean(x: Tensor, target: Tensor, kept: int) -> Tensor:
    """Mean of every group of one staying token and those that join it, whatever they hold."""
    members = torch.ones(x.shape[0], kept, device=x.device)
    members = members.scatter_add(1, target, torch.ones_like(target, dtype=members.dtype))
    index = target[:, :, None].expand(-1, -1, x.shape[2])
    total = x[:, :kept].float().scatter_add(1, index, x[:, kept:].float())
    return (total / members[:, :, None]).to(x.dtype)


def _follow(source: Tensor | None, target: Tensor, kept: int) -> Tensor | None:
    """The source map after the step: what a token held is now where it joined."""
    if source is None:
        return None
    here = torch.arange(kept, device=target.device).expand(len(target), -1)
    new_position = torch.cat([here, target], dim=1)
    return new_position.gather(1, source.clamp(min=0)).where(source >= 0, source)
