"""What makes any ViT faster on a CPU, dense or merged: kept memory, the right attention."""

import ctypes
import sys
from functools import cache

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt, as in its malloc.h."""

LARGEST = 2**30
"""Blocks of up to 1 GiB are kept; the hidden layer of DeiT-B for 100 images has 0.24 GB."""

TILE = 16
"""Keys that the fused kernel takes at a time where there is AMX."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones.

    glibc hands blocks above 32 MB back to the system as soon as they are freed, and the next
    tensor of that size meets a page fault every 4 KB: a fifth of the time of DeiT-T in float32 at
    batch size 64, dense or merged. The price: the process stays as large as it once was. It is a
    setting of the whole process, for programs that measure, not for a library to make unasked.

    Returns:
        Whether it took effect; False on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    # Trimming, or the top of the heap goes back to the system all the same.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def choose_attention(network: VisionTransformer) -> None:
    """Set timm's switch for fused attention to what is faster for this dtype and device.

    Spelt out in bfloat16 on a CPU without AMX, where the fused kernel takes 1.4 times as long;
    otherwise as it is. The answer depends on nothing that varies from run to run.
    """
    parameter = next(network.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.bfloat16 or _has_amx():
        return
    for block in network.blocks:
        block.attn.fused_attn = False


def missing_rows(x: Tensor) -> int:
    """How many more tokens [batch, tokens, dim] would be faster for fused attention.

    In bfloat16 with AMX the kernel takes 1.7 times as long for 183 keys as for 192. Elsewhere the
    copy costs what it saves.
    """
    if x.device.type != "cpu" or x.dtype != torch.bfloat16 or not _has_amx():
        return 0
    return -x.shape[1] % TILE


@cache
def _has_amx() -> bool:
    return bool(torch.cpu._is_amx_tile_supported())
