"""What a token-reduction method is: a value with parameters, and one step inside a block."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from atm_search.errors import ParameterError
from atm_search.merging.tokens import Tokens


@dataclass(frozen=True)
class Range:
    """The grid of values that a search tries for one parameter, both ends included."""

    name: str
    low: float
    high: float
    step: float

    @property
    def is_integer(self) -> bool:
        """Whether the parameter is a count."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step))

    def __len__(self) -> int:
        return round((self.high - self.low) / self.step) + 1

    def value(self, index: int) -> float:
        """The grid value at an index, in its shortest form (0.045, not 0.045000000000000005)."""
        if not 0 <= index < len(self):
            raise ParameterError(
                f"{self.name} has {len(self)} grid values, not one of index {index}."
            )
        if self.is_integer:
            return int(self.low + index * self.step)
        return round(self.low + index * self.step, 10)

    def nearest(self, value: float) -> float:
        """The grid value nearest to `value`, in its shortest form."""
        index = round((value - self.low) / self.step)
        return self.value(min(max(index, 0), len(self) - 1))


@dataclass(frozen=True)
class Layer:
    """The block that a method acts in, and what its attention has computed."""

    number: int
    """1 for the first block."""
    depth: int
    """Number of blocks of the model."""
    keys: Tensor
    """Keys of the tokens, after key normalisation, [batch, heads, tokens, head_dim]."""
    queries: Tensor | None = None
    """Queries likewise; those of the prefix tokens at least. Methods that only compare keys do
    without."""
    scale: float = 1.0
    """What the products of queries and keys are multiplied by."""
    probabilities: Tensor | None = None
    """What every token attends to, float32 [batch, heads, tokens, tokens], in blocks for which
    `needs_probabilities` asks."""
    values: Callable[[Tensor], Tensor] | None = None
    """Values of tokens [batch, n, dim] as they enter the block, [batch, heads, n, head_dim]; in the
    same blocks."""

    def spelt_out(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Probabilities and values.

        Raises:
            ValueError: the layer has none.
        """
        if self.probabilities is None or self.values is None:
            raise ValueError("the layer's attention is not spelt out")
        return self.probabilities, self.values


class Attended(NamedTuple):
    """What attention with a method inside leaves."""

    tokens: Tokens
    """Those that go on, with the features that they entered the block with."""
    gathered: Tensor
    """What they gathered, [batch, heads, tokens, head_dim]."""
    valued: Tokens
    """Those whose values they gathered."""
    multiply_adds: int = 0
    """Per image, for the decision alone."""


class Reduced(NamedTuple):
    """What one step of a method leaves, and what deciding it cost."""

    tokens: Tokens
    multiply_adds: int = 0
    """Per image, for the decision alone (matching)."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to have fewer tokens, with its parameters.

    Most act after attention, before the MLP (`reduce`). A method may also act inside attention
    (`attend`), where `needs_probabilities` says so, and after a block (`after_block`).

    Frozen and without state: one value serves any number of models, batches and threads.
    """

    name: ClassVar[str]
    """What users call it, for instance in `--method`."""
    needs_class_token: ClassVar[bool] = False
    """Whether it looks at what the class token attends to."""

    prop_attn: bool = True
    """Proportional attention: the logarithm of a token's size is added to its attention logits.
    Off for models fine-tuned from MAE."""
    cls_only_last_block: bool = False
    """Only prefix tokens go on after the last block's attention. Exactly lossless, and therefore
    done only, where the head reads prefix tokens alone."""

    @classmethod
    @abstractmethod
    def space(cls, depth: int) -> tuple[Range, ...]:
        """The parameters that a search varies, for a model of `depth` blocks."""

    @abstractmethod
    def check(self, depth: int) -> None:
        """Raise ParameterError if the parameters do not suit a model of `depth` blocks."""

    def needs_probabilities(self, number: int, depth: int) -> bool:
        """Whether the attention of this block, 1 for the first, is to be spelt out for it.

        That is slower than the fused kernel, which does not give its probabilities away.
        """
        return False

    def attend(self, tokens: Tokens, layer: Layer) -> Attended:
        """What goes on to the residual sum of a block whose attention is spelt out.

        Args:
            tokens: as they enter the block.
            layer: with probabilities and values.
        """
        probabilities, values = layer.spelt_out()
        v = values(tokens.x)
        return Attended(tokens, probabilities.to(v.dtype) @ v, tokens)

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        """The tokens that go on to the MLP of `layer`, the prefix tokens first and in order."""
        return Reduced(tokens)

    def after_block(self, tokens: Tokens, layer: Layer) -> Reduced:
        """The tokens that go on to the next block, the prefix tokens first and in order.

        Args:
            tokens: after the MLP.
            layer: of the block, which `attend` and `reduce` have seen too.
        """
        return Reduced(tokens)

    def params(self) -> dict[str, Any]:
        """Every parameter by name, as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def effective_key(self, depth: int, *, prefix_only_head: bool) -> tuple[Any, ...]:
        """Equal for two values of a method only if they do exactly the same in a model.

        Args:
            depth: blocks of the model.
            prefix_only_head: whether its head reads prefix tokens alone.
        """
        return tuple(self.params().items())

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The parameters that have a default, which a search leaves alone unless in its space."""
        return {field.name: field.default for field in fields(cls) if field.default is not MISSING}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "Method":
        """The method with these parameters.

        Raises:
            ParameterError: a parameter is unknown or missing, or breaks its rule.
        """
        known = {field.name: field.type for field in fields(cls)}
        for name, value in params.items():
            if name not in known:
                raise ParameterError(
                    f"{cls.name} has no parameter '{name}'. It has: {', '.join(known)}."
                )
            if not _has_type(value, known[name]):
                wanted = getattr(known[name], "__name__", known[name])
                raise ParameterError(f"{name}={value!r} is not of type {wanted}.")
        missing = [
            field.name
            for field in fields(cls)
            if field.default is MISSING and field.name not in params
        ]
        if missing:
            raise ParameterError(f"{cls.name} needs a value for {', '.join(missing)}.")
        return cls(**params)

    @classmethod
    def taken_over(
        cls, method: str, params: Mapping[str, Any], depth: int
    ) -> dict[str, Any] | None:
        """A configuration of a method as parameters of this one that do the same in a model.

        None if this method cannot do what the other one does. It can do what it does itself; one
        that generalises another can do what that does.

        Args:
            method: name of the other.
            params: of the other.
            depth: blocks of the model.
        """
        return dict(params) if method == cls.name else None


def _has_type(value: Any, wanted: Any) -> bool:
    """Whether a value read from a file or a store may stand for a field; an int is a float too."""
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(wanted, type) or isinstance(value, wanted)
