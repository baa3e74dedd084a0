"""Switches for CPUs: what they set, and that they change no answer."""

import platform
import sys

import pytest
import timm
import torch

from atm_search.merging.atm import Atm
from atm_search.models.cpu import choose_attention, keep_freed_memory, missing_rows
from atm_search.models.reduction import run


def test_memory_is_kept_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


@pytest.mark.parametrize(
    ("dtype", "amx", "fused"),
    [
        (torch.float32, False, True),
        (torch.bfloat16, True, True),
        (torch.bfloat16, False, False),
    ],
)
def test_attention_is_spelt_out_in_bfloat16_without_amx_alone(
    dtype: torch.dtype, amx: bool, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atm_search.models.cpu._has_amx", lambda: amx)
    network = timm.create_model("test_vit").eval().to(dtype=dtype)
    x = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        before = network(x)
        choose_attention(network)
        assert {block.attn.fused_attn for block in network.blocks} == {fused}
        torch.testing.assert_close(network(x), before, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("dtype", "amx", "rows"),
    [(torch.bfloat16, True, 9), (torch.bfloat16, False, 0), (torch.float32, True, 0)],
)
def test_rows_are_filled_up_for_the_kernel_that_gains_from_it(
    dtype: torch.dtype, amx: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atm_search.models.cpu._has_amx", lambda: amx)
    assert missing_rows(torch.zeros(1, 183, 8, dtype=dtype)) == rows
    assert missing_rows(torch.zeros(1, 192, 8, dtype=dtype)) == 0


@pytest.mark.parametrize("prop_attn", [True, False])
def test_rows_that_are_filled_up_change_no_answer(
    prop_attn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = timm.create_model("test_vit").eval()
    images = torch.randn(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    method = Atm(tau0=0.3, alpha=0.05, tau_min=0.2, split_depth=1, prop_attn=prop_attn)
    with torch.inference_mode():
        plain = run(network, method, images)
        assert plain.mlp_tokens[0] < plain.attention_tokens[0]  # something merged
        monkeypatch.setattr(
            "atm_search.models.attention.missing_rows", lambda x: 7 - x.shape[1] % 7
        )
        filled = run(network, method, images)
    assert filled.attention_tokens == plain.attention_tokens
    assert filled.mlp_tokens == plain.mlp_tokens
    torch.testing.assert_close(filled.logits, plain.logits, rtol=1e-4, atol=1e-5)
