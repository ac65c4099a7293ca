"""What a worker writes to stderr: shown on our own, and the end of it kept.

C code that aborts says why on stderr and nowhere else. So a worker's stderr is a pipe,
and what arrives is passed on, in the loop and without blocking it: while our stderr
takes nothing, nothing is read, and the worker waits as it would for its own.
"""

import contextlib
import os
import select
import sys
from typing import TYPE_CHECKING

from aioipc.transport.choice import open_watch
from aioipc.transport.loops import Loop
from aioipc.transport.threads import run_in_thread

if TYPE_CHECKING:
    from aioipc.transport.watches import Watch

__all__ = ["Stderr"]

KEPT = 1 << 12
"""Bytes that are kept for the report of a crash."""

_OURS = 2
_CHUNK = 1 << 14
_ATOMIC = select.PIPE_BUF
"""Bytes that can be written without blocking where `poll` says that some can."""


class Stderr:
    """The coordinator's end of a worker's stderr.

    :param fd: of a pipe, non-blocking; it is closed here
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._has_ended = False
        self._kept = self._unshown = b""
        self._showing: Watch | None = None
        self._reading = open_watch(loop, fd, "read", self._pass_on, None)
        self._reading.finish()

    @property
    def tail(self) -> str:
        """The last that the worker has written, in whole lines if there are some."""
        text = self._kept.decode(errors="replace")
        if len(self._kept) == KEPT:
            text = text.partition("\n")[2] or text
        return text.rstrip()

    def drain(self) -> None:
        """Take in all that is there; when the worker has ended."""
        while self._read():
            pass
        self._show()

    def close(self) -> None:
        """Pass on what there is without the loop, and what may yet come.

        A process that a task has started writes on when the worker has ended.
        """
        for watch in (self._reading, self._showing):
            if watch is not None:
                watch.close()
        self._showing = None
        if self._fd < 0:
            return
        self.drain()
        if (self._has_ended and not self._unshown) or sys.is_finalizing():
            self.forget()
        else:
            fd, rest, self._fd = self._fd, self._unshown, -1
            run_in_thread(lambda: _pass_on_to_the_end(fd, rest), "stderr")

    def forget(self) -> None:
        """Close the pipe only: in a fork, the rest is the parent's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _pass_on(self) -> bool:
        """Read and show some; True if that is all for now."""
        self._read()
        if self._show():
            return self._has_ended
        # By a thread: our stderr is not ours alone, and a loop may change its mode.
        self._showing = open_watch(self._loop, _OURS, "write", self._go_on, "threads")
        self._showing.finish()
        return True

    def _go_on(self) -> bool:
        """Show the rest, and then read on."""
        if not self._show():
            return False
        if not self._has_ended:
            self._reading.finish()
        return True

    def _read(self) -> bool:
        """Read what there is; False if that is nothing."""
        if self._has_ended:
            return False
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        self._has_ended = not data
        self._kept = (self._kept + data)[-KEPT:]
        self._unshown += data
        return not self._has_ended

    def _show(self) -> bool:
        """Write what our stderr takes without blocking; True if that is all."""
        while self._unshown:
            if not _takes_more():
                return False
            try:
                count = os.write(_OURS, self._unshown[:_ATOMIC])
            except BlockingIOError:
                return False
            except OSError:  # there is no one to see it
                count = len(self._unshown)
            self._unshown = self._unshown[count:]
        return True


def _takes_more() -> bool:
    writable = select.poll()
    writable.register(_OURS, select.POLLOUT)
    return bool(writable.poll(0))


def _pass_on_to_the_end(fd: int, data: bytes) -> None:
    """Pass on all that comes; blocking."""
    os.set_blocking(fd, True)
    with contextlib.suppress(OSError):
        while True:
            while data:
                data = data[os.write(_OURS, data) :]
            data = os.read(fd, _CHUNK)
            if not data:
                break
    os.close(fd)
