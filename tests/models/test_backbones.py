"""Every kind of backbone, small and with random weights: what no method may change in it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from torch import Tensor, nn

from atm_search.errors import ModelError
from atm_search.measure.flops import CostModel
from atm_search.merging.ablations import ConstantThreshold, TopR
from atm_search.merging.atc import Atc
from atm_search.merging.atm import Atm
from atm_search.merging.ats import Ats
from atm_search.merging.diffrate import DiffRate
from atm_search.merging.evit import Evit
from atm_search.merging.fixed import Fixed
from atm_search.merging.layerwise import AtmLayerwise
from atm_search.merging.mctf import Mctf
from atm_search.merging.mergence import Mergence
from atm_search.merging.method import Method
from atm_search.merging.pitome import PiToMe
from atm_search.merging.registry import OWN
from atm_search.merging.tofu import ToFu
from atm_search.merging.tome import Tome
from atm_search.merging.zero_tp import ZeroTP
from atm_search.models.recipes import RECIPES
from atm_search.models.reduction import reads_prefix_only, require_vit, run

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 7, "img_size": 64}
WITH_DINO = SMALL | {"img_size": 56}  # of patches of 14 pixels

BUILDS: dict[str, Callable[[], nn.Module]] = {
    "deit": partial(timm.create_model, "deit_small_patch16_224", **SMALL),
    "distilled": partial(timm.create_model, "deit_small_distilled_patch16_224", **SMALL),
    "deit3": partial(timm.create_model, "deit3_small_patch16_224", **SMALL),
    "augreg": partial(timm.create_model, "vit_small_patch16_224.augreg_in1k", **SMALL),
    "dinov2_token": partial(
        timm.create_model, "vit_small_patch14_reg4_dinov2.lvd142m", **WITH_DINO
    ),
    **{name: partial(RECIPES[name].build, **SMALL) for name in RECIPES if "dinov2" not in name},
    **{name: partial(RECIPES[name].build, **WITH_DINO) for name in RECIPES if "dinov2" in name},
}
SAME_BUT_FOR_SIZE = {"lvvit_m", "lvvit_m_cls", "t2t_vit_19", "mae_l", "dinov2_b", "dinov2_l"}
SAME_BUT_FOR_SIZE |= {"lvvit_t_cls", "dinov2_b_reg", "dinov2_l_reg"}

MUCH: dict[str, Method] = {
    "atm": Atm(tau0=0.6, alpha=0.05, tau_min=0.2, split_depth=2),
    "atm-layerwise": AtmLayerwise(
        tau0=0.6, alpha=0.0, tau_min=0.5, split_depth=2, drops=(0.1, 0.0, 0.1)
    ),
    "tome": Tome(r=3),
    "evit": Evit(keep_rate=0.6),
    "diffrate": DiffRate(prune_kept=(99, 12, 11, 9), merge_kept=(99, 11, 9, 8)),
    "pitome": PiToMe(keep_rate=0.8),
    "tofu": ToFu(keep_rate=0.8),
    "mctf": Mctf(r=3),
    "ats": Ats(samples=12),
    "zero-tp": ZeroTP(keep_rate=0.8, r_similar=1),
    "mergence": Mergence(keep_rate=0.6),
    "atc": Atc(keep_rate=0.6),
    "constant-threshold": ConstantThreshold(threshold=0.4),
    "top-r": TopR(r_first=3, step=-1),
    "fixed": Fixed(r=(3, 2, 2, 1), split_depth=2, cls_only_last_block=False),
}
NOTHING: dict[str, Method] = {
    "atm": Atm(tau0=1.0, alpha=0.0, tau_min=1.0, split_depth=2),
    "atm-layerwise": AtmLayerwise(
        tau0=1.0, alpha=0.0, tau_min=1.0, split_depth=2, drops=(0.0,) * 3
    ),
    "tome": Tome(r=0, cls_only_last_block=True),
    "evit": Evit(keep_rate=1.0, cls_only_last_block=True),
    "diffrate": DiffRate(prune_kept=(99,) * 4, merge_kept=(99,) * 4, cls_only_last_block=True),
    "pitome": PiToMe(keep_rate=1.0, cls_only_last_block=True),
    "tofu": ToFu(keep_rate=1.0, cls_only_last_block=True),
    "mctf": Mctf(r=0, cls_only_last_block=True),
    "zero-tp": ZeroTP(keep_rate=1.0, r_similar=0, cls_only_last_block=True),
    "mergence": Mergence(keep_rate=1.0, cls_only_last_block=True),
    "atc": Atc(keep_rate=1.0, cls_only_last_block=True),
    "constant-threshold": ConstantThreshold(threshold=1.0, cls_only_last_block=True),
    "top-r": TopR(r_first=0, cls_only_last_block=True),
    "fixed": Fixed(r=(0,) * 4, split_depth=2),
}


@pytest.fixture(scope="module", params=sorted(set(BUILDS) - SAME_BUT_FOR_SIZE), name="network")
def _network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    network = BUILDS[request.param]().eval()
    for parameter in network.parameters():
        if parameter.dim() == 1:  # LayerScale among them: at its start it hides its branch
            nn.init.uniform_(parameter, 0.5, 1.5)
    return require_vit(network)


def images(network: nn.Module, count: int = 3) -> Tensor:
    size = network.patch_embed.img_size
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(2))


def test_every_method_is_among_the_tested() -> None:
    assert {type(method) for method in MUCH.values()} == set(OWN)
    # However many samples it draws, ATS never draws the token that counts least.
    assert {type(method) for method in NOTHING.values()} == set(OWN) - {Ats}


@pytest.mark.parametrize("method", NOTHING.values(), ids=NOTHING)
def test_a_method_that_finds_nothing_to_merge_gives_the_dense_logits(
    network: nn.Module, method: Method
) -> None:
    x = images(network)
    with torch.inference_mode():
        out = run(network, method, x)
        torch.testing.assert_close(out.logits, network(x), rtol=1e-5, atol=1e-5)
    kept = network.num_prefix_tokens if reads_prefix_only(network) else out.attention_tokens[0]
    assert out.mlp_tokens[-1] == kept


@pytest.mark.parametrize("method", MUCH.values(), ids=MUCH)
def test_prefix_tokens_stay_where_they_are_and_alone(network: nn.Module, method: Method) -> None:
    with torch.inference_mode():
        out = run(network, method, images(network), track_sources=True)
    assert out.mlp_tokens[-2] < out.attention_tokens[0]
    assert bool(out.logits.isfinite().all())
    prefix = network.num_prefix_tokens
    assert out.sources
    for source in out.sources:
        assert torch.equal(source[:, :prefix], torch.arange(prefix).expand(3, -1))
        rest = source[:, prefix:]
        assert bool(((rest >= prefix) | (rest == -1)).all())


@pytest.mark.parametrize("method", MUCH.values(), ids=MUCH)
def test_permuted_images_get_permuted_logits(network: nn.Module, method: Method) -> None:
    x = images(network, count=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        straight = run(network, method, x).logits
        permuted = run(network, method, x[order]).logits
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-5)


def test_a_distilled_model_averages_both_heads_of_merged_tokens_too() -> None:
    torch.manual_seed(0)
    network = BUILDS["distilled"]().eval()
    with torch.inference_mode():
        both = run(network, MUCH["atm"], images(network))
        network.head_dist, distillation = nn.Linear(32, 7), network.head_dist
        nn.init.zeros_(network.head_dist.weight)
        nn.init.zeros_(network.head_dist.bias)
        one = run(network, MUCH["atm"], images(network))
        network.head, network.head_dist = network.head_dist, distillation
        other = run(network, MUCH["atm"], images(network))
    assert both.mlp_tokens[-1] == 2  # class and distillation token
    torch.testing.assert_close(both.logits, one.logits + other.logits)


def test_the_class_token_of_lv_vit_alone_needs_no_other_in_the_last_block() -> None:
    torch.manual_seed(0)
    official, cls_only = BUILDS["lvvit_s"]().eval(), BUILDS["lvvit_s_cls"]().eval()
    cls_only.load_state_dict(official.state_dict())
    x = images(official)
    with torch.inference_mode():
        assert run(official, MUCH["tome"], x).mlp_tokens[-1] > 1
        assert run(cls_only, NOTHING["tome"], x).mlp_tokens[-1] == 1
        assert not torch.allclose(official(x), cls_only(x))


@pytest.mark.parametrize("method", MUCH.values(), ids=MUCH)
def test_only_prefix_tokens_in_the_last_block_is_lossless_for_every_method(
    network: nn.Module, method: Method
) -> None:
    x = images(network)
    with torch.inference_mode():
        kept = run(network, replace(method, cls_only_last_block=False), x)
        only = run(network, replace(method, cls_only_last_block=True), x)
    torch.testing.assert_close(only.logits, kept.logits, rtol=1e-4, atol=1e-5)
    assert only.attention_tokens == kept.attention_tokens
    if reads_prefix_only(network):
        assert only.mlp_tokens[-1] == network.num_prefix_tokens < kept.mlp_tokens[-1]


class Watching(Tome):
    """Asks for the probabilities of every block, and does nothing."""

    def needs_probabilities(self, number: int, depth: int) -> bool:
        return True


def test_attention_that_is_spelt_out_gives_the_dense_logits(network: nn.Module) -> None:
    x = images(network)
    with torch.inference_mode():
        logits = run(network, Watching(r=0), x).logits
        torch.testing.assert_close(logits, network(x), rtol=1e-5, atol=1e-5)


def test_images_of_a_padded_batch_are_answered_as_alone(network: nn.Module) -> None:
    x = images(network, count=4)
    with torch.inference_mode():
        together = run(network, MUCH["ats"], x)
        alone = [run(network, MUCH["ats"], x[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(
        together.logits, torch.cat([one.logits for one in alone]), rtol=1e-4, atol=1e-4
    )
    cost = CostModel.of(network, (3, *network.patch_embed.img_size))
    assert cost.of_pass(together) == pytest.approx(
        sum(cost.of_pass(one) for one in alone) / 4, abs=1
    )
    assert cost.of_pass(together, padded=True) >= cost.of_pass(together)
    assert cost.of_pass(alone[0], padded=True) == cost.of_pass(alone[0])


@pytest.mark.parametrize("name", MUCH)
def test_methods_that_ask_the_class_token_say_so_where_there_is_none(name: str) -> None:
    options = SMALL | {"global_pool": "avg", "class_token": False}
    network = timm.create_model("vit_tiny_patch16_224", **options).eval()
    method = MUCH[name]
    with torch.inference_mode():
        if name in ("evit", "diffrate", "ats", "mergence"):
            with pytest.raises(ModelError, match=f"{name} keeps what the class token attends to"):
                run(network, method, images(network))
        else:
            assert bool(run(network, method, images(network)).logits.isfinite().all())
