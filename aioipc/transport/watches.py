"""Waiting for a descriptor, by readiness.

Note to the next reader. A watch is given a `step`: a function that does what can be
done without waiting (one read, one write) and returns whether that is enough. All state
lives in what `step` works on, none in the waiting coroutine, and `step` is the only
place that touches the descriptor. So a cancel at any moment loses nothing: what was
read stays with the object, and the next task finds it there.

On asyncio and uvloop `step` is called by the loop's own callback, and the task goes on
within it; a read watch stays registered between messages, so that a message costs no
`epoll_ctl`. When bytes arrive that no task waits for, the watch
unregisters (the bytes stay in the kernel: that is the backpressure).

trio has no callbacks: the waiting task itself loops over `wait_readable` and `step`.

The loop holds its watches, and a watch holds what `step` belongs to. That must not be
the object in the user's hands, or it could never be collected.
"""

import asyncio
import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from aioipc.errors import ClosedResourceError
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.waiters import DirectFuture

__all__ = ["AsyncioWatch", "Direction", "Step", "TrioWatch", "Watch"]

Direction = Literal["read", "write"]
Step = Callable[[], bool]


def _closed_step() -> bool:
    """Take the place of a `step`, so that a closed watch is in no reference cycle."""
    return False


class Watch(ABC):
    """One direction of one descriptor, on one loop."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        forget_in_forks(self)

    @abstractmethod
    def wait(self) -> Awaitable[None]:
        """Return when `step` has returned True; for one task at a time.

        `step` is called whenever the descriptor is ready, so not before. A cancel
        leaves nothing running.

        :raises ClosedResourceError: if `close` has been called
        """

    @abstractmethod
    def finish(self) -> None:
        """Call `step` until it returns True, with no one waiting.

        For the rest of a message whose sender was cancelled.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop, for good; before the descriptor is closed."""

    @abstractmethod
    def forget(self) -> None:
        """Stop without a system call: this is a fork, and the loop is the parent's."""


class AsyncioWatch(Watch):
    """On asyncio's own loop, and on uvloop."""

    __slots__ = (
        "_closed",
        "_fd",
        "_finishing",
        "_loop",
        "_reading",
        "_registered",
        "_step",
        "_waiter",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, direction: Direction, step: Step
    ) -> None:
        super().__init__()
        self._loop = loop
        self._fd = fd
        self._reading = direction == "read"
        self._step = step
        self._closed = False
        self._registered = False
        self._finishing = False
        self._waiter: DirectFuture | None = None

    def wait(self) -> Awaitable[None]:
        if not self._registered:
            self._register()
        self._waiter = waiter = DirectFuture(loop=self._loop)
        return waiter

    def finish(self) -> None:
        self._finishing = True
        if not self._registered:
            self._register()

    def close(self) -> None:
        self._closed = True
        self._step = _closed_step
        if self._registered:
            self._unregister()
        waiter = self._waiter
        if waiter is not None and not waiter.done() and not self._loop.is_closed():
            waiter.fail(ClosedResourceError("closed while waiting"))

    def forget(self) -> None:
        self._closed = True
        self._registered = False
        self._waiter = None

    def _on_ready(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            if not self._finishing or self._step():
                self._unregister()
        elif self._step():
            if not self._reading:
                self._unregister()
            self._waiter = None
            waiter.resume()

    def _register(self) -> None:
        if self._closed:
            raise ClosedResourceError("closed")
        self._registered = True
        if self._reading:
            self._loop.add_reader(self._fd, self._on_ready)
        else:
            self._loop.add_writer(self._fd, self._on_ready)

    def _unregister(self) -> None:
        self._registered = self._finishing = False
        if self._loop.is_closed():
            return
        if self._reading:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.remove_writer(self._fd)


class TrioWatch(Watch):
    """On trio."""

    __slots__ = ("_closed", "_fd", "_finished", "_ready", "_step", "_trio")

    def __init__(self, fd: int, direction: Direction, step: Step) -> None:
        super().__init__()
        self._trio: Any = sys.modules["trio"]
        lowlevel = self._trio.lowlevel
        self._ready: Callable[[int], Awaitable[None]] = (
            lowlevel.wait_readable if direction == "read" else lowlevel.wait_writable
        )
        self._fd = fd
        self._step = step
        self._closed = False
        self._finished: Any = None  # an event, while a task of our own does the rest

    async def wait(self) -> None:
        if self._finished is None:
            await self._wait()
        else:
            await self._finished.wait()
            self._check_open()

    def finish(self) -> None:
        if self._finished is None:
            self._finished = self._trio.Event()
            self._trio.lowlevel.spawn_system_task(self._finish, self._finished)

    def forget(self) -> None:
        self._closed = True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._step = _closed_step
        # From outside of the loop, or after its end, there is no one to be woken.
        with contextlib.suppress(RuntimeError):
            self._trio.lowlevel.notify_closing(self._fd)

    async def _wait(self) -> None:
        ready, fd = self._ready, self._fd
        while True:
            self._check_open()
            try:
                await ready(fd)
            except self._trio.ClosedResourceError:
                continue
            # Not the step of before: it may have been closed meanwhile.
            if self._step():
                return

    async def _finish(self, finished: Any) -> None:
        # A system task is cancelled when the main task has ended, and not before.
        with contextlib.suppress(ClosedResourceError):
            await self._wait()
        self._finished = None
        finished.set()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError("closed while waiting")
