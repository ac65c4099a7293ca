"""Queues, locks, semaphores and events of a cluster, by Dask's own.

They live in the scheduler, under a name. In the coordinator they are awaited; a worker
that gets one as an argument has a blocking object of the same name, of Dask's.

Note to the next reader. Dask can't take back a request that its scheduler has, so a
cancelled one is followed to its end, and what came of it is undone: what a `get` has
taken is for the next one, an acquired lock is released.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from uuid import uuid4

import distributed

from aioipc.dask.remote import dumps
from aioipc.dask.remote_queue import RemoteQueue
from aioipc.errors import QueueEmpty, QueueFull
from aioipc.wire.pickles import loads

if TYPE_CHECKING:
    from aioipc.dask.engine import DaskEngine

__all__ = ["DaskEvent", "DaskLock", "DaskQueue", "DaskSemaphore"]

T = TypeVar("T")

_PATIENCE = 1.0
"""Seconds that a request of a queue waits in the scheduler, before it is made again."""

Here = Callable[[], "DaskEngine"]


class _Shared:
    """What has a name in the scheduler.

    :param here: returns the pool's engine, for one from its loop
    """

    def __init__(self, here: Here, name: str | None) -> None:
        self._here = here
        self.name = name or f"aioipc-{uuid4().hex}"
        self._made: Any = None

    async def _dask(self) -> Any:
        """Return Dask's own object."""
        client = await self._here().connected()
        if self._made is None:
            self._made = self._make(client)
        return await self._made

    def _make(self, client: Any) -> Any:
        raise NotImplementedError

    async def _follow(self, request: Awaitable[T], undo: Callable[[T], object]) -> T:
        """Await a request; if that is cancelled, undo what comes of it."""
        following = self._here().follow(request)
        try:
            return await asyncio.shield(following)
        except asyncio.CancelledError:

            def is_done(task: "asyncio.Future[T]") -> None:
                if not task.cancelled() and task.exception() is None:
                    undo(task.result())

            following.add_done_callback(is_done)
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class DaskQueue(_Shared, Generic[T]):
    """A first-in first-out queue for tasks on all machines.

    Items pass through the scheduler: they should be small. What a worker has taken is
    gone with it if it dies; see `aioipc.Broker` for a queue where it is not.
    """

    def __init__(self, here: Here, maxsize: int = 0, name: str | None = None) -> None:
        super().__init__(here, name)
        self.maxsize = maxsize
        self._held: deque[bytes] = deque()  # taken for waits that were cancelled

    def _make(self, client: Any) -> Any:
        return distributed.Queue(self.name, client=client, maxsize=self.maxsize)

    async def put(self, item: T, timeout: float | None = None) -> None:
        """Put an item, behind all others.

        A cancelled `put` to a full queue may still put its item, within a second.

        :raises QueueFull: if there was no room within `timeout` seconds
        """
        queue, packed = await self._dask(), dumps(item)
        await self._repeat(
            lambda seconds: queue.put(packed, timeout=seconds), bool, timeout, QueueFull
        )

    async def get(self, timeout: float | None = None) -> T:
        """Take the first item.

        What a cancelled `get` took is what the next one here returns.

        :raises QueueEmpty: if there was none within `timeout` seconds
        """
        queue = await self._dask()
        if self._held:
            return loads(self._held.popleft())
        packed = await self._repeat(
            lambda seconds: queue.get(timeout=seconds),
            self._held.append,
            timeout,
            QueueEmpty,
        )
        return loads(packed)

    async def _repeat(
        self,
        request: Callable[[float], Awaitable[Any]],
        undo: Callable[[Any], object],
        timeout: float | None,
        error: type[Exception],
    ) -> Any:
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = _PATIENCE if end is None else min(_PATIENCE, end - monotonic())
            try:
                return await self._follow(request(max(left, 0.001)), undo)
            except TimeoutError:
                if end is not None and monotonic() >= end:
                    raise error(f"{self!r}: {timeout:g} s are over") from None

    async def qsize(self) -> int:
        """Return how many items there are."""
        queue = await self._dask()
        return len(self._held) + int(await queue.qsize())

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteQueue, (self.name, self.maxsize)


class DaskSemaphore(_Shared):
    """A number of permits for tasks on all machines.

    A holder that dies gives its permit back when Dask's `lease-timeout` is over: that
    is 30 s, unless the scheduler is configured otherwise.
    """

    def __init__(self, here: Here, value: int = 1, name: str | None = None) -> None:
        super().__init__(here, name)
        if value < 1:
            raise ValueError("value must be at least 1")
        self._value = value

    def _make(self, client: Any) -> Any:
        return distributed.Semaphore(
            self._value, self.name, scheduler_rpc=client.scheduler, loop=client.loop
        )

    async def acquire(self, timeout: float | None = None) -> bool:
        """Take a permit; False if there was none within `timeout` seconds.

        A cancelled wait has taken none: it is given back at once.
        """
        dask = await self._dask()

        def undo(is_acquired: bool) -> None:
            if is_acquired:
                self._here().follow(dask.release())

        return bool(await self._follow(dask.acquire(timeout=timeout), undo))

    async def release(self) -> None:
        """Give a permit back.

        :raises RuntimeError: if none was taken here
        """
        dask = await self._dask()
        await asyncio.shield(self._here().follow(dask.release()))

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return distributed.Semaphore, (self._value, self.name)


class DaskLock(DaskSemaphore):
    """A lock for tasks on all machines: a semaphore with a single permit."""

    def __init__(self, here: Here, name: str | None = None) -> None:
        super().__init__(here, 1, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return distributed.Lock, (self.name,)


class DaskEvent(_Shared):
    """A flag for tasks on all machines."""

    def _make(self, client: Any) -> Any:
        return distributed.Event(self.name, client=client)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if it was not within `timeout` seconds."""
        event = await self._dask()
        return bool(await event.wait(timeout=timeout))

    async def set(self) -> None:
        """Set it, and wake all that wait."""
        await (await self._dask()).set()

    async def clear(self) -> None:
        """Reset it."""
        await (await self._dask()).clear()

    async def is_set(self) -> bool:
        """Return whether it is set."""
        return bool(await (await self._dask()).is_set())

    def __reduce__(self) -> tuple[Any, ...]:
        return distributed.Event, (self.name,)
