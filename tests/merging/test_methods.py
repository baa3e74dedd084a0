import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atm_search.errors import ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.method import Layer, Range
from atm_search.merging.registry import build, methods
from atm_search.merging.tokens import Tokens
from atm_search.merging.tome import Tome

POINT = {"tau0": 0.985, "alpha": 0.025, "tau_min": 0.885, "split_depth": 9}


def layer(keys: torch.Tensor, number: int = 1, depth: int = 12) -> Layer:
    return Layer(number, depth, keys)


def keys_of(metric: torch.Tensor) -> torch.Tensor:
    """Keys of two heads whose mean is the metric, [batch, 2, tokens, dim]."""
    return torch.stack([metric * 1.5, metric * 0.5], dim=1)


def test_atm_merges_the_floor_of_the_mean_count_in_every_image() -> None:
    # Token 0 is the prefix; sources stand at 2, 4, 6, 8, destinations at 1, 3, 5, 7. One image has
    # three pairs of equal keys, the other two: floor(5 / 2) = 2 pairs merge in each.
    eye = torch.eye(9)
    three, two = eye.clone(), eye.clone()
    for source, image in ((2, three), (4, three), (6, three), (2, two), (4, two)):
        image[source] = image[source - 1]
    metric = torch.stack([three, two])
    tokens = Tokens(torch.randn(2, 9, 5), 1)
    method = Atm(tau0=0.99, alpha=0.0, tau_min=0.9, split_depth=12)
    reduced, cost = method.reduce(tokens, layer(keys_of(metric)))
    assert len(reduced) == 7
    assert cost == 4 * 4 * 9


def test_atm_takes_no_part_of_the_batch_for_an_image_of_its_own() -> None:
    """Batch-adaptive: an image's count depends on its batch mates, as the paper defines it."""
    eye = torch.eye(9)
    alike = eye.clone()
    alike[[2, 4, 6, 8]] = alike[[1, 3, 5, 7]]
    method = Atm(tau0=0.99, alpha=0.0, tau_min=0.9, split_depth=12)
    tokens = Tokens(torch.randn(1, 9, 5), 1)
    alone, _ = method.reduce(tokens, layer(keys_of(alike[None])))
    assert len(alone) == 5
    both = Tokens(torch.randn(2, 9, 5), 1)
    shared, _ = method.reduce(both, layer(keys_of(torch.stack([alike, eye]))))
    assert len(shared) == 7


def test_atm_at_threshold_one_merges_nothing_but_duplicates() -> None:
    generator = torch.Generator().manual_seed(0)
    metric = torch.randn(4, 33, 16, generator=generator)
    metric[:, 2] = metric[:, 1]
    method = Atm(tau0=1.0, alpha=0.0, tau_min=1.0, split_depth=12)
    reduced, _ = method.reduce(Tokens(torch.randn(4, 33, 5), 1), layer(keys_of(metric)))
    assert len(reduced) >= 32  # rounding decides whether equal keys reach 1.0


def test_atm_switches_its_split_after_the_split_depth() -> None:
    # By position, 1 and 2 could merge; by size, both are small and therefore sources.
    eye = torch.eye(5)
    eye[2] = eye[1]
    size = torch.tensor([[1.0, 1.0, 1.0, 9.0, 9.0]])
    tokens = Tokens(torch.randn(1, 5, 3), 1, size)
    method = Atm(tau0=0.99, alpha=0.0, tau_min=0.99, split_depth=3)
    before, _ = method.reduce(tokens, layer(keys_of(eye[None]), number=3))
    after, _ = method.reduce(tokens, layer(keys_of(eye[None]), number=4))
    assert (len(before), len(after)) == (4, 5)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    "method", [Atm(tau0=0.9, alpha=0, tau_min=0.5, split_depth=0), Tome(r=8)], ids=["atm", "tome"]
)
def test_a_method_leaves_what_cannot_be_paired(method: Atm | Tome, count: int) -> None:
    tokens = Tokens(torch.ones(2, 1 + count, 4), 1)
    reduced, cost = method.reduce(tokens, layer(torch.ones(2, 3, 1 + count, 4)))
    assert reduced is tokens
    assert cost == 0


def test_tome_removes_half_at_most() -> None:
    tokens = Tokens(torch.randn(2, 11, 4), 1)
    reduced, _ = Tome(r=100).reduce(tokens, layer(torch.randn(2, 3, 11, 4)))
    assert len(reduced) == 6


def test_atm_space_is_the_published_sweep() -> None:
    sizes = {item.name: len(item) for item in Atm.space(12)}
    assert sizes == {"tau0": 12, "alpha": 8, "tau_min": 30, "split_depth": 13}
    assert Atm.space(12)[1].value(6) == 0.045  # and not 0.045000000000000005


@given(st.sampled_from(Atm.space(12)), st.data())
def test_grid_values_are_their_own_nearest(item: Range, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(item) - 1))
    value = item.value(index)
    assert item.nearest(value) == value
    assert item.nearest(value + item.step / 3) == value
    assert item.low <= value <= item.high


def test_a_method_is_equal_to_what_its_params_build() -> None:
    for method in (Atm(**POINT), Tome(r=8, prop_attn=False)):
        assert build(method.name, method.params()) == method


def test_methods_are_found_by_name() -> None:
    assert methods()["atm"] is Atm
    assert methods()["tome"] is Tome


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        (
            "tomee",
            {},
            "No method 'tomee'. Known: atc, atm, atm-layerwise, ats, constant-threshold, diffrate",
        ),
        ("atm", POINT | {"tau": 1}, "no parameter 'tau'"),
        ("atm", {"tau0": 0.9}, "needs a value for alpha, tau_min, split_depth"),
        ("atm", POINT | {"tau0": 1.5}, "tau0=1.5"),
        ("atm", POINT | {"tau0": "0.9"}, "tau0='0.9' is not of type float"),
        ("atm", POINT | {"split_depth": 2.5}, "split_depth=2.5 is not of type int"),
        ("atm", POINT | {"split_depth": -1}, "split_depth=-1"),
        ("tome", {"r": True}, "r=True is not of type int"),
    ],
)
def test_build_refuses_with_the_value(name: str, params: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        build(name, params)


def test_a_split_beyond_the_depth_is_refused() -> None:
    with pytest.raises(ParameterError, match="split_depth=13 is beyond the model's 12 blocks"):
        Atm(**POINT | {"split_depth": 13}).check(12)


def test_atm_is_effectively_the_same_only_where_every_block_does_the_same() -> None:
    def key(depth: int = 12, *, prefix_only_head: bool = True, **changes: float) -> object:
        method = build("atm", {**POINT, "alpha": 0.015, **changes})
        return method.effective_key(depth, prefix_only_head=prefix_only_head)

    lowest = Atm(**POINT | {"alpha": 0.015, "tau_min": 0.5}).thresholds(12)
    assert lowest[11] < 0.81 < lowest[10]
    assert key(tau_min=0.8) == key(tau_min=0.81)  # the last block has no patch left to merge
    assert key(tau_min=0.8, cls_only_last_block=False) != key(
        tau_min=0.81, cls_only_last_block=False
    )
    assert key(tau_min=0.8, prefix_only_head=False) != key(tau_min=0.81, prefix_only_head=False)
    assert key(depth=13, tau_min=0.8) != key(depth=13, tau_min=0.81)
    assert key(split_depth=11) == key(split_depth=12) != key(split_depth=10)
    assert key(prop_attn=False) != key()
    assert key(tau0=0.98) != key()


def test_tome_is_the_same_only_with_the_same_parameters() -> None:
    keys = {Tome(r=r).effective_key(12, prefix_only_head=True) for r in (8, 8, 13)}
    assert len(keys) == 2
