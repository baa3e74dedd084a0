"""How many cores there are to work with."""

import os


def usable_cores() -> int:
    """Cores this process may use; on a shared machine there may be more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
