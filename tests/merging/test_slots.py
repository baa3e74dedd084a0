"""MCTF, ATS, Zero-TPrune, mergence, ATC and ATM's ablations, written out token by token."""

import math

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from torch import Tensor
from torch.nn import functional

from atm_search.errors import ParameterError
from atm_search.merging.ablations import ConstantThreshold, TopR
from atm_search.merging.atc import LINKAGES, cluster
from atm_search.merging.atm import Atm
from atm_search.merging.ats import Ats
from atm_search.merging.mctf import Mctf
from atm_search.merging.mergence import Mergence
from atm_search.merging.method import Layer
from atm_search.merging.registry import build
from atm_search.merging.tokens import Tokens
from atm_search.merging.zero_tp import ZeroTP

BATCH, HEADS, COUNT, DIM, DEPTH = 3, 2, 23, 8, 12


def given(number: int, *, sized: bool = False) -> tuple[Tokens, Layer]:
    """Random tokens; their attention; values that are the two halves of a token."""
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(BATCH, COUNT, DIM, generator=generator)
    keys = torch.randn(BATCH, HEADS, COUNT, 4, generator=generator)
    queries = torch.randn(BATCH, HEADS, COUNT, 4, generator=generator)
    size = torch.randint(1, 5, (BATCH, COUNT), generator=generator).float() if sized else None
    attention = (queries @ keys.transpose(2, 3)).softmax(dim=3)
    layer = Layer(number, DEPTH, keys, queries, probabilities=attention, values=halves)
    return Tokens(x, 1, size).with_source(), layer


def halves(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], HEADS, DIM // HEADS).transpose(1, 2)


@pytest.mark.parametrize("sized", [False, True])
def test_mctf_merges_both_ways_by_three_criteria(sized: bool) -> None:
    tokens, layer = given(5, sized=sized)
    merged, gathered, valued, _ = Mctf(r=5).attend(tokens, layer)
    assert merged is valued
    assert len(merged) == COUNT - 5
    for image in range(BATCH):
        x, size, attention = tokens.x[image], tokens.sizes()[image], layer.probabilities[image]
        received = attention.mean((0, 1))

        def score(i: int, j: int, x=x, size=size, received=received) -> float:
            alike = (float(torch.cosine_similarity(x[i], x[j], dim=0)) + 1) / 2
            info = (received.min() ** 2 / received[i] / received[j]) ** (1 / 20)
            small = (size.min() ** 2 / size[i] / size[j]) ** (1 / 40)
            return alike * float(info) * float(small)

        left, right = list(range(2, COUNT, 2)), list(range(1, COUNT, 2))
        home = {i: max(right, key=lambda j, i=i: score(i, j)) for i in left}
        first = sorted(left, key=lambda i: -score(i, home[i]))[:2]
        rest = [i for i in left if i not in first]
        back = {j: max(rest, key=lambda i, j=j: score(i, j)) for j in right}
        ranked = sorted(right, key=lambda j: -score(back[j], j))
        holder = {i: i for i in range(COUNT)} | {j: back[j] for j in ranked[:3]}
        holder |= {i: holder[home[i]] for i in first}
        staying = [0, *rest, *ranked[3:]]
        groups = [[i for i in range(COUNT) if holder[i] == place] for place in staying]
        weight = received * size / size.max()
        means = [(weight[g, None] * x[g]).sum(0) / weight[g].sum() for g in groups]
        torch.testing.assert_close(merged.x[image], torch.stack(means))
        columns = torch.stack([attention[:, :, g].sum(2) for g in groups], dim=2)
        mean_rows = [(weight[g, None] * columns[:, g]).sum(1) / weight[g].sum() for g in groups]
        expected = torch.stack(mean_rows, dim=1) @ halves(merged.x)[image]
        torch.testing.assert_close(gathered[image], expected, rtol=1e-4, atol=1e-5)


def test_ats_samples_the_distribution_of_scores_at_even_distances() -> None:
    tokens, layer = given(5)
    samples = 12
    kept, gathered, valued, _ = Ats(samples=samples).attend(tokens, layer)
    assert valued is tokens
    assert kept.count is not None
    assert kept.count.min() < kept.count.max() == len(kept)
    for image in range(BATCH):
        attention, v = layer.probabilities[image], halves(tokens.x)[image]
        score = attention[:, 0].sum(0) * v.permute(1, 0, 2).flatten(1).norm(dim=1)
        ranked = sorted(range(1, COUNT), key=lambda i, score=score: float(score[i]))
        cdf = np.cumsum([float(score[i]) for i in ranked])
        cdf = (cdf / cdf[-1] - cdf[0] / cdf[-1]) / (1 - cdf[0] / cdf[-1])
        points = np.linspace(cdf[1], 1.0, samples - 1)
        picked = {ranked[int(np.abs(cdf - point).argmin())] for point in points}
        positions = [0, *sorted(picked)]
        count = len(positions)
        assert int(kept.count[image]) == count
        torch.testing.assert_close(kept.x[image, :count], tokens.x[image, positions])
        torch.testing.assert_close(gathered[image, :, :count], attention[:, positions] @ v)


def test_ats_takes_padding_for_no_tokens() -> None:
    tokens, layer = given(5)
    last = COUNT - 4
    padded = Tokens(tokens.x, 1, count=torch.tensor([last, COUNT, COUNT]))
    logits = layer.queries @ layer.keys.transpose(2, 3)
    logits = logits + padded.sizes().log()[:, None, None]
    hidden = Layer(5, DEPTH, layer.keys, layer.queries, 1.0, logits.softmax(3), halves)
    alone_logits = logits[:1, :, :last, :last]
    alone = Layer(5, DEPTH, layer.keys[:1], layer.queries[:1], 1.0, alone_logits.softmax(3), halves)
    method = Ats(samples=15)
    batch, together, _, _ = method.attend(padded, hidden)
    single, gathered, _, _ = method.attend(Tokens(tokens.x[:1, :last], 1), alone)
    assert batch.count is not None
    assert int(batch.count[0]) == len(single)
    torch.testing.assert_close(batch.x[0, : len(single)], single.x[0])
    torch.testing.assert_close(together[0, :, : len(single)], gathered[0])


def test_zero_tp_drops_likenesses_then_the_unimportant() -> None:
    tokens, layer = given(9)
    method = ZeroTP(keep_rate=0.7, r_similar=3)
    reduced, _ = method.after_block(tokens, layer)
    assert len(reduced) == 1 + math.ceil(0.7 * (COUNT - 1 - 3))
    for image in range(BATCH):
        attention = layer.probabilities[image]
        ranked = sorted(range(1, COUNT), key=lambda i, a=attention: -float(rank(a, 1)[i]))
        best, other = ranked[:11], ranked[11:]
        unit = functional.normalize(layer.keys[image].mean(0), dim=1)
        likeness = {i: max(float(unit[i] @ unit[j]) for j in best) for i in other}
        gone = sorted(other, key=lambda i, likeness=likeness: -likeness[i])[:3]
        left = [i for i in range(COUNT) if i not in gone]
        some = attention[:, left][:, :, left]
        score = rank(some / some.sum(2, keepdim=True), 5)
        order = sorted(range(1, len(left)), key=lambda i, score=score: -float(score[i]))
        staying = [0, *sorted(left[i] for i in order[: len(reduced) - 1])]
        torch.testing.assert_close(reduced.x[image], tokens.x[image, staying])


def rank(attention: Tensor, iterations: int) -> Tensor:
    """Importance of every token from the attention of all heads."""
    count = attention.shape[1]
    start = torch.ones(count)
    start[0] = math.sqrt(count)
    scores = []
    for head in attention:
        score = start / start.sum()
        for _ in range(iterations):
            score = head.T @ score
        scores.append(score * count)
    kept = [score for score in scores if 0.01 <= float(score.var(correction=0)) <= 0.7]
    return torch.stack(kept or scores).square().mean(0).sqrt()


def test_mergence_merges_every_other_token_into_its_likeness() -> None:
    tokens, layer = given(4, sized=True)
    reduced, _ = Mergence(keep_rate=0.4).reduce(tokens, layer)
    kept = math.ceil(0.4 * (COUNT - 1))
    assert len(reduced) == 1 + kept
    logits = layer.queries @ layer.keys.transpose(2, 3) + tokens.sizes().log()[:, None, None]
    attention = logits.softmax(3).mean(1)[:, 0]
    for image in range(BATCH):
        ranked = sorted(range(1, COUNT), key=lambda i, a=attention[image]: -float(a[i]))
        staying = sorted(ranked[:kept])
        unit = functional.normalize(layer.keys[image].mean(0), dim=1)
        groups = {i: [i] for i in staying}
        for i in ranked[kept:]:
            groups[max(staying, key=lambda j, i=i, unit=unit: float(unit[i] @ unit[j]))].append(i)
        size = tokens.sizes()[image]
        means = [
            (size[g, None] * tokens.x[image, g]).sum(0) / size[g].sum() for g in groups.values()
        ]
        torch.testing.assert_close(reduced.x[image, 1:], torch.stack(means))


@pytest.mark.parametrize("how", LINKAGES)
def test_clusters_are_those_of_scipy(how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    metric = functional.normalize(torch.randn(2, 30, 6, generator=generator), dim=2)
    holder = cluster(metric, 9, linkage=how)
    for image in range(2):
        merges = linkage(metric[image].double().numpy(), method=how, metric="cosine")
        groups = {i: frozenset({i}) for i in range(30)}
        for step, (a, b) in enumerate(merges[: 30 - 9, :2].astype(int)):
            groups[30 + step] = groups.pop(a) | groups.pop(b)
        found = {
            frozenset(np.flatnonzero(holder[image].numpy() == first).tolist())
            for first in holder[image].unique().tolist()
        }
        assert found == set(groups.values())
        assert all(min(group) in holder[image] for group in found)


def test_a_constant_threshold_is_atm_without_a_schedule() -> None:
    tokens, layer = given(10, sized=True)
    flat = Atm(tau0=0.4, alpha=0.0, tau_min=0.4, split_depth=DEPTH)
    constant, _ = ConstantThreshold(threshold=0.4).reduce(tokens, layer)
    expected, _ = flat.reduce(tokens, layer)
    assert len(constant) < COUNT
    assert torch.equal(constant.x, expected.x)


@pytest.mark.parametrize(("step", "removed"), [(0, 4), (1, 4 + 3), (-1, 4 - 3)])
def test_top_r_is_constant_rises_or_falls(step: int, removed: int) -> None:
    tokens, layer = given(4)
    reduced, _ = TopR(r_first=4, step=step).reduce(tokens, layer)
    assert len(reduced) == COUNT - removed
    nothing, _ = TopR(r_first=3, step=-1).reduce(tokens, layer)
    assert nothing is tokens


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("mctf", {"r": -1}, "r=-1 is negative"),
        ("mctf", {"r": 3, "tau_info": 0.0}, "tau_info=0.0 is no temperature"),
        ("ats", {"samples": 7}, "samples=7 is too few"),
        ("zero-tp", {"keep_rate": 0.0}, "keep_rate=0.0 is no share"),
        ("zero-tp", {"keep_rate": 0.5, "r_similar": -1}, "r_similar=-1 is negative"),
        ("zero-tp", {"keep_rate": 0.5, "least_variance": 0.9}, "leave no head"),
        ("mergence", {"keep_rate": 2.0}, "keep_rate=2.0 is no share"),
        ("atc", {"keep_rate": 0.5, "linkage": "ward"}, "No linkage 'ward'. Known: average"),
        ("constant-threshold", {"threshold": 1.5}, "threshold=1.5 is not a usable"),
        ("top-r", {"r_first": -2}, "r_first=-2 is negative"),
        ("top-r", {"r_first": 2, "step": 3}, "step=3 is no schedule"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        build(name, params)


def test_attention_that_is_not_spelt_out_is_refused() -> None:
    tokens, layer = given(4)
    with pytest.raises(ValueError, match="not spelt out"):
        Mctf(r=3).attend(tokens, Layer(4, DEPTH, layer.keys))
