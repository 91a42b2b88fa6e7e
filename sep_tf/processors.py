"""How many processors there are to work with."""

import os


def usable() -> int:
    """Processors that this process may use; where it is pinned, not all there are."""
    # macOS and Windows pin no process to some of them.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
