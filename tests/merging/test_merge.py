"""Laws of merging, on random tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atm_search.merging.matching import Matching, alternate_split, match, size_split
from atm_search.merging.merge import merge
from atm_search.merging.tokens import Tokens

PREFIX = st.integers(0, 5)
COUNT = st.integers(2, 40)
SEED = st.integers(0, 2**31)


def random_tokens(batch: int, count: int, prefix: int, seed: int) -> tuple[Tokens, Tensor]:
    """Tokens with sizes and source maps as after earlier merges, and unit vectors to match by."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, prefix + count, 8, generator=generator)
    size = torch.randint(1, 9, (batch, prefix + count), generator=generator).float()
    metric = torch.nn.functional.normalize(
        torch.randn(batch, prefix + count, 4, generator=generator), dim=-1
    )
    return Tokens(x, prefix, size), metric


def matched(tokens: Tokens, metric: Tensor, *, by_size: bool) -> Matching:
    if by_size:
        return match(metric, *size_split(tokens.sizes(), tokens.num_prefix_tokens))
    split = alternate_split(len(tokens), tokens.num_prefix_tokens, device=metric.device)
    return match(metric, *split)


def mass(tokens: Tokens) -> Tensor:
    """Size-weighted sum of the tokens that may merge, [batch, dim]."""
    prefix = tokens.num_prefix_tokens
    return (tokens.x * tokens.sizes()[:, :, None])[:, prefix:].sum(dim=1)


@settings(deadline=None)
@given(COUNT, PREFIX, SEED, st.booleans(), st.data())
def test_merge_removes_r_tokens_and_keeps_mass_and_prefix(
    count: int, prefix: int, seed: int, by_size: bool, data: st.DataObject
) -> None:
    tokens, metric = random_tokens(3, count, prefix, seed)
    matching = matched(tokens, metric, by_size=by_size)
    r = data.draw(st.integers(0, matching.largest_r()))
    merged = merge(tokens, matching, r)
    assert len(merged) == len(tokens) - r
    assert torch.equal(merged.x[:, :prefix], tokens.x[:, :prefix])
    assert torch.equal(merged.sizes()[:, :prefix], tokens.sizes()[:, :prefix])
    torch.testing.assert_close(merged.sizes().sum(dim=1), tokens.sizes().sum(dim=1))
    torch.testing.assert_close(mass(merged), mass(tokens), rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(COUNT, PREFIX, SEED, st.booleans())
def test_merge_of_nothing_returns_the_tokens_themselves(
    count: int, prefix: int, seed: int, by_size: bool
) -> None:
    tokens, metric = random_tokens(2, count, prefix, seed)
    assert merge(tokens, matched(tokens, metric, by_size=by_size), 0) is tokens


@settings(deadline=None)
@given(COUNT, PREFIX, SEED, st.booleans())
def test_sizes_count_the_patches_that_the_source_map_names(
    count: int, prefix: int, seed: int, by_size: bool
) -> None:
    tokens, metric = random_tokens(2, count, prefix, seed)
    tokens = Tokens(tokens.x, prefix).with_source()
    while len(tokens) > prefix + 1:  # merge as far as it goes
        matching = matched(tokens, metric[:, : len(tokens)], by_size=by_size)
        tokens = merge(tokens, matching, matching.largest_r())
        assert tokens.source is not None
        for image, sizes in zip(tokens.source, tokens.sizes(), strict=True):
            counts = torch.bincount(image, minlength=len(tokens))
            assert torch.equal(counts.float(), sizes)


def test_every_merged_token_is_the_mean_of_its_patches() -> None:
    tokens, metric = random_tokens(4, 30, 1, seed=3)
    start = Tokens(tokens.x, 1).with_source()
    merged = start
    for _ in range(3):
        matching = matched(merged, metric[:, : len(merged)], by_size=False)
        merged = merge(merged, matching, 5)
    assert merged.source is not None
    for image in range(4):
        for position in range(len(merged)):
            members = start.x[image][merged.source[image] == position]
            torch.testing.assert_close(merged.x[image, position], members.mean(dim=0))


@settings(deadline=None)
@given(COUNT, PREFIX, SEED, st.booleans())
def test_permuted_images_give_permuted_results(
    count: int, prefix: int, seed: int, by_size: bool
) -> None:
    tokens, metric = random_tokens(4, count, prefix, seed)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    shuffled = Tokens(tokens.x[order], prefix, tokens.sizes()[order])
    matching = matched(tokens, metric, by_size=by_size)
    r = matching.largest_r()
    merged = merge(tokens, matching, r)
    again = merge(shuffled, matched(shuffled, metric[order], by_size=by_size), r)
    torch.testing.assert_close(again.x, merged.x[order])
    assert torch.equal(again.sizes(), merged.sizes()[order])


@given(st.integers(2, 60), PREFIX)
def test_alternate_split_takes_even_positions_as_sources_and_leaves_the_prefix_out(
    count: int, prefix: int
) -> None:
    sources, destinations = alternate_split(prefix + count, prefix, device=torch.device("cpu"))
    assert sorted([*sources.tolist(), *destinations.tolist()]) == list(
        range(prefix, prefix + count)
    )
    assert all(position % 2 == 0 for position in sources.tolist())


@settings(deadline=None)
@given(COUNT, PREFIX, SEED)
def test_size_split_never_takes_a_source_larger_than_a_destination(
    count: int, prefix: int, seed: int
) -> None:
    tokens, _ = random_tokens(3, count, prefix, seed)
    sources, destinations = size_split(tokens.sizes(), prefix)
    assert sources.shape[1] == count // 2
    assert min(sources.min().item() if count > 1 else prefix, prefix) == prefix
    large = tokens.sizes().gather(1, destinations).amin(dim=1)
    small = tokens.sizes().gather(1, sources).amax(dim=1)
    assert bool((small <= large).all())


def test_size_split_of_equal_sizes_is_the_first_half_in_order() -> None:
    sources, destinations = size_split(torch.ones(2, 8), num_prefix_tokens=1)
    assert sources.tolist() == [[1, 2, 3]] * 2
    assert destinations.tolist() == [[4, 5, 6, 7]] * 2


def test_equal_tokens_match_at_similarity_one_and_merge_in_order() -> None:
    metric = torch.nn.functional.normalize(torch.ones(1, 9, 4), dim=-1)
    tokens = Tokens(torch.arange(9.0).view(1, 9, 1).expand(1, 9, 4), 1)
    matching = matched(tokens, metric, by_size=False)
    assert float(matching.score.max()) <= 1.0
    merged = merge(tokens, matching, 2)
    # The sources 2 and 4 go into the first destination, 1: order of position breaks the tie.
    expected = [0.0, 6.0, 8.0, (1 + 2 + 4) / 3, 3.0, 5.0, 7.0]
    assert merged.x[0, :, 0].tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(
    st.floats(-1.0, 1.0),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_merging_error_lies_between_its_bounds(cosine: float, si: int, sj: int) -> None:
    """arXiv 2505.15160's merging error: h·δ <= E <= 2·h·δ, with h = si·sj / (si + sj)."""
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = torch.tensor([cosine, (1 - cosine**2) ** 0.5], dtype=torch.float64)
    merged = (si * a + sj * b) / (si + sj)
    norm = merged.norm()
    if norm < 1e-9:
        return  # opposite tokens of equal size leave no direction to compare with
    error = si * (1 - a @ merged / norm) + sj * (1 - b @ merged / norm)
    bound = si * sj / (si + sj) * (1 - cosine)
    assert bound - 1e-9 <= error <= 2 * bound + 1e-9
