"""What a forked child must not touch: its parent's event loop, threads and signals.

A fork shares the parent's epoll descriptor and alarm pipes. If an object of the parent
is collected in the child, and tidies up there, it does so in the parent's loop. And it
has the parent's signal handlers: a SIGTERM to the worker would be taken for one to the
parent, through the wake-up descriptor, and not end the worker.
"""

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Generator
from multiprocessing import process
from multiprocessing.util import register_after_fork
from typing import Any, Protocol

__all__ = ["forget_in_forks", "starting"]


class Forgetful(Protocol):
    """Something that belongs to one process."""

    def forget(self) -> None:
        """Become as if never used, without a system call; in a forked child."""
        ...


_process: Any = process
_cleanup = _process._cleanup  # noqa: SLF001

_alive: "weakref.WeakSet[Forgetful]" = weakref.WeakSet()

forget_in_forks = _alive.add
"""Have the `forget` of an object called in every child that is forked from now on."""


# A child that is forked in one thread while another thread starts a process inherits
# the pipes that tell of that process's death, and keeps them open.
_starting = threading.Lock()


@contextlib.contextmanager
def starting() -> Generator[None]:
    """Keep other threads from starting a process meanwhile.

    `Process.start` also polls all other processes. In a thread that does it at the same
    time as the loop, and the fork server's exit codes can be read but once: the second
    one takes the process's end for the server's, and says 255.
    """
    with _starting:
        _process._cleanup = _nothing  # noqa: SLF001
        try:
            yield
        finally:
            _process._cleanup = _cleanup  # noqa: SLF001


def _nothing() -> None:
    """Take the place of the polling."""


def _forget_all() -> None:
    global _starting  # noqa: PLW0603 - whoever held it does not exist in a fork
    _starting = threading.Lock()
    _process._cleanup = _cleanup  # noqa: SLF001
    for obj in list(_alive):
        obj.forget()


os.register_at_fork(after_in_child=_forget_all)


def _handle_signals_as_a_worker(_: object) -> None:
    if signal.set_wakeup_fd(-1) == -1:
        return  # no event loop handles signals here
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    owner = getattr(signal.getsignal(signal.SIGTERM), "__module__", None) or ""
    if owner.partition(".")[0] in {"asyncio", "uvloop"}:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# multiprocessing's own hook, which runs in its workers only: another fork may be the
# program going on as a daemon.
register_after_fork(_handle_signals_as_a_worker, _handle_signals_as_a_worker)
