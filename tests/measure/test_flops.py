"""Multiply-adds against the papers' figures, a formula written out, and torch's own counter."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from atm_search.data.shard import Shard
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.flops import GIGA, CostModel, LastBlock
from atm_search.merging.ablations import TopR
from atm_search.merging.atm import Atm
from atm_search.merging.evit import Evit
from atm_search.merging.mctf import Mctf
from atm_search.merging.method import Method
from atm_search.merging.tome import Tome
from atm_search.merging.zero_tp import ZeroTP
from atm_search.models.recipes import RECIPES
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel, architecture

IMAGE = (3, 224, 224)


# The dense baselines of arXiv 2505.15160, Tables A2, A4 and A5, in GFLOPs (multiply-adds).
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("deit_tiny_patch16_224", 1.25),
        ("deit_small_patch16_224", 4.60),
        ("deit_base_patch16_224", 17.57),
        ("lvvit_t", 2.87),
        ("lvvit_s", 6.57),
        ("lvvit_m", 12.74),
        ("t2t_vit_14", 6.09),
        ("t2t_vit_19", 9.79),
        ("mae_b", 17.57),
    ],
)
def test_dense_cost_is_the_published_one_and_torchs(name: str, published: float) -> None:
    with torch.device("meta"):
        network = (RECIPES[name].build() if name in RECIPES else timm.create_model(name)).eval()
        cost = CostModel.of(network, IMAGE)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(2, *IMAGE))
    counts = (197,) * len(network.blocks)
    gflops = cost.multiply_adds(counts, counts) / GIGA
    assert gflops == pytest.approx(published, rel=0.005)
    # It counts two per multiply-add.
    assert counter.get_total_flops() / 2 / 2 / GIGA == pytest.approx(gflops, rel=0.0005)


def test_the_head_of_every_patch_costs_what_is_left_of_them() -> None:
    with torch.device("meta"):
        network, cls_only = RECIPES["lvvit_t"].build(), RECIPES["lvvit_t_cls"].build()
        cost, cheaper = CostModel.of(network, IMAGE), CostModel.of(cls_only, IMAGE)
    attention, mlp = (197,) * 12, (197,) * 11 + (51,)
    difference = cost.multiply_adds(attention, mlp) - cheaper.multiply_adds(attention, mlp)
    assert difference == 50 * 240 * 1000


def test_cost_is_the_formula_of_the_papers_for_any_token_counts() -> None:
    network = timm.create_model("deit_tiny_patch16_224")
    attention, mlp = tuple(range(197, 173, -2)), tuple(range(195, 171, -2))
    width, patches = 192, 196
    expected = patches * 768 * width + 1000 * width
    for entering, leaving in zip(attention, mlp, strict=True):
        expected += 4 * entering * width**2 + 2 * entering**2 * width + 8 * leaving * width**2
    assert CostModel.of(network, IMAGE).multiply_adds(attention, mlp) == expected


# Analytic figures of ToMe for DeiT-T, GFLOPs.
@pytest.mark.parametrize(("r", "published"), [(8, 0.924), (11, 0.807), (13, 0.731), (16, 0.622)])
def test_tome_on_deit_tiny_costs_what_is_published(r: int, published: float) -> None:
    network = timm.create_model("deit_tiny_patch16_224").eval()
    with torch.inference_mode():
        out = run(network, Tome(r=r), torch.randn(1, *IMAGE))
    cost = CostModel.of(network, IMAGE).of_pass(out)
    assert cost / GIGA == pytest.approx(published, abs=0.0006)


# Equal-cost schedules of ATM's ablation for DeiT-S, GFLOPs by the formula.
@pytest.mark.parametrize(
    ("r_first", "step", "gflops"), [(11, 0, 2.986), (7, 1, 3.055), (14, -1, 3.061)]
)
def test_the_ablations_schedules_cost_alike(r_first: int, step: int, gflops: float) -> None:
    narrow = timm.create_model("deit_small_patch16_224", embed_dim=32, num_heads=2).eval()
    with torch.inference_mode():
        out = run(narrow, TopR(r_first=r_first, step=step), torch.zeros(1, *IMAGE))
    with torch.device("meta"):
        cost = CostModel.of(timm.create_model("deit_small_patch16_224"), IMAGE)
    assert cost.of_pass(out) / GIGA == pytest.approx(gflops, abs=0.0006)


@pytest.mark.parametrize(
    "method",
    [
        Tome(r=0),
        Tome(r=4),
        # The last block's attention is counted in full, as published, and computed for one token.
        Atm(tau0=0.6, alpha=0.05, tau_min=0.3, split_depth=3, cls_only_last_block=False),
        Evit(keep_rate=0.6),
        Mctf(r=8),
        ZeroTP(keep_rate=0.8),
    ],
    ids=lambda method: method.name,
)
def test_cost_agrees_with_torchs_counter(tiny_model: LoadedModel, method: Method) -> None:
    network, size = tiny_model.network, tiny_model.preprocessing.input_size
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        out = run(network, method, images)
    counted = counter.get_total_flops() / 2 / len(images)  # it counts two per multiply-add
    cost = CostModel.of(network, size).of_pass(out)
    assert counted == pytest.approx(cost + out.matching_multiply_adds, rel=0.005)


def test_the_last_block_without_what_is_not_read_costs_what_it_is_measured_to_cost(
    tiny_model: LoadedModel, tiny_shard: Shard
) -> None:
    evaluator = Evaluator(tiny_model, tiny_shard, batch_size=25)
    block = LastBlock.of(architecture(tiny_model.name))
    assert block is not None
    for r in (0, 5):
        with_it = evaluator.measure(Tome(r=r, cls_only_last_block=True))
        without = evaluator.measure(Tome(r=r))
        saved = block.gflops(without, was=False, prefix_only=True)
        assert saved == pytest.approx(with_it.gflops, rel=1e-9)
        # What the last block would have merged, nobody knows: it counts as nothing.
        most = block.gflops(with_it, was=True, prefix_only=False)
        unmerged = r * block.gflops_per_token
        assert most == pytest.approx(without.gflops + unmerged, rel=1e-9)


def test_a_head_that_reads_all_tokens_leaves_no_choice_of_the_last_block() -> None:
    assert LastBlock.of(architecture("mae_b")) is None
    assert LastBlock.of(architecture("demo")) == LastBlock(2 * 64 * 256 / GIGA, 1)
