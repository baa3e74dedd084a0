"""What holds for every method; EViT, DiffRate, PiToMe and ToFu token by token as published."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from atm_search.errors import ParameterError
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
from atm_search.merging.method import Layer, Method, Reduced
from atm_search.merging.pitome import PiToMe
from atm_search.merging.pruning import cls_attention
from atm_search.merging.registry import OWN, build, method_class
from atm_search.merging.schedule import acting_blocks
from atm_search.merging.tofu import ToFu
from atm_search.merging.tokens import Tokens
from atm_search.merging.tome import Tome
from atm_search.merging.zero_tp import ZeroTP

DEPTH, COUNT, DIM = 12, 23, 8
METHODS: dict[str, Method] = {
    "atm": Atm(tau0=0.3, alpha=0.0, tau_min=0.3, split_depth=6),
    "atm-layerwise": AtmLayerwise(
        tau0=0.3, alpha=0.0, tau_min=0.3, split_depth=6, drops=(0.005,) * (DEPTH - 1)
    ),
    "tome": Tome(r=5),
    "fixed": Fixed(r=(5,) * DEPTH, split_depth=6),
    "evit": Evit(keep_rate=0.7),
    "evit_without_fusion": Evit(keep_rate=0.7, fuse=False),
    "diffrate": DiffRate(prune_kept=(19,) * DEPTH, merge_kept=(15,) * DEPTH),
    "pitome": PiToMe(keep_rate=0.75),
    "tofu": ToFu(keep_rate=0.75),
    "mctf": Mctf(r=5),
    "ats": Ats(samples=15),
    "zero-tp": ZeroTP(keep_rate=0.7, r_similar=3),
    "mergence": Mergence(keep_rate=0.4),
    "atc": Atc(keep_rate=0.6),
    "constant-threshold": ConstantThreshold(threshold=0.3),
    "top-r": TopR(r_first=5),
}
ACTING = {"zero-tp": (3, 9)}
"""One block in each half of the depth in which a method acts; if not here, that of EViT."""
NUMBERS = (4, 10)
KEEPING_ALL = set(METHODS) - {"evit", "evit_without_fusion", "diffrate", "tofu", "ats", "zero-tp"}
WITHOUT_SIZES = {"evit", "evit_without_fusion", "tofu", "ats", "zero-tp"}


def act(method: Method, tokens: Tokens, layer: Layer) -> Reduced:
    """All that a method does in one block, and what deciding it cost."""
    cost = 0
    if method.needs_probabilities(layer.number, layer.depth):
        tokens, gathered, _, cost = method.attend(tokens, layer)
        assert gathered.shape == (len(tokens.x), 2, len(tokens), 4)
    tokens, more = method.reduce(tokens, layer)
    tokens, most = method.after_block(tokens, layer)
    return Reduced(tokens, cost + more + most)


def number_of(name: str, half: int) -> int:
    return ACTING.get(name, NUMBERS)[half]


def test_every_method_is_among_the_tested() -> None:
    assert {type(method) for method in METHODS.values()} == set(OWN)


def given(number: int, *, prefix: int = 1, batch: int = 3, sized: bool = True) -> tuple:
    """Random tokens and what their attention computed; sizes where a method may have left some."""
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(batch, COUNT, DIM, generator=generator)
    keys = torch.randn(batch, 2, COUNT, 4, generator=generator)
    queries = torch.randn(batch, 2, COUNT, 4, generator=generator)
    size = torch.randint(1, 5, (batch, COUNT), generator=generator).float() if sized else None
    tokens = Tokens(x, prefix, size).with_source()
    return tokens, spelt_out(Layer(number, DEPTH, keys, queries, scale=0.5), size)


def spelt_out(layer: Layer, size: Tensor | None) -> Layer:
    """The layer with probabilities, and values that are the two halves of a token."""
    logits = layer.queries @ layer.keys.transpose(2, 3) * layer.scale
    if size is not None:
        logits = logits + size.log()[:, None, None]
    return replace(
        layer,
        probabilities=logits.softmax(dim=3),
        values=lambda x: x.view(*x.shape[:2], 2, 4).transpose(1, 2),
    )


@pytest.fixture(params=METHODS, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mass(tokens: Tokens) -> Tensor:
    return tokens.sizes().sum(dim=1)


@pytest.mark.parametrize("prefix", [1, 2])
@pytest.mark.parametrize("half", [0, 1])
def test_mass_is_kept_by_merging_and_lost_by_dropping(name: str, half: int, prefix: int) -> None:
    tokens, layer = given(number_of(name, half), prefix=prefix, sized=name not in WITHOUT_SIZES)
    reduced, cost = act(METHODS[name], tokens, layer)
    assert cost > 0
    assert len(reduced) < len(tokens)
    if name in KEEPING_ALL:
        torch.testing.assert_close(mass(reduced), mass(tokens))
    else:
        assert bool((mass(reduced) < mass(tokens)).all())


@pytest.mark.parametrize("prefix", [1, 2])
@pytest.mark.parametrize("half", [0, 1])
def test_prefix_tokens_are_left_alone_and_the_source_map_is_a_map(
    name: str, half: int, prefix: int
) -> None:
    number = number_of(name, half)
    tokens, layer = given(number, prefix=prefix, sized=name not in WITHOUT_SIZES)
    reduced, _ = act(METHODS[name], tokens, layer)
    torch.testing.assert_close(reduced.x[:, :prefix], tokens.x[:, :prefix])
    assert reduced.source is not None
    counts = [len(reduced)] * 3 if reduced.count is None else reduced.count.tolist()
    for row, count in zip(reduced.source, counts, strict=True):
        held = row[row >= 0]
        assert held.unique().tolist() == list(range(count))
        assert row[:prefix].tolist() == list(range(prefix))
        assert (held < prefix).sum() == prefix
    dropping = name in ("evit_without_fusion", "diffrate", "ats", "zero-tp")
    dropping |= name == "tofu" and number == 4
    assert bool((reduced.source == -1).any()) == dropping


@pytest.mark.parametrize("half", [0, 1])
def test_permuted_images_are_reduced_alike(name: str, half: int) -> None:
    tokens, layer = given(number_of(name, half), sized=name not in WITHOUT_SIZES)
    order = torch.tensor([2, 0, 1])
    size = None if tokens.size is None else tokens.size[order]
    permuted = Tokens(tokens.x[order], 1, size)
    other = replace(layer, keys=layer.keys[order], queries=layer.queries[order])
    straight, _ = act(METHODS[name], tokens, layer)
    again, _ = act(METHODS[name], permuted, spelt_out(other, size))
    real = straight.sizes()[order, :, None] > 0  # and not padding
    torch.testing.assert_close(again.x * real, straight.x[order] * real)
    torch.testing.assert_close(again.sizes(), straight.sizes()[order])


@pytest.mark.parametrize(
    "method",
    [
        Evit(keep_rate=1.0),
        DiffRate(prune_kept=(COUNT,) * DEPTH, merge_kept=(500,) * DEPTH),
        PiToMe(keep_rate=1.0),
        ToFu(keep_rate=1.0),
        Mctf(r=0),
        ZeroTP(keep_rate=1.0, r_similar=0),
        Mergence(keep_rate=1.0),
        Atc(keep_rate=1.0),
        ConstantThreshold(threshold=1.0),
        TopR(r_first=0, step=-1),
    ],
    ids=lambda method: method.name,
)
def test_keeping_all_gives_the_same_tokens_for_nothing(method: Method) -> None:
    tokens, layer = given(4)
    reduced, cost = act(method, tokens, layer)
    assert reduced is tokens
    assert cost == 0 or method.name == "constant-threshold"  # which has to look


@pytest.mark.parametrize("left", [0, 1])
def test_the_last_tokens_can_be_reduced_too(name: str, left: int) -> None:
    tokens, layer = given(4, sized=False)
    few = Tokens(tokens.x[:, : 1 + left], 1)
    keys, queries = layer.keys[:, :, : 1 + left], layer.queries[:, :, : 1 + left]
    number = number_of(name, 0)
    last = spelt_out(Layer(number, DEPTH, keys, queries, layer.scale), None)
    reduced, _ = act(METHODS[name], few, last)
    assert torch.equal(reduced.x, few.x)


def test_diffrate_may_leave_prefix_tokens_only() -> None:
    tokens, layer = given(4, prefix=2)
    method = DiffRate(prune_kept=(5,) * DEPTH, merge_kept=(1,) * DEPTH)
    reduced, _ = method.reduce(tokens, layer)
    assert torch.equal(reduced.x, tokens.x[:, :2])


@pytest.mark.parametrize("sized", [False, True])
def test_cls_attention_is_a_row_of_the_full_softmax(sized: bool) -> None:
    tokens, layer = given(1, sized=sized)
    logits = layer.queries @ layer.keys.transpose(2, 3) * layer.scale
    if sized:
        logits = logits + tokens.sizes().log()[:, None, None]
    expected = logits.softmax(3).mean(1)[:, 0]
    found, cost = cls_attention(layer, tokens.size)
    torch.testing.assert_close(found, expected)
    assert cost == COUNT * DIM
    with pytest.raises(ValueError, match="no queries"):
        cls_attention(Layer(1, DEPTH, layer.keys), None)


def test_evit_keeps_the_most_attended_tokens_and_fuses_the_others() -> None:
    tokens, layer = given(4, sized=False)
    attention, _ = cls_attention(layer, None)
    reduced, _ = Evit(keep_rate=0.7).reduce(tokens, layer)
    kept = math.ceil(0.7 * (COUNT - 1))
    assert len(reduced) == 1 + kept + 1
    for image in range(3):
        ranked = sorted(range(1, COUNT), key=lambda i: -float(attention[image, i]))
        staying, leaving = sorted(ranked[:kept]), ranked[kept:]
        torch.testing.assert_close(reduced.x[image, 1:-1], tokens.x[image, staying])
        fused = sum(attention[image, i] * tokens.x[image, i] for i in leaving)
        torch.testing.assert_close(reduced.x[image, -1], fused)
    untouched, _ = Evit(keep_rate=0.7).reduce(tokens, given(5)[1])
    assert untouched is tokens


def test_evit_acts_after_every_quarter() -> None:
    assert acting_blocks(12) == (4, 7, 10)
    assert acting_blocks(16) == (5, 9, 13)


def test_diffrate_drops_the_least_important_and_merges_the_next() -> None:
    tokens, layer = given(4)
    attention, _ = cls_attention(layer, tokens.size)
    reduced, cost = METHODS["diffrate"].reduce(tokens, layer)
    assert cost == COUNT * DIM + 4 * 14 * DIM
    for image in range(3):
        x, size = tokens.x[image], tokens.sizes()[image]
        ranked = sorted(range(1, COUNT), key=lambda i: -float(attention[image, i]))
        staying, merging = [0, *ranked[:14]], ranked[14:18]
        groups = {i: [i] for i in staying}
        sizes = {i: float(size[i]) for i in staying}
        for i in merging:
            cosines = {j: float(torch.cosine_similarity(x[i], x[j], dim=0)) for j in staying[1:]}
            best = max(cosines, key=cosines.__getitem__)
            groups[best].append(i)
            sizes[best] += float(size[i]) * max(cosines[best], 0.0)
        expected = torch.stack([x[groups[i]].mean(0) for i in staying])
        torch.testing.assert_close(reduced.x[image], expected)
        torch.testing.assert_close(reduced.sizes()[image], torch.tensor([*sizes.values()]))


@pytest.mark.parametrize("number", NUMBERS)
def test_pitome_merges_what_has_many_like_it(number: int) -> None:
    tokens, layer = given(number)
    reduced, _ = METHODS["pitome"].reduce(tokens, layer)
    r = math.floor(22 - 22 * 0.75)
    assert len(reduced) == COUNT - r
    margin = 0.75 - 0.75 * (number - 1) / DEPTH
    for image in range(3):
        unit = torch.nn.functional.normalize(layer.keys[image].mean(0)[1:], dim=1)
        cosine = unit @ unit.T
        energy = torch.nn.functional.elu(cosine - margin).mean(1)
        ranked = sorted(range(22), key=lambda i: -float(energy[i]))
        pool = ranked if number == 4 else ranked[: 2 * r]
        best = {i: max(pool[1::2], key=lambda j: float(cosine[i, j])) for i in pool[::2]}
        leaving = sorted(best, key=lambda i: -float(cosine[i, best[i]]))[:r]
        source = reduced.source[image, 1:]
        for i in range(22):
            together = {j for j in range(22) if source[j] == source[i]}
            home = best[i] if i in leaving else i
            assert together == {home, *(j for j in leaving if best[j] == home)}


def test_tofu_drops_early_and_keeps_the_longest_norm_late() -> None:
    early, layer = given(7, sized=False)  # block 6 counted from 0: still the first half
    dropped, _ = METHODS["tofu"].reduce(early, layer)
    rows = {tuple(token.tolist()) for token in early.x.flatten(0, 1)}
    assert all(tuple(token.tolist()) in rows for token in dropped.x.flatten(0, 1))
    tokens, layer = given(8, sized=False)
    merged, _ = METHODS["tofu"].reduce(tokens, layer)
    assert merged.size is None
    assert len(merged) == len(dropped)
    for image in range(3):
        for place in range(len(merged)):
            members = tokens.x[image, merged.source[image] == place]
            mean = members.mean(0)
            expected = mean / mean.norm() * members.norm(dim=1).max()
            torch.testing.assert_close(merged.x[image, place], expected)


def test_diffrate_is_equal_to_what_its_flat_parameters_build() -> None:
    method = METHODS["diffrate"]
    params = method.params()
    assert (params["prune_1"], params["merge_12"]) == (19, 15)
    assert {item.name for item in DiffRate.space(DEPTH)} | set(DiffRate.defaults()) == set(params)
    assert build("diffrate", params) == method


@pytest.mark.parametrize("name", ["evit", "pitome", "tofu"])
def test_the_published_rates_are_on_the_grid(name: str) -> None:
    rates = (0.5, 0.6, 0.7, 0.8, 0.9) if name == "evit" else (0.9, 0.925, 0.95, 0.975)
    (space,) = method_class(name).space(DEPTH)
    assert [space.nearest(rate) for rate in rates] == list(rates)
    assert build(name, METHODS[name].params()) == METHODS[name]


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("evit", {"keep_rate": 0.0}, "keep_rate=0.0 is no share"),
        ("pitome", {"keep_rate": 1.5}, "keep_rate=1.5 is no share"),
        ("tofu", {"keep_rate": -0.5}, "keep_rate=-0.5 is no share"),
        ("diffrate", {"prune_1": 5}, "needs a value for merge_1 to merge_<depth>"),
        ("diffrate", {"prune_1": 0, "merge_1": 5}, r"prune_kept=\[0\] is no list of counts"),
        ("diffrate", {"prune_1": 5, "merge_1": 5, "merge_3": 5}, "no parameter 'merge_3'"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        build(name, params)


def test_a_schedule_of_another_depth_is_refused() -> None:
    with pytest.raises(ParameterError, match="has 12 and 12 counts, the model 16 blocks"):
        METHODS["diffrate"].check(16)
