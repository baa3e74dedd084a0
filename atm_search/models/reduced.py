"""A ViT with a method at work, as one module for a service."""

from torch import Tensor, nn

from atm_search.errors import ModelError
from atm_search.merging.method import Method
from atm_search.models.reduction import require_vit, run


class ReducedViT(nn.Module):
    """Answers as the network it wraps, for less compute; the network itself is not changed.

    For inference: no state is kept between calls, so threads may share it, and any batch size
    works. A batch-adaptive method merges by the mean over the batch it is given.
    """

    def __init__(self, network: nn.Module, method: Method, *, trainable: bool = False) -> None:
        """Wrap a timm VisionTransformer; its weights are shared, not copied.

        Args:
            network: the model.
            method: what reduces its tokens.
            trainable: whether it may run in training mode, to be fine-tuned with merging on.

        Raises:
            ModelError: no method can run in this network.
            ParameterError: the method does not suit its depth.
        """
        super().__init__()
        self.network = require_vit(network)
        method.check(len(self.network.blocks))
        self.method = method
        self.trainable = trainable
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of normalised images [batch, channels, height, width].

        Of a network without a classifier head the pooled feature, [batch, dim].

        Images of another float dtype than the network's are converted: a service need not know
        the precision that was chosen.

        Raises:
            ModelError: the module is in training mode, and was not made to be trained.
        """
        if self.training and not self.trainable:
            raise ModelError(
                "Token reduction is for inference: call eval() on the module first, or make it "
                "with trainable=True to fine-tune it."
            )
        images = images.to(next(self.network.parameters()).dtype)
        return run(self.network, self.method, images).logits

    def extra_repr(self) -> str:
        """The method, in the module's printed form."""
        return repr(self.method)


def apply(network: nn.Module, method: Method) -> ReducedViT:
    """The network with a method at work; see `ReducedViT`, which says what is raised."""
    return ReducedViT(network, method)
