"""What a measurement was made with, so that it can be made again."""

import platform
from importlib.metadata import version

import torch

PACKAGES = ("atm-search", "torch", "timm", "numpy", "pillow")
"""Those that a measured figure can depend on."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure can depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def device_name(device: torch.device) -> str:
    """The device as its maker calls it, for instance `NVIDIA H200` or `x86_64 CPU, 2 threads`."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return str(device)
