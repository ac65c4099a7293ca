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
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar
from uuid import uuid4

import distributed

from aioipc.dask.remote import dumps
from aioipc.dask.remote_queue import RemoteQueue
from aioipc.dask.scheduler import Kind, Left, settle
from aioipc.errors import (
    BrokenResourceError,
    ClosedResourceError,
    QueueEmpty,
    QueueFull,
)
from aioipc.wire.pickles import loads

if TYPE_CHECKING:
    from aioipc.dask.engine import DaskEngine

__all__ = [
    "PATIENCE",
    "DaskEvent",
    "DaskLock",
    "DaskQueue",
    "DaskSemaphore",
    "Kept",
    "Owner",
]

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that a request waits in the scheduler, before it is made again."""


class Kept:
    """What a pool keeps of something shared, until it leaves it.

    :ivar made: Dask's own object, once there is one
    :ivar held: items that were taken out of a queue, and that no one awaits any more
    """

    def __init__(self, kind: Kind, name: str | None) -> None:
        self.kind: Kind = kind
        self.name = name or f"aioipc-{uuid4().hex}"
        self.has_name = name is not None
        self.made: Any = None
        self.held: deque[bytes] = deque()

    def left(self) -> Left:
        """Return what is to be put in order."""
        leases = list(getattr(self.made, "_leases", ()))
        return Left(self.kind, self.name, not self.has_name, list(self.held), leases)

    def drop(self) -> None:
        """Do nothing more about it."""
        refreshing = getattr(self.made, "refresh_callback", None)
        if refreshing is not None:
            refreshing.stop()
        self.made = None
        self.held.clear()


class Owner(NamedTuple):
    """The pool of something shared.

    :ivar here: returns its engine, for one from its loop
    :ivar kept: of all that it shares
    """

    here: "Callable[[], DaskEngine]"
    kept: set[Kept]


class Shared:
    """What has a name in the scheduler.

    :param name: that other programs know it by; without one it ends with the pool
    """

    _kind: ClassVar[Kind]

    def __init__(self, owner: Owner, name: str | None) -> None:
        self._here, self._all_kept = owner
        self._kept = Kept(self._kind, name)
        self._all_kept.add(self._kept)
        self._engine: DaskEngine  # whose client it is made by
        self._started: asyncio.Future[Any]

    @property
    def name(self) -> str:
        """By which the scheduler knows it."""
        return self._kept.name

    async def aclose(self) -> None:
        """End it for all, those that wait as well: in a worker they raise."""
        engine = self._here()
        client = await engine.connected()
        left = self._kept.left()._replace(ends=True)
        self._kept.drop()
        self._all_kept.discard(self._kept)
        await self._answer(engine.request(client.run_on_scheduler(settle, "", [left])))

    async def _dask(self) -> Any:
        """Return Dask's own object."""
        engine = self._here()
        client = await engine.connected()
        if self._kept.made is None:
            self._engine, self._kept.made = engine, self._make(client)
            self._started = engine.request(self._start(self._kept.made))
        await self._answer(self._started)
        return self._kept.made

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
        engine.check_connected()
        seconds = min(PATIENCE, end - monotonic())
        return engine.request(request(max(seconds, 0.001)))

    async def _answer(
        self, asked: "asyncio.Future[T]", undo: Callable[[T], object] | None = None
    ) -> T:
        """Await a request; if that is cancelled, see to it that it is undone."""
        try:
            if not asked.done():
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
            self._here().check_connected()
            raise BrokenResourceError("Dask's scheduler can't be reached") from error
        return asked.result()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a worker makes one that blocks."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class DaskQueue(Shared, Generic[T]):
    """A first-in first-out queue for tasks on all machines.

    Items pass through the scheduler: they should be small. What a worker has taken is
    gone with it if it dies; see `aioipc.Broker` for a queue where it is not.
    """

    _kind = "queues"

    def __init__(self, owner: Owner, maxsize: int = 0, name: str | None = None) -> None:
        super().__init__(owner, name)
        self.maxsize = maxsize
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
        closed puts it back.

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
                self._kept.held.appendleft(waiter.result())
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
        self._kept.held.append(packed)
        self._serve()

    def _serve(self) -> None:
        """Give what is here to those that wait, in their order."""
        while self._kept.held and self._waiters:
            waiter = self._waiters.popleft()
            waiter.set_result(self._kept.held.popleft())

    async def qsize(self) -> int:
        """Return how many items there are."""
        queue = await self._dask()
        size = await self._answer(self._here().request(queue.qsize()))
        return len(self._kept.held) + int(size)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteQueue, (self.name, self.maxsize)


class DaskSemaphore(Shared):
    """A number of permits for tasks on all machines.

    A holder that dies gives its permit back when Dask's `lease-timeout` is over: that
    is 30 s, unless the scheduler is configured otherwise. A pool that is closed gives
    back what was acquired here.
    """

    _kind = "semaphores"

    def __init__(self, owner: Owner, value: int = 1, name: str | None = None) -> None:
        super().__init__(owner, name)
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
        if self._kept.made is None:
            self._here().check_connected()
            raise RuntimeError(f"{self!r} was not acquired here")
        # At once: who has been cancelled can't await anything before.
        await self._answer(self._engine.request(self._kept.made.release()))

    def _give_back(self, _acquired: bool) -> None:
        if self._kept.made is not None:
            self._engine.request(self._kept.made.release())

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with suppress(ClosedResourceError):  # with the pool it was released
            await self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return distributed.Semaphore, (self._value, self.name)


class DaskLock(DaskSemaphore):
    """A lock for tasks on all machines: a semaphore with a single permit."""

    def __init__(self, owner: Owner, name: str | None = None) -> None:
        super().__init__(owner, 1, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return distributed.Lock, (self.name,)


class DaskEvent(Shared):
    """A flag for tasks on all machines."""

    _kind = "events"

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

    def __reduce__(self) -> tuple[Any, ...]:
        return distributed.Event, (self.name,)


def _when_granted(asked: "asyncio.Future[T]", use: Callable[[T], object]) -> None:
    def is_done(asked: "asyncio.Future[T]") -> None:
        if not asked.cancelled() and asked.exception() is None:
            use(asked.result())

    asked.add_done_callback(is_done)


def _end_of(timeout: float | None) -> float:
    return float("inf") if timeout is None else monotonic() + timeout
