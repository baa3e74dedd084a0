"""What a study fixes, so that its trials can be compared and repeated."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atm_search.merging.method import Method, Range
from atm_search.merging.registry import build
from atm_search.search.constraints import UNLIMITED, Constraints
from atm_search.search.objectives import TOP1, Objectives
from atm_search.search.space import METHOD, Key, Space

SEPARATOR = ","
"""Between the names of several methods."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Model, images, protocol, method, space and constraints of one study.

    Two trials belong together only if all of it is equal. Where things lie (checkpoint, data
    folder) is no part of it: the digests say whether they are the same.
    """

    model: str
    """Its timm name."""
    weights_digest: str
    """sha256 of the weights, in hex."""
    shard_digest: str
    """sha256 of the images and labels, in hex."""
    images: int
    protocol: Mapping[str, Any]
    """How measurements are taken: batch_size, dtype, preprocessing; plain values, nested or not.
    Where latency is an objective, also its batch_size and device: another's does not compare."""
    method: str
    """Its registered name; of several, all of them with commas between."""
    fixed_params: Mapping[str, Any]
    """Parameters that the search leaves alone, such as prop_attn, by the names of the space."""
    space: Space
    constraints: Constraints = UNLIMITED
    """Part of it: samplers need the same constraints on every trial."""
    objectives: Objectives = TOP1
    depth: int | None = None
    """Blocks of the model; None if unknown: then no two configurations count as one."""
    prefix_only_head: bool = False
    """Whether the model's head reads prefix tokens alone."""

    def __post_init__(self) -> None:
        # As JSON gives it back (lists for tuples), so that a stored identity equals a fresh one.
        for name in ("protocol", "fixed_params"):
            object.__setattr__(self, name, json.loads(json.dumps(dict(getattr(self, name)))))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are searched, one or several."""
        return self.space.methods or (self.method,)

    @property
    def is_conditional(self) -> bool:
        """Whether which parameters a point has depends on its method."""
        return bool(self.space.methods)

    def described(self, point: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """A point of the space as trials record it: its method, and all parameters of that.

        The method is None where there are several and the point, which may be any, names none.
        """
        method = point.get(METHOD) if self.space.methods else self.method
        return method, self.space.own(method, {**self.fixed_params, **point})

    def key(self, method: str | None, params: Mapping[str, Any]) -> Key:
        """The key in the space of a configuration that a trial recorded; undoes `described`.

        Raises:
            ParameterError: it is not of the space.
        """
        return self.space.key({METHOD: method, **self.space.named(method, params)})

    def configured(self, point: Mapping[str, Any]) -> Method:
        """The method at one point of the space.

        Raises:
            ParameterError: the parameters do not go together.
        """
        method, params = self.described(point)
        return build(str(method), params)

    def effective_key(self, point: Mapping[str, Any]) -> tuple[Any, ...]:
        """Equal for two points of the space only if they do exactly the same in the model.

        Raises:
            ParameterError: the parameters do not go together.
        """
        key = self.space.key(point)
        if self.depth is None:
            return key
        method = self.configured(self.space.point(key))
        own = method.effective_key(self.depth, prefix_only_head=self.prefix_only_head)
        return (method.name, *own)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` gives an equal identity back."""
        return {
            "model": self.model,
            "weights_digest": self.weights_digest,
            "shard_digest": self.shard_digest,
            "images": self.images,
            "protocol": dict(self.protocol),
            "method": self.method,
            "fixed_params": dict(self.fixed_params),
            "space": self.space.to_list(),
            "constraints": self.constraints.to_dict(),
            "objectives": [list(objective) for objective in self.objectives.directions],
            "frontier": self.objectives.reported,
            "depth": self.depth,
            "prefix_only_head": self.prefix_only_head,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Identity":
        """The identity that `to_dict` wrote."""
        values = dict(values)
        searched, *costs = [name for name, _ in values["objectives"]]
        objectives = Objectives(
            searched, values.pop("frontier", searched), latency="latency_ms" in costs
        )
        methods = values["method"].split(SEPARATOR)
        space = Space.from_list(values["space"], methods if len(methods) > 1 else ())
        constraints = Constraints(**values.get("constraints", {}))
        own = {"space": space, "constraints": constraints, "objectives": objectives}
        return cls(**{**values, **own})

    def differences(self, other: "Identity") -> list[str]:
        """What `other` has differently, each as 'made with <ours>, you gave <theirs>'.

        Empty if both are the same. A different method is one difference, not one per parameter.
        """
        lines = []
        if (self.images, self.shard_digest) != (other.images, other.shard_digest):
            ours, theirs = _short(self.shard_digest, other.shard_digest)
            lines.append(
                f"measured on {self.images:,} images (shard {ours}), "
                f"you gave {other.images:,} (shard {theirs})"
            )
        if self.weights_digest != other.weights_digest:
            ours, theirs = _short(self.weights_digest, other.weights_digest)
            lines.append(f"made with weights {ours}, you gave {theirs}")
        mine, yours = dict(self._facts(other)), dict(other._facts(self))
        lines += [
            f"made with {name} {mine.get(name, 'unset')}, you gave {yours.get(name, 'unset')}"
            for name in {**mine, **yours}
            if mine.get(name) != yours.get(name)
        ]
        return lines

    def _facts(self, other: "Identity") -> Iterator[tuple[str, str]]:
        """Everything but the digests, by name, in words."""
        yield "model", self.model
        yield from _flat(self.protocol)
        yield "method", self.method
        if self.method == other.method:
            yield from _flat(self.fixed_params)
            yield from ((item.name, _words(item)) for item in self.space.ranges)
        yield from _flat(self.constraints.to_dict())
        yield "objectives", str(self.objectives)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _words(item: Range) -> str:
    return f"{item.low} to {item.high} by {item.step}"


def _short(ours: str, theirs: str) -> tuple[str, str]:
    """Both digests, as short as still tells them apart, four characters at least."""
    length = 4
    while ours[:length] == theirs[:length] and length < len(ours):
        length += 1
    return ours[:length], theirs[:length]
