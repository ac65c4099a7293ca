"""`wait`: which of several objects are ready, as `multiprocessing.connection.wait`.

The descriptors may be anyone's, so their flags are not ours to change (uvloop's
`add_reader` would make them non-blocking, for every process that shares them). So the
loop watches an epoll descriptor of our own that contains them.
"""

import contextlib
import os
import select
from collections.abc import Iterable
from typing import Generic, Protocol, Self, TypeVar

import anyio
import anyio.lowlevel

from aioipc.bridge.connection import AsyncConnection
from aioipc.bridge.insides.processes import is_served_by_forkserver
from aioipc.bridge.listener import AsyncListener
from aioipc.bridge.process import AsyncProcess
from aioipc.transport.choice import open_watch
from aioipc.transport.loops import current_loop

__all__ = ["wait"]


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """Return it."""
        ...


W = TypeVar("W", bound=HasFileno | AsyncProcess | int)


async def wait(object_list: Iterable[W], timeout: float | None = None) -> list[W]:
    """Wait until one or more objects are ready, and return those, in the given order.

    An `AsyncConnection` is ready if a whole message, or the end, can be received; a
    listener if there is a client, which may still have the handshake before it; a
    process if it has ended; everything else if its descriptor is readable.

    Nothing is taken from any of them, nor are they changed. They must stay open
    meanwhile. A cancel leaves nothing behind.

    :param object_list: also plain Connections, sockets, descriptors, and what has a
        `fileno`
    :param timeout: seconds; for ever if None, not at all if 0 or less
    :returns: empty if none was ready in time
    :raises ValueError: for what has no descriptor, or a process that was not started
    """
    with _Objects(list(object_list)) as objects:
        await anyio.lowlevel.checkpoint()
        if objects.look() or (timeout is not None and timeout <= 0):
            return objects.ready
        watch = open_watch(current_loop(), objects.fileno(), "read", objects.look, None)
        try:
            with anyio.move_on_after(timeout):
                await watch.wait()
        finally:
            watch.close()
        if not objects.ready:
            objects.look()  # for the last time
        return objects.ready


class _Objects(Generic[W]):
    """The objects, and an epoll descriptor that is readable when one may be ready."""

    def __init__(self, objects: list[W]) -> None:
        self._objects = objects
        self._pairs: list[tuple[W, int]] = []
        self._always: set[int] = set()  # the kernel can't wait for files
        self.ready: list[W] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._epoll = stack.enter_context(select.epoll())
            self._pairs = [(obj, _fileno(obj, stack)) for obj in self._objects]
            for fd in {fd for _, fd in self._pairs}:
                try:
                    self._epoll.register(fd, select.EPOLLIN)
                except PermissionError:
                    self._always.add(fd)
            listeners = [
                obj for obj, _ in self._pairs if isinstance(obj, AsyncListener)
            ]
            if listeners:
                self._hear(listeners, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def fileno(self) -> int:
        """Return the descriptor to be watched."""
        return self._epoll.fileno()

    def look(self) -> bool:
        """Note which objects are ready; True if any."""
        readable = {fd for fd, _ in self._epoll.poll(0)} | self._always
        self.ready = [obj for obj, fd in self._pairs if _is_ready(obj, fd in readable)]
        return bool(self.ready)

    def _hear(
        self, listeners: list[AsyncListener], stack: contextlib.ExitStack
    ) -> None:
        """Be told of clients whose handshake ends: no descriptor tells of that."""
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        stack.callback(os.close, bell)
        self._epoll.register(bell, select.EPOLLIN)

        def ring() -> None:
            os.eventfd_write(bell, 1)

        for listener in listeners:
            listener.on_ready.add(ring)
            stack.callback(listener.on_ready.discard, ring)


def _fileno(obj: HasFileno | AsyncProcess | int, stack: contextlib.ExitStack) -> int:
    if isinstance(obj, AsyncProcess):
        return _process_fd(obj, stack)
    try:
        fd = obj if isinstance(obj, int) else obj.fileno()
    except AttributeError:
        raise ValueError(f"{obj!r} has no descriptor") from None
    if fd < 0:
        raise ValueError(f"{obj!r} has no descriptor: {fd}")
    return fd


def _process_fd(process: AsyncProcess, stack: contextlib.ExitStack) -> int:
    """Return what is readable at its end; the sentinel may be its children's, too."""
    sentinel = process.sentinel
    if process.exitcode is not None or is_served_by_forkserver(process.sync):
        return sentinel
    assert process.pid is not None
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:  # another thread is just reaping it
        return sentinel
    stack.callback(os.close, fd)
    return fd


def _is_ready(obj: HasFileno | AsyncProcess | int, readable: bool) -> bool:
    match obj:
        case AsyncConnection():
            # What is there for another task will be gone before we could tell.
            others = readable and obj.statistics().tasks_receiving > 0
            return obj.is_ready() or others
        case AsyncListener():
            return readable or obj.is_ready()
        case AsyncProcess():
            return readable or obj.exitcode is not None
        case _:
            return readable
