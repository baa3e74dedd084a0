"""What a measurement was made with, so that it can be made again."""

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("atm-search", "torch", "timm", "numpy", "pillow")
"""Those that a measured figure can depend on."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure can depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def device_name(device: torch.device) -> str:
    """The device as its maker calls it: `NVIDIA H200`, or a CPU's model with `, 2 threads`."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{_cpu_model()}, {threads} thread{'s' if threads > 1 else ''}"
    return str(device)


@cache
def _cpu_model() -> str:
    """Such as `AMD EPYC 9554`: CPUs of one architecture round differently, and differ in speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, "") or platform.processor() or f"{platform.machine()} CPU"
