"""Ending the task that is running, and never the next one.

The pool writes the number of a task into a pipe, and the kernel sends this process a
signal (`F_SETSIG`), whatever it is doing. The handler, which Python runs in the main
thread, compares that number with the one of the running task, and raises if it is the
same. C code that does not return is not interrupted so: the pool kills it in the end.

The lifeline is a pipe in which nobody writes, and whose other end is the coordinator's
alone: when that is closed, by whatever end of the coordinator, the kernel kills this
process, even in C code that holds the GIL.
"""

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

__all__ = ["IDLE", "Interrupted", "Interrupts", "die_with", "safe_point"]

IDLE = -1
"""The number of no task."""

_NONE = -2  # as if of a task, but no one runs it

_SIGNAL = signal.SIGRTMIN + 5  # one that a task is not likely to use
_UNBROKEN = {
    __name__,
    "aioipc.memory.looks",
    "aioipc.broker.descriptors",
    "aioipc.broker.link",
    "aioipc.broker.basket",
    "aioipc.broker.releasing",
    "aioipc.broker.ring",
}
_PAUSE = 0.001  # seconds
_NUMBER = struct.Struct("!Q")


class Interrupted(BaseException):
    """The pool wants no more of the running task."""


class Interrupts:
    """Raises `Interrupted` in the main thread when the pool asks for it.

    :param fd: a pipe that brings the numbers of tasks
    """

    def __init__(self, fd: int) -> None:
        self._running = IDLE
        self._unwanted = _NONE
        self._has_raised = False  # in the running task
        self._fd = fd
        os.set_blocking(fd, False)
        self._report = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable
        signal.signal(_SIGNAL, self._handle)
        _signal_on_change(fd, _SIGNAL)

    def begin(self, task: int) -> None:
        """Note that a task is about to run; raise if that is unwanted already."""
        self._running = task
        self._has_raised = False
        _deferred.clear()
        if self._unwanted == task:
            raise Interrupted

    def end(self) -> None:
        """Note that no task runs any more."""
        self._running = IDLE

    def _handle(self, _signal: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            for (number,) in _NUMBER.iter_unpack(os.read(self._fd, 4096)):
                self._unwanted = number
                if number == self._running:
                    break
        if self._unwanted != self._running or self._has_raised:
            return
        if _is_unbroken(frame):
            _deferred[:] = [self.raise_if_unwanted]
            _raise_soon()
            return
        self._has_raised = True
        raise Interrupted

    def raise_if_unwanted(self) -> None:
        """Raise if the running task is unwanted, and has not been told."""
        if self._unwanted == self._running and not self._has_raised:
            self._has_raised = True
            raise Interrupted

    def _on_unraisable(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Try again if it was raised where Python can only print it.

        That is in a finalizer, say, or in what is done before and after a fork.
        """
        if isinstance(unraisable.exc_value, Interrupted):
            self._has_raised = False
            _raise_soon()
        else:
            self._report(unraisable)


_deferred: list[Callable[[], None]] = []


def safe_point() -> None:
    """Raise what was put off while code ran that must not stop halfway.

    For what does little else: it may be there whenever the handler is called again.
    """
    if _deferred and threading.current_thread() is threading.main_thread():
        _deferred.pop()()


def _raise_soon() -> None:
    """Have the handler called again, and not from here, where it would be again."""
    main = threading.get_ident()

    def call() -> None:
        time.sleep(_PAUSE)
        # A signal of the kernel's: by then it may wait in a system call.
        signal.pthread_kill(main, _SIGNAL)

    with contextlib.suppress(RuntimeError):  # no thread: it is killed in the end
        threading.Thread(target=call, name="aioipc interrupt", daemon=True).start()


def _is_unbroken(frame: FrameType | None) -> bool:
    """Whether code of ours runs that must not stop halfway."""
    while frame is not None:
        if frame.f_globals.get("__name__") in _UNBROKEN:
            return True
        frame = frame.f_back
    return False


def die_with(lifeline: int) -> None:
    """Have the kernel kill this process when the lifeline's other end is closed."""
    _signal_on_change(lifeline, signal.SIGKILL)
    hung_up = select.poll()
    hung_up.register(lifeline, 0)  # POLLHUP is always told
    if hung_up.poll(0):  # before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _signal_on_change(fd: int, number: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, number)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
