"""Models that timm does not have, or not with these weights: how to build and feed each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from atm_search.models import dinov2, lvvit, t2t_vit
from atm_search.models.dinov2 import Dinov2
from atm_search.models.lvvit import LvVit
from atm_search.models.preprocessing import Preprocessing
from atm_search.models.t2t_vit import T2tVit

IMAGENET = Preprocessing(
    input_size=(3, 224, 224),
    interpolation="bicubic",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_pct=0.9,
    crop_mode="center",
)
RESIZE_256 = replace(IMAGENET, crop_pct=0.875)
"""Resize to 256, crop 224."""


@dataclass(frozen=True)
class Recipe:
    """How to build a model, what its images go through, and where its weights are published."""

    build: Callable[..., VisionTransformer]
    """The network with random weights; takes `num_classes`."""
    preprocessing: Preprocessing
    """That of the official evaluation."""
    file: str
    """The official file of weights."""
    repository: str
    """The GitHub repository whose page points to the file."""
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    """From the names in the official file to those that timm understands."""


def _lvvit(size: str, file: str, *, crop_pct: float = 0.9) -> dict[str, Recipe]:
    recipe = Recipe(
        build=partial(LvVit, **lvvit.SIZES[size]),
        preprocessing=replace(IMAGENET, crop_pct=crop_pct),
        file=file,
        repository="zihangJiang/TokenLabeling",
    )
    cls_only = partial(LvVit, read_patches=False, **lvvit.SIZES[size])
    return {f"lvvit_{size}": recipe, f"lvvit_{size}_cls": replace(recipe, build=cls_only)}


def _t2t_vit(size: str, file: str) -> Recipe:
    return Recipe(
        build=partial(T2tVit, **t2t_vit.SIZES[size]),
        preprocessing=IMAGENET,
        file=file,
        repository="yitu-opensource/T2T-ViT",
        rename=t2t_vit.rename,
    )


def _mae(file: str, *, embed_dim: int, depth: int, num_heads: int) -> Recipe:
    return Recipe(
        build=partial(
            VisionTransformer,
            global_pool="avg",
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
        ),
        preprocessing=RESIZE_256,
        file=file,
        repository="facebookresearch/mae",
    )


def _dinov2(size: str, *, registers: bool) -> Recipe:
    name = f"dinov2_vit{size}14{'_reg' if registers else ''}_lc"
    return Recipe(
        build=partial(Dinov2, registers=registers, **dinov2.SIZES[size]),
        preprocessing=RESIZE_256,
        file=f"the saved state_dict() of torch.hub's {name} with layers=1",
        repository="facebookresearch/dinov2",
        rename=dinov2.rename,
    )


RECIPES: dict[str, Recipe] = {
    **_lvvit("t", "lvvit_t.pth"),
    **_lvvit("s", "lvvit_s-26M-224-83.3.pth.tar"),
    **_lvvit("m", "lvvit_m-56M-224-84.0.pth.tar", crop_pct=1.0),
    "t2t_vit_14": _t2t_vit("14", "81.7_T2T_ViTt_14.pth.tar"),
    "t2t_vit_19": _t2t_vit("19", "82.4_T2T_ViTt_19.pth.tar"),
    "mae_b": _mae("mae_finetuned_vit_base.pth", embed_dim=768, depth=12, num_heads=12),
    "mae_l": _mae("mae_finetuned_vit_large.pth", embed_dim=1024, depth=24, num_heads=16),
    **{
        f"dinov2_{size}{'_reg' if registers else ''}": _dinov2(size, registers=registers)
        for size in dinov2.SIZES
        for registers in (False, True)
    },
}
"""By the name that users call them."""
