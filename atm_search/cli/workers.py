"""The worker processes that `start` runs: how many, and what each of them is told."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from atm_search.errors import ParameterError

if TYPE_CHECKING:
    from atm_search.search.supervisor import Command

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def worker_count(workers: int | None, device: str) -> int:
    """As many as asked for; else one for each GPU that may be used, or one.

    Raises:
        ParameterError: fewer than one.
    """
    if workers is None:
        return max(1, len(_gpus(device)))
    if workers < 1:
        raise ParameterError(f"--workers {workers}: a search needs one or more.")
    return workers


def require_own_devices(count: int, device: str) -> None:
    """Check that no two workers share a device, which latency needs.

    Raises:
        ParameterError: they do.
    """
    gpus = len(_gpus(device))
    if count > max(1, gpus):
        where = f"{gpus} GPUs" if gpus else "one device"
        raise ParameterError(
            f"--workers {count} on {where}: workers that share a device disturb each other's "
            f"latencies. Use --workers {max(1, gpus)}, or objectives without latency."
        )


def worker_commands(
    count: int,
    *,
    address: str,
    study: str,
    checkpoint: Path | None,
    data: Path | None,
    device: str,
) -> "list[Command]":
    """One command for each worker; the store's address goes by the environment.

    Workers share the GPUs in turn, or else the cores.
    """
    from atm_search.data.cores import usable_cores
    from atm_search.search.supervisor import Command

    gpus = _gpus(device)
    argv = [sys.executable, "-m", "atm_search", "worker", "--study", study, "--device", device]
    for option, path in (("--checkpoint", checkpoint), ("--data", data)):
        if path is not None:
            argv += [option, str(path)]
    environment = {"ATM_SEARCH_STORAGE": address}
    if not gpus and THREADS not in os.environ:
        environment[THREADS] = str(max(1, usable_cores() // count))
    return [
        Command(
            [*argv, "--number", str(number)],
            environment | ({VISIBLE: gpus[number % len(gpus)]} if gpus else {}),
        )
        for number in range(count)
    ]


def _gpus(device: str) -> list[str]:
    """GPUs to share out, as CUDA numbers them; none if one device was named."""
    import torch

    if device not in ("auto", "cuda"):
        return []
    named = [gpu for gpu in os.environ.get(VISIBLE, "").split(",") if gpu]
    count = torch.cuda.device_count()
    return (named or [str(gpu) for gpu in range(count)])[:count]
