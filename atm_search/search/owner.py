"""Which process runs a trial, and whether it is certainly gone."""

import os
import secrets
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

OWNER = "atm_search:owner"
"""System attribute of a trial: the process that made it, or took it from the queue."""

PROC = Path("/proc")


def signature() -> dict[str, Any]:
    """This process, and a token that tells one of its writes from another."""
    process = {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}
    return process | {"token": secrets.token_hex(8)}


def is_dead(owner: Mapping[str, Any] | None) -> bool:
    """Whether the owner of a trial ran on this machine and runs no more.

    False where that cannot be known: on another machine or in another container, without /proc,
    or if nothing was written. A stopped process is alive.
    """
    if not owner or owner.get("host") is None or owner["host"] != _host():
        return False
    return bool(_started(owner["pid"]) != owner["started"])


@cache
def _host() -> str | None:
    """This machine since its last start, and the namespace of its process numbers."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None if it does not run."""
    try:
        # The name in parentheses may hold anything; the state and 19 fields more come after it.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
