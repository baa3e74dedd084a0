"""Published GFLOPs of fixed operating points beside what our methods cost, from shapes alone.

    python benchmarks/published.py [--json]

Needs neither weights nor images, since only methods are checked whose token counts are the same for
every image: a narrow model with random weights gives the counts, and one of full width, whose
tensors have shapes and no content, the costs. GFLOPs are 10^9 multiply-adds per image, matching not
included. Published figures have one decimal; DiffRate's are targets.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer

from atm_search.measure.flops import GIGA, CostModel
from atm_search.merging.diffrate import DiffRate
from atm_search.merging.method import Method
from atm_search.merging.registry import build
from atm_search.models.recipes import RECIPES
from atm_search.models.reduction import run
from atm_search.models.zoo import ALIASES

POINTS = Path(__file__).with_suffix(".yaml")
IMAGE = (3, 224, 224)


@dataclass(frozen=True)
class Row:
    """One published operating point and what it costs here."""

    source: str
    model: str
    method: str
    params: str
    published: float
    """GFLOPs."""
    computed: float
    """GFLOPs."""
    tokens: tuple[int, ...]
    """That enter each block's MLP."""


def rows() -> Iterator[Row]:
    """Every point of the file, in its order."""
    for group in yaml.safe_load(POINTS.read_text()):
        for point in group["points"]:
            method, shown = _method(group["method"], point)
            computed, tokens = cost(point["model"], method)
            yield Row(
                source=group["source"],
                model=point["model"],
                method=method.name,
                params=shown,
                published=point["gflops"],
                computed=computed,
                tokens=tokens,
            )


def cost(model: str, method: Method) -> tuple[float, tuple[int, ...]]:
    """GFLOPs of a method in a model, and the tokens that enter each block's MLP."""
    with torch.inference_mode():
        narrow = _network(model, embed_dim=32, num_heads=2)
        method.check(len(narrow.blocks))
        out = run(narrow, method, torch.zeros(1, *IMAGE))
    with torch.device("meta"):
        model_cost = CostModel.of(_network(model), IMAGE)
    multiply_adds = model_cost.of_pass(out)
    return multiply_adds / GIGA, out.mlp_tokens


def _network(model: str, **width: int) -> VisionTransformer:
    if model in RECIPES:
        return RECIPES[model].build(**width).eval()
    return timm.create_model(ALIASES.get(model, model), **width).eval()


def _method(name: str, point: dict[str, Any]) -> tuple[Method, str]:
    """The method of a point, and how to show its parameters."""
    if name == DiffRate.name:
        return DiffRate(
            prune_kept=point["prune_kept"], merge_kept=point["merge_kept"]
        ), "published counts"
    params = point["params"]
    return build(name, params), " ".join(f"{key}={value}" for key, value in params.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    as_json = parser.parse_args().json
    found = list(rows())
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return
    table = Table("model", "method", "point", "published", "computed", "difference")
    for row in found:
        difference = 100 * (row.computed / row.published - 1)
        figures = (f"{row.published}", f"{row.computed:.3f}", f"{difference:+.1f} %")
        table.add_row(row.model, row.method, row.params, *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
