"""Queues, locks, semaphores and events of a cluster, by Dask's own.

They live in the scheduler, under a name. In the coordinator they are awaited; a worker
that gets one as an argument has a blocking object of the same name, of Dask's.

Note to the next reader. Dask can't take back a request that its scheduler has. So none
waits there for long: it is made again. What comes of one that no one awaits any more is
undone: what a `get` has taken is for the next one, an acquired lock is released.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from uuid import uuid4

import distributed

from aioipc.dask.remote import dumps
from aioipc.dask.remote_queue import RemoteQueue
from aioipc.errors import BrokenResourceError, QueueEmpty, QueueFull
from aioipc.wire.pickles import loads

if TYPE_CHECKING:
    from aioipc.dask.engine import DaskEngine

__all__ = ["PATIENCE", "DaskEvent", "DaskLock", "DaskQueue", "DaskSemaphore", "Shared"]

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that a request waits in the scheduler, before it is made again."""

Here = Callable[[], "DaskEngine"]


class Shared:
    """What has a name in the scheduler.

    :param here: returns the pool's engine, for one from its loop
    :param name: that other programs know it by; without one it ends with the pool
    """

    def __init__(self, here: Here, name: str | None) -> None:
        self._here = here
        self._is_named = name is not None
        self.name = name or f"aioipc-{uuid4().hex}"
        self._engine: DaskEngine | None = None  # whose client `_made` has
        self._made: Any = None
        self._started: asyncio.Future[Any]
        self._is_elsewhere = False  # whether a task has been given it

    async def _dask(self) -> Any:
        """Return Dask's own object."""
        engine = self._here()
        client = await engine.connected()
        if self._engine is not engine:
            self._engine, self._made = engine, self._make(client)
            self._started = engine.request(self._start(self._made))
        await self._answer(self._started)
        return self._made

    def _make(self, client: Any) -> Any:
        raise NotImplementedError

    def _start(self, made: Any) -> Awaitable[object]:
        """Return how to have the scheduler know it."""
        return made

    async def _ask(
        self,
        request: Callable[[float], Awaitable[T]],
        timeout: float | None,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Make a request until it is granted.

        :param request: for so many seconds; raises TimeoutError if they were too few
        :param undo: takes what is granted when no one awaits it any more
        :raises TimeoutError: if it was not granted within `timeout` seconds
        """
        end = _end_of(timeout)
        while True:
            try:
                return await self._answer(self._request(request, end), undo)
            except TimeoutError:
                if monotonic() >= end:
                    raise

    def _request(
        self, request: Callable[[float], Awaitable[T]], end: float
    ) -> "asyncio.Future[T]":
        engine = self._here()
        engine.check()
        seconds = min(PATIENCE, end - monotonic())
        return engine.request(request(max(seconds, 0.001)))

    async def _answer(
        self, asked: "asyncio.Future[T]", undo: Callable[[T], object] | None = None
    ) -> T:
        """Await a request; if that is cancelled, see to it that it is undone."""
        try:
            await asyncio.wait({asked})
        except asyncio.CancelledError:
            if undo is not None:
                _when_granted(asked, undo)
            raise
        return self._result(asked)

    def _result(self, asked: "asyncio.Future[T]") -> T:
        """Return what came of a request; say what has ended it, if it was not granted.

        :raises TimeoutError: if it waited for too long
        :raises ClosedResourceError: if the pool is closed
        :raises BrokenResourceError: if there is no scheduler any more
        """
        error = None if asked.cancelled() else asked.exception()
        is_over = asked.cancelled() or isinstance(error, OSError)
        if is_over and not isinstance(error, TimeoutError):
            self._here().check()
            raise BrokenResourceError("Dask's scheduler can't be reached") from error
        return asked.result()

    async def end(self, client: Any) -> None:
        """Leave it to others, or end it if it has no name, before the client closes."""
        made = self._made
        if made is None and self._is_elsewhere and not self._is_named:
            made = self._make(client)
            await self._start(made)
        self._engine = self._made = None
        if made is not None:
            await self._let_go(made)

    async def _let_go(self, made: Any) -> None:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        self._is_elsewhere = True
        return self._plain()

    def _plain(self) -> tuple[Any, ...]:
        """Return how a worker makes one that blocks."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class DaskQueue(Shared, Generic[T]):
    """A first-in first-out queue for tasks on all machines.

    Items pass through the scheduler: they should be small. What a worker has taken is
    gone with it if it dies; see `aioipc.Broker` for a queue where it is not.
    """

    def __init__(self, here: Here, maxsize: int = 0, name: str | None = None) -> None:
        super().__init__(here, name)
        self.maxsize = maxsize
        self._held: deque[bytes] = deque()  # that no one awaits any more
        self._waiters: deque[asyncio.Future[bytes]] = deque()

    def _make(self, client: Any) -> Any:
        return distributed.Queue(self.name, client=client, maxsize=self.maxsize)

    def _start(self, made: Any) -> Awaitable[object]:
        return made._started  # noqa: SLF001 - to await it makes, and counts, it again

    async def put(self, item: T, timeout: float | None = None) -> None:
        """Put an item, behind all others.

        A cancelled `put` to a full queue may still put its item, within a second.

        :raises QueueFull: if there was no room within `timeout` seconds
        """
        queue, packed = await self._dask(), dumps(item)
        try:
            await self._ask(lambda left: queue.put(packed, timeout=left), timeout)
        except TimeoutError:
            raise QueueFull(f"{self!r}: {timeout:g} s are over") from None

    async def get(self, timeout: float | None = None) -> T:
        """Take the first item.

        What a cancelled `get` took is what the next one here returns; a pool that is
        closed puts it back, behind all others.

        :raises QueueEmpty: if there was none within `timeout` seconds
        """
        queue, end = await self._dask(), _end_of(timeout)
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._serve()
        try:
            while not waiter.done():
                asked = self._request(lambda left: queue.get(timeout=left), end)
                _when_granted(asked, self._hold)
                await asyncio.wait({asked, waiter}, return_when="FIRST_COMPLETED")
                if not waiter.done():
                    self._look_at(asked, end, timeout)
        except BaseException:
            if waiter.done():
                self._held.appendleft(waiter.result())
                self._serve()
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        return loads(waiter.result())

    def _look_at(
        self, asked: "asyncio.Future[bytes]", end: float, timeout: float | None
    ) -> None:
        """Raise if nothing will come any more."""
        try:
            self._result(asked)
        except TimeoutError:
            if monotonic() >= end:
                raise QueueEmpty(f"{self!r}: {timeout:g} s are over") from None

    def _hold(self, packed: bytes) -> None:
        self._held.append(packed)
        self._serve()

    def _serve(self) -> None:
        """Give what is here to those that wait, in their order."""
        while self._held and self._waiters:
            waiter = self._waiters.popleft()
            waiter.set_result(self._held.popleft())

    async def qsize(self) -> int:
        """Return how many items there are."""
        queue = await self._dask()
        size = await self._answer(self._here().request(queue.qsize()))
        return len(self._held) + int(size)

    async def _let_go(self, made: Any) -> None:
        while self._held and self._is_named:
            await made.put(self._held.popleft())
        if not self._is_named:
            await made.client.run_on_scheduler(_end_queue, self.name)

    def _plain(self) -> tuple[Any, ...]:
        return RemoteQueue, (self.name, self.maxsize)


class DaskSemaphore(Shared):
    """A number of permits for tasks on all machines.

    A holder that dies gives its permit back when Dask's `lease-timeout` is over: that
    is 30 s, unless the scheduler is configured otherwise. A pool that is closed gives
    back what was acquired here.
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

        A cancelled wait takes none: one that comes too late is given back at once.
        """
        dask = await self._dask()

        async def acquire(left: float) -> bool:
            if not await dask.acquire(timeout=left):
                raise TimeoutError
            return True

        try:
            return await self._ask(acquire, timeout, self._give_back)
        except TimeoutError:
            return False

    async def release(self) -> None:
        """Give a permit back.

        :raises RuntimeError: if none was taken here
        """
        dask = await self._dask()
        await self._answer(self._here().request(dask.release()))

    def _give_back(self, _acquired: bool) -> None:
        if self._engine is not None:
            self._engine.request(self._made.release())

    async def _let_go(self, made: Any) -> None:
        made.refresh_callback.stop()
        while made._leases:  # noqa: SLF001
            await made.release()
        if not self._is_named:
            await made.close()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.release()

    def _plain(self) -> tuple[Any, ...]:
        return distributed.Semaphore, (self._value, self.name)


class DaskLock(DaskSemaphore):
    """A lock for tasks on all machines: a semaphore with a single permit."""

    def __init__(self, here: Here, name: str | None = None) -> None:
        super().__init__(here, 1, name)

    def _plain(self) -> tuple[Any, ...]:
        return distributed.Lock, (self.name,)


class DaskEvent(Shared):
    """A flag for tasks on all machines."""

    def _make(self, client: Any) -> Any:
        return distributed.Event(self.name, client=client)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if it was not within `timeout` seconds."""
        event = await self._dask()

        async def wait(left: float) -> bool:
            if not await event.wait(timeout=left):
                raise TimeoutError
            return True

        try:
            return await self._ask(wait, timeout)
        except TimeoutError:
            return False

    async def set(self) -> None:
        """Set it, and wake all that wait."""
        event = await self._dask()
        await self._answer(self._here().request(event.set()))

    async def clear(self) -> None:
        """Reset it."""
        event = await self._dask()
        await self._answer(self._here().request(event.clear()))

    async def is_set(self) -> bool:
        """Return whether it is set."""
        event = await self._dask()
        return bool(await self._answer(self._here().request(event.is_set())))

    async def _let_go(self, made: Any) -> None:
        if not self._is_named:  # the scheduler forgets one that is not set
            await made.clear()

    def _plain(self) -> tuple[Any, ...]:
        return distributed.Event, (self.name,)


def _end_queue(name: str, dask_scheduler: Any) -> None:
    """Have the scheduler forget a queue, however many workers have known it."""
    queues = dask_scheduler.extensions["queues"]
    while name in queues.queues:
        queues.release(name)


def _when_granted(asked: "asyncio.Future[T]", use: Callable[[T], object]) -> None:
    def is_done(asked: "asyncio.Future[T]") -> None:
        if not asked.cancelled() and asked.exception() is None:
            use(asked.result())

    asked.add_done_callback(is_done)


def _end_of(timeout: float | None) -> float:
    return float("inf") if timeout is None else monotonic() + timeout
