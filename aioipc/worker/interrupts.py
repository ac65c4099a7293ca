"""Ending the task that is running, and never the next one.

The pool writes the number of a task into a pipe, and the kernel sends this process a
signal (`F_SETSIG`), whatever it is doing. The handler, which Python runs in the main
thread, compares that number with the one of the running task, and raises if it is the
same. C code that does not return is not interrupted so: the pool kills it in the end.

The lifeline is a pipe in which nobody writes, and whose other end is the coordinator's
alone: when that is closed, by whatever end of the coordinator, the kernel kills this
process, even in C code that holds the GIL.
"""

import fcntl
import os
import select
import signal
import struct
from types import FrameType

__all__ = ["IDLE", "Interrupted", "Interrupts", "die_with"]

IDLE = -1
"""The number of no task."""

_SIGNAL = signal.SIGRTMIN + 5  # one that a task is not likely to use
_NUMBER = struct.Struct("!Q")


class Interrupted(BaseException):
    """The pool wants no more of the running task."""


class Interrupts:
    """Raises `Interrupted` in the main thread when the pool asks for it.

    :param fd: a pipe that brings the numbers of tasks
    """

    def __init__(self, fd: int) -> None:
        self._running = IDLE
        self._unwanted = IDLE
        self._fd = fd
        os.set_blocking(fd, False)
        signal.signal(_SIGNAL, self._handle)
        _signal_on_change(fd, _SIGNAL)

    def begin(self, task: int) -> None:
        """Note that a task is about to run; raise if that is unwanted already."""
        self._running = task
        if self._unwanted == task:
            raise Interrupted

    def end(self) -> None:
        """Note that no task runs any more."""
        self._running = IDLE

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        try:
            numbers = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        for (number,) in _NUMBER.iter_unpack(numbers):
            self._unwanted = number
            if number == self._running:
                self._running = IDLE
                raise Interrupted


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
