"""Parting a worker from its parent: descriptors and signals that are not its own."""

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Collection
from multiprocessing import process, resource_tracker
from typing import Any, TextIO

__all__ = [
    "allow_children",
    "drop_descriptors",
    "handle_signals",
    "leave_fork_server",
    "own_streams",
    "resident",
]


def drop_descriptors(keep: Collection[int]) -> None:
    """Give up every descriptor above 2 that is not in `keep`; in a forked worker.

    It has all of its parent's: the channels of other workers, whose end would then
    never come. They are not closed but made to lead nowhere, because objects that are
    inherited from the parent still hold their numbers, and will close them.
    """
    # multiprocessing's helper, which a task may need
    tracker: int | None = resource_tracker._resource_tracker._fd  # type: ignore # noqa: PGH003, SLF001
    kept: set[int | None] = {0, 1, 2, tracker, *keep}
    # Not by pathlib, which a worker has no other use for.
    _lead_nowhere({*map(int, os.listdir("/proc/self/fd"))} - kept)  # noqa: PTH208


def leave_fork_server() -> None:
    """Give up the pipe that the fork server's life hangs on; our own has a lifeline.

    What a task writes there ends the fork server.
    """
    server: Any = sys.modules.get("multiprocessing.forkserver")
    alive = server and server._forkserver._forkserver_alive_fd  # noqa: SLF001
    if alive is not None:
        _lead_nowhere([alive])


def _lead_nowhere(descriptors: Collection[int]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in descriptors:
        with contextlib.suppress(OSError):  # one that has been closed meanwhile
            os.fstat(fd)
            os.dup2(nowhere, fd, inheritable=False)
    os.close(nowhere)


def allow_children() -> None:
    """Let tasks start processes, which multiprocessing denies to daemons as we are one.

    We are one so that a forgotten pool is no reason for its program not to end.
    """
    process.current_process()._config["daemon"] = False  # type: ignore # noqa: PGH003, SLF001


def own_streams() -> None:
    """Have `print` write to our descriptors; in a forked worker.

    What a notebook or a test runner put there leads to the parent's.
    """
    for name, fd in ("stdout", 1), ("stderr", 2):
        stream = getattr(sys, name)
        try:
            is_own = stream is None or stream.fileno() == fd
        except (AttributeError, OSError, ValueError):
            is_own = False
        if not is_own:
            with contextlib.suppress(OSError):  # it is closed
                setattr(sys, name, _stream_on(fd))


def _stream_on(fd: int) -> TextIO:
    return os.fdopen(fd, "w", buffering=1, errors="backslashreplace", closefd=False)


def resident() -> int:
    """Return the bytes of memory that this process has in use for itself.

    The kernel counts as shared what is of a file, be it in memory: arguments that are
    looked at and results that were written, but also libraries. A page of an argument
    that was written to is this process's own from then on, and counts.
    """
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        _, pages, shared, *_ = map(int, file.read().split())
    return (pages - shared) * os.sysconf("SC_PAGESIZE")


def handle_signals(crash_log: int) -> None:
    """Leave Ctrl-C to the coordinator, die of SIGTERM, and write down crashes."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable(crash_log)
