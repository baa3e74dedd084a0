"""Every method at the same cost: accuracy change against the dense model, with paired intervals.

    python benchmarks/rivals.py --data FOLDER [--checkpoint FILE] [--images N] [--at 1.0 0.9 0.8]

Of each method the main parameter is bisected, on one batch, until its cost is as near to each
target as its grid allows; the setting is then measured on all images. Nothing else is tuned:
this is how methods compare out of the box, not the best of each. DiffRate runs its published
schedules. GFLOPs are 10^9 multiply-adds per image, matching not included, in two columns: with all
tokens in the last block's MLP, and with prefix tokens only, which is exactly lossless; targets are
of the second, for all methods alike. Made for DeiT-T; other ViTs of 12 blocks do, with their --at.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table

from atm_search.measure.evaluator import Evaluator
from atm_search.measure.flops import GIGA, CostModel
from atm_search.measure.measurement import Measurement
from atm_search.measure.setup import open_shard
from atm_search.merging.ablations import TopR
from atm_search.merging.atm import Atm
from atm_search.merging.diffrate import DiffRate
from atm_search.merging.method import Method
from atm_search.merging.registry import build, method_class
from atm_search.models.forward_pass import ForwardPass
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, load_model

POINTS = Path(__file__).with_name("published.yaml")
FIXED: dict[str, dict[str, Any]] = {"zero-tp": {"r_similar": 10}}
SEARCHED = (
    "tome", "evit", "pitome", "tofu", "mctf", "ats", "zero-tp", "mergence", "atc",
    "constant-threshold",
)  # fmt: skip
"""Methods bisected along the first parameter of their space."""
WHOLE_BATCH = {"atm", "constant-threshold", "ats"}
"""Methods whose counts depend on the images."""


@dataclass(frozen=True)
class Family:
    """A method along its main parameter, from the cheapest setting to the dearest."""

    name: str
    settings: Sequence[Any]
    make: Callable[[Any], Method]


@dataclass(frozen=True)
class Row:
    """One method at one target."""

    target: float
    method: str
    params: dict[str, Any]
    gflops: float
    """With prefix tokens only in the last block's MLP."""
    gflops_whole: float
    """With all tokens there."""
    padded: float
    """Cost of padding, GFLOPs per image on top, on the first batch."""
    top1: float
    delta_top1: float
    delta_ci95: tuple[float, float]


class Costs:
    """What methods cost on the first batch of some images."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.model: LoadedModel = evaluator.model
        self.cost = CostModel.of(self.model.network, self.model.preprocessing.input_size)
        batch = evaluator.shard.images[: evaluator.batch_size].to(self.model.device)
        self.images = self.model.prepare(batch)
        self.cheaply = cache(self._cheaply)

    def forward(self, method: Method) -> ForwardPass:
        """One pass; of one image where counts do not depend on images."""
        images = self.images if method.name in WHOLE_BATCH else self.images[:1]
        with torch.inference_mode():
            return run(self.model.network, method, images)

    def last_block(self, tokens: float) -> float:
        """GFLOPs that tokens cost in the last block's MLP, prefix tokens not counted."""
        prefix = self.model.network.num_prefix_tokens
        return float((tokens - prefix) * self.cost.mlp_weights[-1] / GIGA)

    def _cheaply(self, method: Method) -> float:
        forward = self.forward(method)
        return self.cost.of_pass(forward) / GIGA - self.last_block(forward.mlp_tokens[-1])

    def padding(self, method: Method) -> float:
        """GFLOPs per image that padding costs."""
        forward = self.forward(method)
        return (self.cost.of_pass(forward, padded=True) - self.cost.of_pass(forward)) / GIGA


def families() -> Iterator[Family]:
    """Every method that has a main parameter."""
    atm = partial(Atm, tau0=1.0, alpha=0.035, split_depth=9)
    tau_min = Atm.space(12)[2]
    levels = [tau_min.value(index) for index in range(len(tau_min))]
    yield Family("atm", levels, lambda value: atm(tau_min=value))
    for name in SEARCHED:
        main = method_class(name).space(12)[0]
        values = [main.value(index) for index in range(len(main))]
        if main.name == "r":
            values.reverse()
        yield Family(name, values, partial(_of, name, main.name))
    for name, step in (("top-r increasing", 1), ("top-r decreasing", -1)):
        yield Family(name, range(25, -1, -1), partial(_top_r, step))


def nearest(family: Family, target: float, costs: Costs) -> Method:
    """The setting whose cost is nearest to the target; cost rises along the settings."""
    low, high = 0, len(family.settings) - 1
    while high - low > 1:
        middle = (low + high) // 2
        cheap = costs.cheaply(_alike(family.make(family.settings[middle]))) <= target
        low, high = (middle, high) if cheap else (low, middle)
    ends = [_alike(family.make(family.settings[index])) for index in (low, high)]
    return min(ends, key=lambda method: abs(costs.cheaply(method) - target))


def published_diffrate(target: float) -> Method | None:
    """DiffRate's schedule for DeiT-T that was published for a target."""
    for group in yaml.safe_load(POINTS.read_text()):
        for point in group["points"] if group["method"] == DiffRate.name else []:
            if point["model"] == "deit_t" and point["gflops"] == target:
                prune, merge = tuple(point["prune_kept"]), tuple(point["merge_kept"])
                return _alike(DiffRate(prune_kept=prune, merge_kept=merge))
    return None


def rows(evaluator: Evaluator, targets: Sequence[float]) -> Iterator[Row]:
    """A row per target and method, as each is measured."""
    costs = Costs(evaluator)
    for target in targets:
        found = [(family.name, nearest(family, target, costs)) for family in families()]
        schedule = published_diffrate(target)
        if schedule is not None:
            found.append((schedule.name, schedule))
        for name, method in found:
            measured = evaluator.measure(method)
            yield _row(target, name, method, measured, costs)


def _row(target: float, name: str, method: Method, measured: Measurement, costs: Costs) -> Row:
    own = {} if name == DiffRate.name else method.params()
    switches = ("prop_attn", "cls_only_last_block")
    return Row(
        target=target,
        method=name,
        params={key: value for key, value in own.items() if key not in switches},
        gflops=measured.gflops - costs.last_block(measured.tokens_per_layer[-1]),
        gflops_whole=measured.gflops,
        padded=costs.padding(method),
        top1=measured.top1,
        delta_top1=measured.delta_top1,
        delta_ci95=measured.delta_ci95,
    )


def _of(name: str, parameter: str, value: Any) -> Method:
    return build(name, FIXED.get(name, {}) | {parameter: value})


def _top_r(step: int, value: Any) -> Method:
    return TopR(r_first=value, step=step)


def _alike(method: Method) -> Method:
    """With all tokens in the last block: what the lossless switch saves is subtracted exactly."""
    return replace(method, cls_only_last_block=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="images, a folder per class")
    parser.add_argument("--model", default="deit_t")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--images", type=int, help="size of the subset (default: all)")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--at", type=float, nargs="+", default=[1.0, 0.9, 0.8], help="GFLOPs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    model = load_model(
        given.model, checkpoint=given.checkpoint, device=given.device, dtype=given.dtype
    )
    shard = open_shard(model, data=given.data, images=given.images)
    evaluator = Evaluator(model, shard, batch_size=given.batch_size)
    found = []
    for row in rows(evaluator, given.at):
        print(row, file=sys.stderr)
        found.append(row)
    if given.json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return
    table = Table(title=f"{given.model}, {len(shard):,} images, {given.dtype}, in batches of "
                  f"{given.batch_size}")  # fmt: skip
    columns = ("target", "method", "setting", "GFLOPs", "whole last block", "padding", "top-1")
    for heading in (*columns, "change", "95 % interval"):
        table.add_column(heading, justify="left" if heading in ("method", "setting") else "right")
    for row in sorted(found, key=lambda row: (-row.target, -row.delta_top1)):
        low, high = row.delta_ci95
        table.add_row(
            f"{row.target:g}",
            row.method,
            " ".join(f"{key}={value}" for key, value in row.params.items()) or "published",
            *(f"{value:.3f}" for value in (row.gflops, row.gflops_whole, row.padded)),
            f"{row.top1:.2f}",
            f"{row.delta_top1:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
