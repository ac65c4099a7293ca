"""What this process may use of the machine, by its affinity and its cgroup."""

import contextlib
import math
import os

__all__ = ["usable_cpus", "usable_memory"]

_CPU = "/sys/fs/cgroup/cpu.max"
_MEMORY = "/sys/fs/cgroup/memory.max"


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    count = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # there is no limit
        quota, period = map(int, _read(_CPU).split())
        count = min(count, math.ceil(quota / period))
    return max(1, count)


def usable_memory() -> int:
    """Return how many bytes of memory this process may use, with all others."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(_read(_MEMORY)))
    return memory


def _read(path: str) -> str:
    # Not by pathlib, which takes longer to import than a pool to open.
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        return file.read()
