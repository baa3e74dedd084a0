"""Token pictures: what they show is what was merged."""

import numpy as np
import pytest
import torch

from atm_search.data.embedded import embedded_images, embedded_shard
from atm_search.data.shard import Shard
from atm_search.merging.atm import Atm
from atm_search.merging.method import Layer, Method, Reduced
from atm_search.merging.tokens import Tokens
from atm_search.merging.tome import Tome
from atm_search.models.reduction import run
from atm_search.models.zoo import DEMO, LoadedModel, load_model
from atm_search.show.pictures import merge_alone, simple_to_complex, token_picture, tome_at
from atm_search.show.regions import DROPPED, LINE, draw, regions, sizes

ATM = Atm(tau0=0.985, alpha=0.04, tau_min=0.83, split_depth=9)


@pytest.fixture(scope="module", name="demo")
def _demo() -> LoadedModel:
    return load_model(DEMO, device="cpu")


@pytest.fixture(scope="module", name="shard")
def _shard() -> Shard:
    return embedded_shard(20)


class Recording(Method):
    """Runs another method and keeps the sizes it left."""

    def __init__(self, inner: Method) -> None:
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "left", [])
        object.__setattr__(self, "cls_only_last_block", inner.cls_only_last_block)

    @classmethod
    def space(cls, depth: int) -> tuple[()]:
        return ()

    def check(self, depth: int) -> None: ...

    def reduce(self, tokens: Tokens, layer: Layer) -> Reduced:
        reduced = self.inner.reduce(tokens, layer)  # type: ignore[attr-defined]
        self.left.append(reduced.tokens.sizes()[0].tolist())  # type: ignore[attr-defined]
        return reduced


@pytest.mark.parametrize("method", [ATM, Tome(r=13)], ids=lambda method: method.name)
def test_every_patch_belongs_to_one_token_and_regions_are_as_large_as_merging_sizes(
    demo: LoadedModel, shard: Shard, method: Method
) -> None:
    recording = Recording(method)
    run(demo.network, recording, demo.prepare(shard.images[:1]))
    merged = merge_alone(demo, method, shard.images[0])
    assert len(merged.regions) >= demo.depth - 1
    for grid, left, count in zip(
        merged.regions,
        recording.left,
        merged.tokens,
        strict=False,  # type: ignore[attr-defined]
    ):
        assert grid.shape == (14, 14)
        assert (grid >= demo.network.num_prefix_tokens).all()
        expected = dict(enumerate(left))
        del expected[0]  # the class token holds no patch
        assert sizes(grid) == expected
        assert len(expected) == count - 1


def test_regions_follow_the_shape(demo: LoadedModel) -> None:
    """On plain images, tokens lie on one side of the shape's outline, more than by chance."""
    drawn = embedded_images(40)
    plain = np.flatnonzero(drawn.complexity < 0.2)
    pure = []
    for index in plain[:4]:
        grid = merge_alone(demo, ATM, torch.from_numpy(drawn.images[index])).regions[5]
        inside = drawn.foreground[index]
        majority = [
            max(inside[grid == token].mean(), 1 - inside[grid == token].mean())
            for token in np.unique(grid)
        ]
        pure.append(np.average(majority, weights=list(sizes(grid).values())))
    assert np.mean(pure) > 0.95  # the shapes cover a fifth of the image: 0.8 by chance


def test_examples_go_from_simple_to_complex(demo: LoadedModel) -> None:
    shard, drawn = embedded_shard(20), embedded_images(20)
    chosen = simple_to_complex(demo, shard, 3)
    assert len(set(chosen)) == 3
    kept = [merge_alone(demo, ATM, shard.images[index]).gflops for index in chosen]
    assert kept == sorted(kept)
    assert kept[-1] > kept[0]
    assert drawn.complexity[chosen[0]] < drawn.complexity[chosen[-1]]
    assert simple_to_complex(demo, embedded_shard(1), 3) == [0]


def test_tome_stands_beside_it_at_the_nearest_gflops(demo: LoadedModel, shard: Shard) -> None:
    pixels = shard.images[0]
    costs = {r: merge_alone(demo, Tome(r=r), pixels).gflops for r in range(99)}
    for gflops in (costs[0] * 2, costs[5] * 0.999, costs[9] * 1.001, 0.0):
        nearest = min(costs, key=lambda r: (abs(costs[r] - gflops), -r))
        assert costs[tome_at(demo, pixels, gflops).r] == costs[nearest]


def test_a_sheet_has_a_row_per_image(demo: LoadedModel, shard: Shard) -> None:
    one = token_picture(demo, shard, ATM, gflops=0.08, examples=[0])
    two = token_picture(demo, shard, ATM, gflops=0.08, examples=[0, 1])
    assert two.width == one.width
    assert two.height > 1.5 * one.height
    assert len(two.getcolors(2**24)) > 100


def test_merged_patches_have_their_mean_colour_and_others_keep_their_pixels() -> None:
    pixels = np.zeros((3, 4, 4), np.uint8)  # four patches of 2 x 2
    pixels[0, :2, :2], pixels[0, :2, 2:] = 100, 200
    pixels[1, 2, 2] = 50
    grid = regions([0, 1, 1, -1, 2], num_prefix_tokens=1, grid=(2, 2))
    picture = np.asarray(draw(pixels, grid, width=40))
    assert tuple(picture[5, 5]) == tuple(picture[5, 35]) == (150, 0, 0)
    assert tuple(picture[35, 5]) == DROPPED
    assert tuple(picture[25, 25]) == (0, 50, 0)
    assert tuple(picture[35, 35]) == (0, 0, 0)
    assert tuple(picture[5, 20]) == (150, 0, 0)  # no line inside a token
    assert tuple(picture[20, 5]) == tuple(picture[30, 20]) == LINE


def test_a_grid_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        regions(np.arange(5), num_prefix_tokens=1, grid=(3, 3))


def test_pictures_of_a_real_model_merge_simple_images_more(
    deit_tiny_checkpoint: object, shared: object
) -> None:
    from pathlib import Path

    from atm_search.measure.setup import open_shard

    model = load_model("deit_t", checkpoint=Path(str(deit_tiny_checkpoint)), device="cpu")
    data = Path(str(shared)) / "data" / "imagenet-sample-1000"
    shard = open_shard(model, data=data, images=24)
    first, last = simple_to_complex(model, shard, 2)
    simple, complex_ = (merge_alone(model, ATM, shard.images[index]) for index in (first, last))
    assert simple.tokens[-2] < complex_.tokens[-2] / 2
