"""A check that nothing is left behind: processes, threads, descriptors, segments.

What is left is given a moment to go away by itself, because a thread that was told to
end, or a process that was killed, is not gone at once.
"""

import contextlib
import gc
import os
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

__all__ = ["LeakError", "Leaks", "no_leaks"]

Key = TypeVar("Key")

PATIENCE = 3.0
"""Seconds that what is left has to go away."""

# Helpers that others start once and keep: idle threads of trio's, anyio's and Dask's.
_THREADS_OF_OTHERS = (
    *("Trio thread", "AnyIO worker thread", "asyncio_"),
    *("Dask-Offload", "TCP-Executor"),
)


class LeakError(AssertionError):
    """Something was left behind."""


@dataclass(frozen=True)
class Leaks:
    """What this program holds at one moment, or has come to hold since another."""

    processes: dict[int, str] = field(default_factory=dict[int, str])
    threads: dict[int, str] = field(default_factory=dict[int, str])
    descriptors: dict[tuple[str, str], str] = field(
        default_factory=dict[tuple[str, str], str]
    )
    segments: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def now(cls) -> Self:
        """Look."""
        return cls(_children(), _threads(), _descriptors(), _segments())

    def since(self, earlier: "Leaks") -> "Leaks":
        """Return what is here and was not there."""
        return Leaks(
            _difference(self.processes, earlier.processes),
            _difference(self.threads, earlier.threads),
            _difference(self.descriptors, earlier.descriptors),
            _difference(self.segments, earlier.segments),
        )

    def __bool__(self) -> bool:
        return any((self.processes, self.threads, self.descriptors, self.segments))

    def __str__(self) -> str:
        lines = [
            f"{kind} {key}: {what}"
            for kind, found in vars(self).items()
            for key, what in found.items()
        ]
        return "\n".join(lines) or "nothing"


@contextlib.contextmanager
def no_leaks(patience: float = PATIENCE) -> Generator[None]:
    """Raise LeakError if the block leaves anything behind.

    Linux only: it looks into `/proc` and `/dev/shm`.

    :param patience: seconds that what is left has to go away
    """
    before = Leaks.now()
    yield
    deadline = time.monotonic() + patience
    while left := Leaks.now().since(before):
        gc.collect()
        if time.monotonic() > deadline:
            raise LeakError(f"left behind:\n{left}")
        time.sleep(0.01)


def _difference(now: dict[Key, str], earlier: dict[Key, str]) -> dict[Key, str]:
    return {key: what for key, what in now.items() if key not in earlier}


def _children() -> dict[int, str]:
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in map(int, (task / "children").read_text().split()):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return found


def _threads() -> dict[int, str]:
    return {
        thread.ident or 0: thread.name
        for thread in threading.enumerate()
        if not thread.name.startswith(_THREADS_OF_OTHERS)
    }


def _descriptors() -> dict[tuple[str, str], str]:
    # A number can be taken again at once, so what it stands for belongs to the key.
    found: dict[tuple[str, str], str] = {}
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are enough
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            if not target.startswith("/proc/"):
                found[fd, target] = "open"
    return found


def _segments() -> dict[str, str]:
    # Those that this program or a child has mapped: others use /dev/shm as well.
    found: dict[str, str] = {}
    for process in (os.getpid(), *_children()):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/maps").read_text().splitlines():
                _, _, name = line.partition("/dev/shm/")  # noqa: S108
                if name and not name.endswith("(deleted)"):
                    found[name] = "in /dev/shm"
    return found
