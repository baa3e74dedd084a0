"""A fixed schedule as a graph: one forward pass for every batch size."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from atm_search.errors import ConfigurationError, ModelError
from atm_search.merging.atm import Atm
from atm_search.merging.fixed import Fixed
from atm_search.merging.matching import Matching
from atm_search.merging.method import Method
from atm_search.merging.schedule import count_schedule
from atm_search.merging.tokens import Tokens
from atm_search.merging.tome import Tome
from atm_search.models.reduced import ReducedViT
from atm_search.models.zoo import LoadedModel


def export(model: LoadedModel, method: Method | None) -> ExportedProgram:
    """The model with a method at work as torch.export has it, its batch size left open.

    Args:
        model: in the dtype and on the device that the graph is for.
        method: one whose counts do not depend on the batch; None is the dense model.

    Raises:
        ConfigurationError: the method's counts depend on the batch.
        ModelError: the network does something that torch.export cannot follow.
    """
    network = model.network
    if method is not None:
        schedule = fixed_counts(method, model.depth)
        network = ReducedViT(network, _Traceable.from_params(schedule.params())).eval()
    # Two: torch.export takes 0 and 1 for constants.
    images = torch.zeros(2, *model.preprocessing.input_size, dtype=model.dtype, device=model.device)
    try:
        return torch.export.export(
            network, (images,), dynamic_shapes=({0: Dim("batch")},), strict=False
        )
    except Exception as error:  # of many kinds, whatever in the network it could not follow
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{model.name} cannot be exported: {reason}") from error


def fixed_counts(method: Method, depth: int) -> Fixed:
    """A method that does not look at the batch as the schedule that it amounts to.

    Raises:
        ConfigurationError: it takes its counts from the batch, or there is no such schedule.
    """
    if isinstance(method, Fixed):
        return method
    if isinstance(method, Tome):
        return Fixed(
            r=count_schedule(method.r, inflection=method.inflection, depth=depth),
            split_depth=depth,
            prop_attn=method.prop_attn,
            cls_only_last_block=method.cls_only_last_block,
        )
    if isinstance(method, Atm):
        raise ConfigurationError(
            "ATM takes its counts from the batch, so its shapes are not known in advance: "
            "`atm-search freeze` it first, and export the file that this writes."
        )
    raise ConfigurationError(f"Method '{method.name}' cannot be exported: only fixed and tome can.")


class _Traceable(Fixed):
    """The same schedule in operations that take any batch size, and that exporters know.

    The sums are products with a one-hot matrix: a scatter with a reduction is slow in ONNX Runtime
    or missing elsewhere, and this costs less than 0.1 % of a block.
    """

    def _merge(self, tokens: Tokens, matching: Matching, r: int) -> Tokens:
        x, size = tokens.x, tokens.sizes()
        batch = x.shape[0]
        order = matching.score.sort(dim=1, descending=True, stable=True).indices
        leaving = matching.sources.gather(1, order[:, :r])  # [batch, r]
        unmerged = matching.sources.gather(1, order[:, r:].sort(dim=1).values)
        prefix = torch.arange(tokens.num_prefix_tokens, device=x.device).expand(batch, -1)
        untouched = torch.cat([prefix, unmerged], dim=1)
        receiving = torch.arange(matching.destinations.shape[1], device=x.device)
        joins = matching.target.gather(1, order[:, :r])[:, None, :] == receiving[:, None]
        arriving = joins.float() * size.gather(1, leaving)[:, None, :]  # [batch, D, r]
        before = size.gather(1, matching.destinations)
        after = before + arriving.sum(dim=2)
        total = _rows(x, matching.destinations).float() * before[:, :, None]
        total = total + arriving @ _rows(x, leaving).float()
        mean = (total / after[:, :, None]).to(x.dtype)
        return replace(
            tokens,
            x=torch.cat([_rows(x, untouched), mean], dim=1),
            size=torch.cat([size.gather(1, untouched), after], dim=1),
        )


def _rows(x: Tensor, positions: Tensor) -> Tensor:
    """x at positions [batch, n] of its tokens, [batch, n, dim]; whole rows, by their flat index."""
    batch, count, dim = x.shape
    first = torch.arange(batch, device=x.device)[:, None] * count
    rows = x.reshape(-1, dim).index_select(0, (positions + first).flatten())
    return rows.view(batch, positions.shape[1], dim)
