"""Where it was measured, with what, and who else was using the CPUs meanwhile."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import aioipc

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = (
    "anyio",
    "trio",
    "uvloop",
    "numpy",
    "aiomultiprocess",
    "aioprocessing",
    "distributed",
    "faster-fifo",
    "joblib",
    "loky",
    "mpire",
    "pebble",
    "pyzmq",
    "trio-parallel",
)


def describe() -> dict[str, str | int]:
    """The machine, as far as it matters to a ratio."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def versions() -> dict[str, str]:
    """Python, aioipc as it is imported here, and the packages beside it."""
    own = {"python": platform.python_version(), "aioipc": aioipc.__version__}
    return own | dict(_installed())


def _installed() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            yield package, version(package)


class Bystanders:
    """How many CPUs others have used since this was made: 0.0 on a quiet machine.

    What a hypervisor took for its other guests counts too.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._theirs = _seconds_of_all() - _seconds_of_ours()

    def cpus(self) -> float:
        theirs = _seconds_of_all() - _seconds_of_ours() - self._theirs
        return max(0.0, theirs / (time.monotonic() - self._started))


def _seconds_of_all() -> float:
    """CPU time of the whole machine, see proc_stat(5)."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, line.split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _seconds_of_ours() -> float:
    """CPU time of this process and of all that have ended under it.

    Of those, the kernel counts who was waited for by a parent of ours: `isolation`
    sees to that.
    """
    return sum(os.times()[:4])


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
