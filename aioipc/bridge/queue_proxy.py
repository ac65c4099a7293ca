"""`AsyncQueueProxy`: a queue that lives in a `multiprocessing.Manager`, awaited.

Every call is a message to the manager's process and back, over a connection that
belongs to the calling thread. So this object has threads of its own for its calls: one
for those that take, one for those that put and one for all others. Every method that
asks the manager is awaited, also `qsize` and `get_nowait`.
"""

import contextlib
import math
import queue as stdlib_queue
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc.bridge.handover import Bridged
from aioipc.bridge.queue import Until
from aioipc.errors import (
    BrokenResourceError,
    ClosedResourceError,
    QueueEmpty,
    QueueFull,
    UndeliveredError,
)
from aioipc.transport.threads import Job, ServiceThread, run_in_thread
from aioipc.transport.turns import Turn

__all__ = ["AsyncQueueProxy"]

T = TypeVar("T")
R = TypeVar("R")

SLICE = 0.2
"""Seconds that one call waits in the manager: how long a thread outlives its use."""


class AsyncQueueProxy(Bridged, ObjectSendStream[T], ObjectReceiveStream[T], Generic[T]):
    """A manager's queue, awaited; also a pair of anyio object streams.

    A cancelled `get` has taken nothing: an item that was already on its way is kept
    for the next `get`. A cancelled `put` has put the item or not.

    Get one from `wrap`.
    """

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy
        self._closed = False
        self._turn = Turn()
        self._taker = ServiceThread("manager get")
        self._putter = ServiceThread("manager put")
        self._caller = ServiceThread("manager call")
        self._taking: Job[T] | None = (
            None  # for a `get`, perhaps one that was cancelled
        )

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove and return an item.

        :raises QueueEmpty: if none came within `timeout` seconds
        :raises BrokenResourceError: if the manager is gone
        """
        if not block:
            return await self.get_nowait()
        with anyio.move_on_after(timeout):
            return await self._get()
        raise QueueEmpty(f"nothing to get within {timeout} s")

    async def receive(self) -> T:
        """Remove and return an item: `get`, by anyio's name for it."""
        return await self._get()

    async def get_nowait(self) -> T:
        """Remove and return an item that is there, or raise QueueEmpty."""
        self._require_open()
        job = self._taking
        if self._turn.taken or (job is not None and not job.done):
            raise QueueEmpty("nothing to get")
        self._turn.taken = True
        try:
            if job is None:
                self._taking = job = self._taker.submit(lambda: self._proxy.get(False))
            await job.wait()
            self._taking = None
            return _outcome(job)
        finally:
            self._turn.pass_on()

    async def put(
        self, obj: T, block: bool = True, timeout: float | None = None
    ) -> None:
        """Add an item.

        :raises QueueFull: if no slot came free within `timeout` seconds
        :raises BrokenResourceError: if the manager is gone
        """
        if not block:
            timeout = 0
        # Timed by the manager: a call that we gave up could still put the item.
        deadline = anyio.current_time() + (math.inf if timeout is None else timeout)
        while True:
            left = max(0, deadline - anyio.current_time())
            try:
                wait = min(left, SLICE)
                await self._call(self._proxy.put, obj, True, wait, by=self._putter)
            except QueueFull:
                if left <= SLICE:
                    raise
            else:
                return

    async def send(self, item: T) -> None:
        """Add an item: `put`, by anyio's name for it."""
        await self.put(item)

    async def put_nowait(self, obj: T) -> None:
        """Add an item if there is a free slot, or raise QueueFull."""
        await self._call(self._proxy.put, obj, False)

    def until(self, sentinel: T) -> AsyncIterator[T]:
        """Iterate over the items before the first that equals `sentinel`."""
        return Until(self, sentinel)

    async def qsize(self) -> int:
        """Return how many items are in the queue."""
        return await self._call(self._proxy.qsize)

    async def empty(self) -> bool:
        """Return whether there is nothing to get."""
        return await self._call(self._proxy.empty)

    async def full(self) -> bool:
        """Return whether there is no free slot."""
        return await self._call(self._proxy.full)

    async def task_done(self) -> None:
        """Note that an item that was got has been dealt with."""
        await self._call(self._proxy.task_done)

    async def join(self) -> None:
        """Wait until every item that was put has been dealt with.

        The manager offers no end to that: a cancel leaves a thread waiting there.
        """
        self._require_open()
        job = run_in_thread(self._proxy.join, "manager join")
        await job.wait()
        _outcome(job)

    def close(self) -> None:
        """Use the queue no more here; its manager keeps it.

        An item on its way to a `get` that was cancelled is put back, at the end.
        """
        if self._closed:
            return
        self._closed = True
        job, self._taking = self._taking, None
        if job is not None and not self._turn.taken:
            put_back = self._proxy.put
            job.then(lambda: job.succeeded and put_back(job.result()))
        self._taker.close()
        self._putter.close()
        self._caller.close()

    async def aclose(self) -> None:
        """Close: see `close`."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def detach(self) -> Any:
        """Give the proxy back, and close this object.

        :raises UndeliveredError: if a cancelled `get` may have taken an item
        """
        self._require_open()
        if self._taking is not None:
            raise UndeliveredError(f"{self!r} may hold an item that no one has")
        self.close()
        return self._proxy

    @property
    def sync(self) -> Any:
        """The proxy, to be handed to a worker."""
        self._require_open()
        return self._proxy

    @property
    def closed(self) -> bool:
        """Whether this object was closed."""
        return self._closed

    def __repr__(self) -> str:
        return f"<AsyncQueueProxy {'closed' if self._closed else repr(self._proxy)}>"

    def __del__(self) -> None:
        if getattr(self, "_closed", True) is False:
            self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedResourceError("the queue is closed")

    async def _get(self) -> T:
        if self._turn.taken:
            await self._turn.wait()
        self._turn.taken = True
        try:
            while True:
                self._require_open()
                job = self._taking
                if job is None:
                    job = self._taker.submit(lambda: self._proxy.get(True, SLICE))
                    self._taking = job
                await job.wait()
                self._taking = None
                with contextlib.suppress(QueueEmpty):
                    return _outcome(job)
        finally:
            self._turn.pass_on()

    async def _call(
        self, method: Callable[..., R], *args: Any, by: ServiceThread | None = None
    ) -> R:
        self._require_open()
        job = (by or self._caller).submit(lambda: method(*args))
        await job.wait()
        return _outcome(job)


def _outcome(job: Job[R]) -> R:
    """Return the result of a call to a manager, its errors in our words."""
    try:
        return job.result()
    except stdlib_queue.Empty:
        raise QueueEmpty("nothing to get") from None
    except stdlib_queue.Full:
        raise QueueFull("no free slot") from None
    except (EOFError, OSError) as error:
        raise BrokenResourceError("the manager is gone") from error
