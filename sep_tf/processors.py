"""How many processors there are to work with."""

import math
import os
from pathlib import Path

# Control groups, as containers and services have them; version 2, where Linux has had one tree.
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def usable() -> int:
    """Processors that this process may use.

    Those that it is pinned to, and no more than its container or service is given the time of
    (`docker run --cpus=2`).
    """
    # macOS and Windows pin no process to some of them.
    pinned = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    return math.ceil(min(count, _quota()))


def _quota() -> float:
    """Processors whose time the control groups of this process grant; infinite without a limit."""
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return math.inf
    quota = math.inf
    for line in lines:
        if not line.startswith("0::/"):
            continue
        own = _GROUPS / line.removeprefix("0::/")
        for group in (own, *own.parents):
            try:
                time, period = (group / "cpu.max").read_text().split()
                quota = min(quota, int(time) / int(period))
            except (OSError, ValueError):  # none here, or "max"
                continue
    return quota
