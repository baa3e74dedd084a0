"""Switches for CPUs: what they set, and that they change no answer."""

import platform
import sys

import pytest
import timm
import torch

from atm_search.models.cpu import choose_attention, keep_freed_memory


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
