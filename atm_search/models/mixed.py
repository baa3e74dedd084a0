"""Heads that read the class token and every patch, so that each says how it reads merged ones."""

from abc import abstractmethod
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from atm_search.errors import ModelError

MIXED = "mixed"
"""`global_pool` of a model whose head reads the class token and every patch; not a word of timm."""


class MixedReadOut(VisionTransformer):  # type: ignore[misc]  # timm is not annotated
    """A VisionTransformer with a head of its own kind, if its `global_pool` is `mixed`.

    Every patch token counts, so a last block that keeps prefix tokens only is not lossless.
    """

    def __init__(self, *, num_classes: int = 1000, **others: Any) -> None:
        """Build it with random weights.

        Args:
            num_classes: of the head.
            others: what timm takes.

        Raises:
            ModelError: there are no classes: what the head reads is no feature of one width.
        """
        if num_classes == 0:
            raise ModelError(
                f"{type(self).__name__} is read by a classifier head of its own kind and has no "
                "pooled feature without: give weights with their head, or name a timm "
                "VisionTransformer."
            )
        super().__init__(num_classes=num_classes, **others)

    @abstractmethod
    def read_out(self, x: Tensor, size: Tensor | None) -> Tensor:
        """Logits [batch, classes] of the normalised tokens of the last block.

        Args:
            x: [batch, tokens, dim], prefix tokens first.
            size: patches behind each token, float32 [batch, tokens]; None if each is one patch.
        """

    def forward_head(self, x: Tensor) -> Tensor:
        """Logits of tokens that were not merged; timm's `forward` calls it."""
        if self.global_pool == MIXED:
            return self.read_out(x, None)
        logits: Tensor = super().forward_head(x)
        return logits

    @property
    def token_head(self) -> nn.Linear | None:
        """The layer that the head applies to each patch token, whose cost falls with their number;
        None if there is none."""
        return None
