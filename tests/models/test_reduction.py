"""A method inside real timm models: what must not change, and what a published run gave."""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from atm_search.errors import ModelError
from atm_search.merging.atm import Atm
from atm_search.merging.tome import Tome
from atm_search.models.reduced import ReducedViT
from atm_search.models.reduction import require_vit, run
from atm_search.models.zoo import LoadedModel, load_model

RealBatch = tuple[LoadedModel, Tensor, Mapping[str, np.ndarray]]

NOTHING = Tome(r=0)
GOLDEN_TOKENS = (197, 197, 195, 183, 173, 167, 149, 131, 112, 95, 76, 1)
MUCH = Atm(tau0=0.6, alpha=0.05, tau_min=0.2, split_depth=2)


def build(name: str, **options: object) -> nn.Module:
    """A small timm model with random weights, every parameter random (LayerScale included)."""
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    for parameter in network.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return network


def images(network: nn.Module, count: int = 3) -> Tensor:
    size = network.patch_embed.img_size
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(2))


SMALL = {"depth": 4, "embed_dim": 32, "num_heads": 2, "num_classes": 7, "img_size": 64}
VARIANTS = {
    "plain": ("vit_tiny_patch16_224", SMALL),
    "layer_scale": ("vit_tiny_patch16_224", SMALL | {"init_values": 0.1}),
    "qk_norm": ("vit_tiny_patch16_224", SMALL | {"qk_norm": True}),
    "registers": ("vit_tiny_patch16_224", SMALL | {"reg_tokens": 4, "no_embed_class": True}),
    "average": ("vit_tiny_patch16_224", SMALL | {"global_pool": "avg"}),
    "no_class_token": (
        "vit_tiny_patch16_224",
        SMALL | {"global_pool": "avg", "class_token": False},
    ),
    "pre_norm": ("vit_tiny_patch16_224", SMALL | {"pre_norm": True}),
    "distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "test_vit": ("test_vit", {}),
}


@pytest.fixture(params=VARIANTS, name="network")
def _network(request: pytest.FixtureRequest) -> nn.Module:
    name, options = VARIANTS[request.param]
    return build(name, **options)


def test_a_method_that_does_nothing_leaves_the_logits_as_timm_has_them(network: nn.Module) -> None:
    x = images(network)
    with torch.inference_mode():
        assert torch.equal(run(network, NOTHING, x).logits, network(x))


def test_unfused_attention_is_what_timm_has_and_merges_alike(network: nn.Module) -> None:
    x = images(network)
    with torch.inference_mode():
        fused = run(network, MUCH, x)
        for block in network.blocks:
            block.attn.fused_attn = False
        assert torch.equal(run(network, NOTHING, x).logits, network(x))
        unfused = run(network, MUCH, x)
    torch.testing.assert_close(unfused.logits, fused.logits, rtol=1e-4, atol=1e-4)


def test_dropping_all_but_prefix_tokens_in_the_last_block_is_lossless(network: nn.Module) -> None:
    x = images(network)
    with torch.inference_mode():
        out = run(network, Tome(r=0, cls_only_last_block=True), x)
        torch.testing.assert_close(out.logits, network(x), rtol=1e-5, atol=1e-5)
    kept = out.mlp_tokens[-1]
    assert kept == (
        network.num_prefix_tokens if network.global_pool == "token" else out.attention_tokens[0]
    )


def test_merging_leaves_the_model_as_it_was(network: nn.Module) -> None:
    x = images(network)
    attributes = {name: set(vars(module)) for name, module in network.named_modules()}
    with torch.inference_mode():
        before = network(x)
        out = run(network, MUCH, x)
        assert torch.equal(network(x), before)
    assert out.mlp_tokens[0] < out.attention_tokens[0]
    assert {name: set(vars(m)) for name, m in network.named_modules()} == attributes
    assert not any(module._forward_hooks for module in network.modules())


def test_every_patch_belongs_to_exactly_one_token_of_every_block(network: nn.Module) -> None:
    x = images(network)
    with torch.inference_mode():
        out = run(network, MUCH, x, track_sources=True)
    assert out.sources is not None
    for source, count in zip(out.sources, out.mlp_tokens, strict=False):
        assert source.shape == (len(x), out.attention_tokens[0])
        assert source.min() >= 0
        assert source.max() == count - 1


def test_an_average_over_merged_tokens_weighs_them_by_their_patches() -> None:
    """All patches equal: any merging, then averaging by size, gives what the dense model gives."""
    name, options = VARIANTS["average"]
    network = build(name, **options)
    nn.init.zeros_(network.pos_embed)
    x = torch.ones(2, 3, 64, 64)
    x[:, :, :16, :16] = -1.0  # one patch differs, so a plain mean would weigh it too much
    with torch.inference_mode():
        dense = network(x)
        merged = run(network, Atm(tau0=0.9999, alpha=0, tau_min=0.9999, split_depth=4), x)
    assert merged.mlp_tokens[-1] < 10
    torch.testing.assert_close(merged.logits, dense, rtol=1e-4, atol=1e-4)


def test_proportional_attention_can_be_switched_off() -> None:
    name, options = VARIANTS["plain"]
    network, x = build(name, **options), None
    x = images(network)
    with torch.inference_mode():
        on = run(network, Tome(r=3), x).logits
        off = run(network, Tome(r=3, prop_attn=False), x).logits
    assert not torch.allclose(on, off)


def test_permuted_images_get_permuted_logits(network: nn.Module) -> None:
    x = images(network, count=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        straight = run(network, MUCH, x).logits
        permuted = run(network, MUCH, x[order]).logits
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_merges_and_stays_finite(dtype: torch.dtype) -> None:
    name, options = VARIANTS["plain"]
    network = build(name, **options).to(dtype)
    with torch.inference_mode():
        out = run(network, MUCH, images(network).to(dtype))
    assert out.logits.dtype == dtype
    assert bool(out.logits.isfinite().all())
    assert out.mlp_tokens[-2] < out.attention_tokens[0]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("test_resnet", {}, "ResNet is no timm VisionTransformer"),
        ("vit_base_patch16_rpn_224", {"depth": 1}, "Blocks of type ResPostBlock"),
        ("vit_tiny_patch16_224", SMALL | {"global_pool": "map"}, "pools by 'map'"),
        ("eva02_tiny_patch14_224", {"depth": 1}, "Eva is no timm VisionTransformer"),
    ],
)
def test_models_without_a_place_for_merging_are_refused(
    name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        require_vit(timm.create_model(name, **options))


def test_reduced_vit_refuses_training_mode(tiny_model: LoadedModel) -> None:
    module = ReducedViT(tiny_model.network, NOTHING)
    x = images(tiny_model.network)
    assert torch.equal(module(x), tiny_model.network(x))
    with pytest.raises(ModelError, match="call eval"):
        module.train()(x)
    tiny_model.network.eval()


def test_a_service_may_send_float32_images_to_a_model_in_half_precision() -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=10).eval().bfloat16()
    images = torch.randn(2, *network.default_cfg["input_size"])
    reduced = ReducedViT(network, Tome(r=4))
    with torch.inference_mode():
        logits = reduced(images)
        assert logits.dtype == torch.bfloat16
        assert torch.equal(logits, reduced(images.bfloat16()))


def test_threads_share_one_model(tiny_model: LoadedModel) -> None:
    module = ReducedViT(tiny_model.network, MUCH).eval()
    batches = [images(tiny_model.network, count) for count in (1, 2, 3, 5)]
    with torch.inference_mode():
        expected = [module(batch) for batch in batches]
    answers: dict[int, list[Tensor]] = {}

    def serve(thread: int) -> None:
        with torch.inference_mode():
            answers[thread] = [module(batch) for batch in batches]

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got in answers.values():
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert len(answers) == 8


def test_atm_gives_the_golden_tokens_of_deit_tiny(real_batch: RealBatch) -> None:
    """Golden: measured before the work on speed, the 64 images of the oracle below, float32."""
    model, pixels, _ = real_batch
    method = Atm(tau0=1.0, alpha=0.035, tau_min=0.88, split_depth=9)
    with torch.inference_mode():
        out = run(model.network, method, model.prepare(pixels))
    assert out.mlp_tokens == GOLDEN_TOKENS
    assert out.attention_tokens == (197, *GOLDEN_TOKENS[:-1])  # the last block's cost as published


@pytest.mark.parametrize("r", [8, 13])
def test_tome_gives_the_golden_logits_of_deit_tiny(r: int, real_batch: RealBatch) -> None:
    """Oracle: ToMe's published code on DeiT-Tiny, 64 images, resize 248, float32."""
    model, pixels, golden = real_batch
    with torch.inference_mode():
        logits = run(model.network, Tome(r=r), model.prepare(pixels)).logits.numpy()
    assert np.abs(logits - golden[f"r{r}"]).max() <= 1e-3
    assert (logits.argmax(1) == golden[f"r{r}"].argmax(1)).all()


@pytest.fixture(scope="module", name="real_batch")
def _real_batch(shared: Path, deit_tiny_checkpoint: Path) -> RealBatch:
    """DeiT-Tiny, the 64 images of the golden run, and what it gave."""
    golden = np.load(shared / "reference" / "tome_golden.npz")
    model = load_model("deit_t", checkpoint=deit_tiny_checkpoint, device="cpu")
    folder = shared / "data" / "imagenet-sample-1000"
    pixels = [
        model.preprocessing.pixels(Image.open(folder / name).convert("RGB"))
        for name in golden["images"]
    ]
    return model, torch.from_numpy(np.stack(pixels)), golden
