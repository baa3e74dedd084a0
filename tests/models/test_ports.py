"""The ports against their architectures written out, in the names of the official checkpoints."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from atm_search.errors import CheckpointError
from atm_search.models.dinov2 import rename as rename_dinov2
from atm_search.models.recipes import RECIPES
from atm_search.models.weights import build_from_file

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 64}
EPS = 1e-5
State = dict[str, Tensor]


def weights(shapes: dict[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(3)
    state = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}
    for name in state:
        if name.endswith("running_var"):
            state[name] = state[name].abs() + 0.5
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
    return state


def block_shapes(prefix: str, dim: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one block, the same in LV-ViT and T2T-ViT: no bias of qkv."""
    return {
        f"{prefix}norm1.weight": (dim,),
        f"{prefix}norm1.bias": (dim,),
        f"{prefix}attn.qkv.weight": (3 * dim, dim),
        f"{prefix}attn.proj.weight": (dim, dim),
        f"{prefix}attn.proj.bias": (dim,),
        f"{prefix}norm2.weight": (dim,),
        f"{prefix}norm2.bias": (dim,),
        f"{prefix}mlp.fc1.weight": (hidden, dim),
        f"{prefix}mlp.fc1.bias": (hidden,),
        f"{prefix}mlp.fc2.weight": (dim, hidden),
        f"{prefix}mlp.fc2.bias": (dim,),
    }


def vit_shapes(dim: int, depth: int, patches: int, classes: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + patches, dim),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "head.weight": (classes, dim),
        "head.bias": (classes,),
    }
    for number in range(depth):
        shapes |= block_shapes(f"blocks.{number}.", dim, 3 * dim)
    return shapes


def lvvit_shapes(dim: int, depth: int, patches: int, classes: int) -> dict[str, tuple[int, ...]]:
    shapes = vit_shapes(dim, depth, patches, classes)
    shapes |= {
        "aux_head.weight": (classes, dim),
        "aux_head.bias": (classes,),
        "patch_embed.conv1.weight": (64, 3, 7, 7),
        "patch_embed.conv2.weight": (64, 64, 3, 3),
        "patch_embed.conv3.weight": (64, 64, 3, 3),
        "patch_embed.proj.weight": (dim, 64, 8, 8),
        "patch_embed.proj.bias": (dim,),
    }
    for number in (1, 2, 3):
        name = f"patch_embed.bn{number}."
        shapes |= {name + part: (64,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[name + "num_batches_tracked"] = ()
    return shapes


def t2t_shapes(dim: int, depth: int, patches: int, classes: int) -> dict[str, tuple[int, ...]]:
    shapes = vit_shapes(dim, depth, patches, classes)
    for number, width in ((1, 3 * 7 * 7), (2, 64 * 3 * 3)):
        name = f"tokens_to_token.attention{number}."
        shapes |= block_shapes(name, 64, 64)
        shapes |= {f"{name}norm1.{part}": (width,) for part in ("weight", "bias")}
        shapes[f"{name}attn.qkv.weight"] = (3 * 64, width)
    return shapes | {
        "tokens_to_token.project.weight": (dim, 576),
        "tokens_to_token.project.bias": (dim,),
    }


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], EPS)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.fc2", F.gelu(linear(state, f"{name}.fc1", x)))


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return (q @ k.transpose(-1, -2) * scale).softmax(-1) @ v


def blocks(state: State, x: Tensor, *, depth: int, heads: int, skip_lam: float) -> Tensor:
    for number in range(depth):
        name = f"blocks.{number}"
        dim = x.shape[2] // heads
        parts = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x)).split(
            x.shape[2], dim=2
        )
        heads_out = [
            attend(*(part[:, :, h * dim : (h + 1) * dim] for part in parts), dim**-0.5)
            for h in range(heads)
        ]
        x = x + linear(state, f"{name}.attn.proj", torch.cat(heads_out, dim=2)) / skip_lam
        x = x + mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", x)) / skip_lam
    return norm(state, "norm", x)


def lvvit_reference(state: State, images: Tensor, *, skip_lam: float) -> tuple[Tensor, Tensor]:
    """Logits of the class token, and of every patch."""
    x = images
    for number in (1, 2, 3):
        name = f"patch_embed.bn{number}"
        stride, padding = (2, 3) if number == 1 else (1, 1)
        x = F.conv2d(x, state[f"patch_embed.conv{number}.weight"], stride=stride, padding=padding)
        x = F.batch_norm(
            x,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state[f"{name}.weight"],
            state[f"{name}.bias"],
        ).relu()
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=8)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    x = blocks(state, x, depth=2, heads=2, skip_lam=skip_lam)
    return linear(state, "head", x[:, 0]), linear(state, "aux_head", x[:, 1:])


def t2t_reference(state: State, images: Tensor) -> Tensor:
    grid, kernel, stride, padding = images, 7, 4, 2
    for number in (1, 2):
        name = f"tokens_to_token.attention{number}"
        x = F.unfold(grid, kernel, stride=stride, padding=padding).transpose(1, 2)
        q, k, v = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x)).chunk(3, 2)
        x = v + linear(state, f"{name}.attn.proj", attend(q, k, v, x.shape[2] ** -0.5))
        x = x + mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", x))
        side = int(x.shape[1] ** 0.5)
        grid = x.transpose(1, 2).reshape(len(x), 64, side, side)
        kernel, stride, padding = 3, 2, 1
    x = F.unfold(grid, 3, stride=2, padding=1).transpose(1, 2)
    x = linear(state, "tokens_to_token.project", x)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    return linear(state, "head", blocks(state, x, depth=2, heads=2, skip_lam=1.0)[:, 0])


def load(name: str, state: object, path: Path) -> nn.Module:
    """The recipe's network, small, with the weights of a file as its authors would write it."""
    recipe = RECIPES[name]
    torch.save(state, path)

    def build(**options: int) -> nn.Module:
        return recipe.build(**SMALL, **options)

    return build_from_file(build, path, rename=recipe.rename).eval()


@pytest.mark.parametrize(("name", "skip_lam"), [("lvvit_t", 1.0), ("lvvit_s", 2.0)])
def test_lv_vit_computes_what_its_paper_says(name: str, skip_lam: float, tmp_path: Path) -> None:
    state = weights(lvvit_shapes(32, 2, 16, 7))
    saved = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        cls, patches = lvvit_reference(state, x, skip_lam=skip_lam)
        logits = load(name, saved, tmp_path / "official.pth.tar")(x)
        torch.testing.assert_close(logits, cls + 0.5 * patches.max(1)[0], rtol=1e-4, atol=1e-4)
        logits = load(f"{name}_cls", saved, tmp_path / "official.pth.tar")(x)
        torch.testing.assert_close(logits, cls, rtol=1e-4, atol=1e-4)


def test_t2t_vit_computes_what_its_paper_says_with_the_averaged_weights(tmp_path: Path) -> None:
    state = weights(t2t_shapes(32, 2, 16, 7))
    last = {key: torch.zeros_like(value) for key, value in state.items()}
    path = tmp_path / "official.pth.tar"
    network = load("t2t_vit_14", {"state_dict": last, "state_dict_ema": state}, path)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), t2t_reference(state, x), rtol=1e-4, atol=1e-4)
    torch.save(network.state_dict(), path)  # our own names load as well
    again = load("t2t_vit_14", network.state_dict(), path)
    assert torch.equal(again.patch_embed.project.weight, network.patch_embed.project.weight)


@pytest.mark.parametrize(
    ("name", "shapes", "dim", "depth", "published"),
    [
        ("lvvit_t", lvvit_shapes, 240, 12, 8.53),
        ("lvvit_s", lvvit_shapes, 384, 16, 26.15),
        ("lvvit_m", lvvit_shapes, 512, 20, 55.83),
        ("t2t_vit_14", t2t_shapes, 384, 14, 21.5),
        ("t2t_vit_19", t2t_shapes, 448, 19, 39.2),
    ],
)
def test_the_names_shapes_and_number_of_parameters_are_the_official_ones(
    name: str, shapes: object, dim: int, depth: int, published: float
) -> None:
    """Millions of parameters as the official repositories state them."""
    with torch.device("meta"):
        network = RECIPES[name].build()
    expected = shapes(dim, depth, 196, 1000)
    named = RECIPES[name].rename({key: torch.empty(shape) for key, shape in expected.items()})
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert own == {key: tuple(value.shape) for key, value in named.items()}
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert round(millions, len(f"{published}".split(".")[1])) == published


def test_the_positions_of_t2t_vit_are_sines_and_cosines() -> None:
    positions = RECIPES["t2t_vit_14"].build(**SMALL).pos_embed[0].detach()
    assert positions[0].tolist() == [0.0, 1.0] * 16
    assert positions[3, 2] == pytest.approx(torch.tensor(3 / 10000 ** (2 / 32)).sin().item())
    assert positions[3, 3] == pytest.approx(torch.tensor(3 / 10000 ** (2 / 32)).cos().item())


def test_dinov2_weighs_a_merged_token_as_often_as_it_holds_patches() -> None:
    network = RECIPES["dinov2_s"].build(**SMALL | {"img_size": 56, "num_classes": 5})
    cls, a, b = torch.randn(3, 2, 1, 32).unbind(0)
    with torch.inference_mode():
        merged = network.read_out(torch.cat([cls, a, b], 1), torch.tensor([[1.0, 3.0, 1.0]] * 2))
        dense = network.read_out(torch.cat([cls, a, a, a, b], 1), None)
    torch.testing.assert_close(merged, dense)


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_takes_the_official_classifier_and_shrinks_its_positions(
    registers: bool, tmp_path: Path
) -> None:
    name = "dinov2_s_reg" if registers else "dinov2_s"
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    state = RECIPES[name].build(**small, num_classes=7).state_dict()
    head = {f"linear_head.{part}": state.pop(f"head.{part}") for part in ("weight", "bias")}
    cls = state["cls_token"]
    if registers:  # timm adds the class token's position to the token itself
        state["register_tokens"] = state.pop("reg_token")
    grid = torch.linspace(-1, 1, 37).expand(37, -1).reshape(1, 37 * 37, 1).expand(-1, -1, 32)
    state["pos_embed"] = torch.cat([torch.ones(1, 1, 32), grid], dim=1)
    state["mask_token"] = torch.zeros(1, 32)
    official = {f"backbone.{key}": value for key, value in state.items()} | head
    torch.save(official, tmp_path / "lc.pth")

    def build(**options: int) -> nn.Module:
        return RECIPES[name].build(**small, **options)

    network = build_from_file(build, tmp_path / "lc.pth", rename=RECIPES[name].rename)
    assert network.num_classes == 7
    assert torch.equal(network.head.weight, head["linear_head.weight"])
    positions = network.pos_embed if registers else network.pos_embed[:, 1:]
    assert positions.shape == (1, 256, 32)
    rows = positions[0, :, 0].detach().reshape(16, 16)
    torch.testing.assert_close(rows, rows[:1].expand(16, -1))
    assert bool((rows[0].diff() > 0).all())
    # The official scale of the models without registers is a little too large: it stops short.
    shift = float(rows[0].mean())
    assert shift == pytest.approx(0.0 if registers else -0.0062, abs=1e-3)
    torch.testing.assert_close(network.cls_token, cls + 1 if registers else cls)
    assert rename_dinov2(network.state_dict()).keys() == network.state_dict().keys()


def test_dinov2_refuses_the_classifier_of_four_layers(tmp_path: Path) -> None:
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    state = RECIPES["dinov2_s"].build(**small, num_classes=7).state_dict()
    state["head.weight"] = torch.zeros(7, 5 * 32)
    torch.save(state, tmp_path / "lc4.pth")

    def build(**options: int) -> nn.Module:
        return RECIPES["dinov2_s"].build(**small, **options)

    with pytest.raises(CheckpointError, match=r"head.weight \[7, 160\] instead of \[7, 64\]"):
        build_from_file(build, tmp_path / "lc4.pth", rename=rename_dinov2)
