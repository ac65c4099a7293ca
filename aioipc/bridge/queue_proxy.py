"""`AsyncQueueProxy`: a queue that lives in a `multiprocessing.Manager`, awaited.

Every call is a message to the manager's process and back. Those that wait there borrow
a line, one for all that take and one for all that put: see `lines.py`.
Every method that asks the manager is awaited, also `qsize` and `get_nowait`.
"""

import contextlib
import math
import queue as stdlib_queue
import threading
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc.bridge.proxy import WaitingProxy, awaitable, stands_for
from aioipc.bridge.queue import Until
from aioipc.bridge.slices import SLICE, in_slices
from aioipc.errors import ClosedResourceError, QueueEmpty, QueueFull, UndeliveredError
from aioipc.transport.threads import Job
from aioipc.transport.turns import Turn

__all__ = ["AsyncQueueProxy"]

T = TypeVar("T")
R = TypeVar("R")


@stands_for("queue")
class AsyncQueueProxy(
    WaitingProxy, ObjectSendStream[T], ObjectReceiveStream[T], Generic[T]
):
    """A manager's queue, awaited; also a pair of anyio object streams.

    A cancelled `get` has taken nothing: an item that was already on its way is kept
    for the next `get`. A cancelled `put` has put the item, or will until the next call,
    or will not: that call waits for it, for up to 0.2 s.

    Get one from a manager or `wrap`.
    """

    def forget(self) -> None:
        super().forget()
        # For a `get`, perhaps one that was cancelled
        self._taking: Job[T] | None = None
        # Of a `put` that was cancelled; it may still happen
        self._late_put: Job[bool] | None = None

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove and return an item.

        :raises QueueEmpty: if none came within `timeout` seconds
        :raises BrokenResourceError: if the manager is gone
        """
        if not block or (timeout is not None and timeout <= 0):
            return await self.get_nowait()
        with anyio.move_on_after(timeout):
            return await self._get()
        raise QueueEmpty(f"nothing to get within {timeout} s")

    async def receive(self) -> T:
        """Remove and return an item: `get`, by anyio's name for it."""
        return await self._get()

    async def get_nowait(self) -> T:
        """Remove and return an item that is there, or raise QueueEmpty."""
        self._open()
        self._settle()
        job, turn = self._taking, self._getters
        if turn.taken or (job is not None and not job.done):
            raise QueueEmpty("nothing to get")
        turn.taken = True
        try:
            await self._end_late_put()
            if job is None:
                self._taking = job = self._take(False)
            await job.wait()
            self._taking = None
            return _outcome(job)
        finally:
            turn.pass_on()

    async def put(
        self, obj: T, block: bool = True, timeout: float | None = None
    ) -> None:
        """Add an item.

        :raises QueueFull: if no slot came free within `timeout` seconds
        :raises BrokenResourceError: if the manager is gone
        """
        if not block or (timeout is not None and timeout <= 0):
            return await self.put_nowait(obj)
        self._settle()
        turn = self._putters
        with anyio.move_on_after(timeout) as scope:
            if turn.taken:
                await turn.wait()
            turn.taken = True
            try:
                await self._end_late_put()
                # The manager times the rest: what we gave up could still be put.
                left, scope.deadline = scope.deadline - anyio.current_time(), math.inf
                if not scope.cancel_called:
                    return await self._put(obj, left)
            finally:
                turn.pass_on()
        raise QueueFull(f"no free slot within {timeout} s")

    async def send(self, item: T) -> None:
        """Add an item: `put`, by anyio's name for it."""
        await self.put(item)

    async def put_nowait(self, obj: T) -> None:
        """Add an item if there is a free slot, or raise QueueFull."""
        await self._call("put", obj, False)

    def until(self, sentinel: T) -> AsyncIterator[T]:
        """Iterate over the items before the first that equals `sentinel`."""
        return Until(self, sentinel)

    async def qsize(self) -> int:
        """Return how many items are in the queue."""
        return await self._call("qsize")

    async def empty(self) -> bool:
        """Return whether there is nothing to get."""
        return await self._call("empty")

    async def full(self) -> bool:
        """Return whether there is no free slot."""
        return await self._call("full")

    async def task_done(self) -> None:
        """Note that an item that was got has been dealt with."""
        await self._call("task_done")

    async def join(self) -> None:
        """Wait until every item that was put has been dealt with.

        The manager offers no end to that: a cancel leaves a thread waiting there.
        """
        await self._end_late_put()
        insides = self._open()
        job = self._lines.call_apart(insides, insides.proxy.join)
        await job.wait()
        job.result()

    def close(self) -> None:
        """Use the queue no more here; its manager keeps it.

        An item on its way to a `get` that was cancelled is put back, at the end.
        """
        if self._closed:
            return
        job, self._taking = self._taking, None
        if job is not None and not self._getters.taken:
            insides, lines = self._insides, self._lines

            def put_back() -> None:
                if job.succeeded:
                    lines.call_apart(insides, lambda: insides.proxy.put(job.result()))

            job.then(put_back)
        super().close()

    def detach(self) -> Any:
        """Give the proxy back, and close this object.

        :raises UndeliveredError: if a cancelled `get` may have taken an item
        """
        self._open()
        if self._taking is not None:
            raise UndeliveredError(f"{self!r} may hold an item that no one has")
        return super().detach()

    async def _get(self) -> T:
        self._settle()
        turn = self._getters
        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            await self._end_late_put()
            while True:
                self._open()
                job = self._taking
                if job is None:
                    self._taking = job = self._take(True, SLICE)
                await job.wait()
                self._taking = None
                with contextlib.suppress(QueueEmpty):
                    return _outcome(job)
        finally:
            turn.pass_on()

    def _take(self, *args: Any) -> Job[T]:
        insides = self._open()
        return self._lines.call_apart(
            insides, lambda: awaitable(insides.proxy.get(*args))
        )

    async def _put(self, obj: T, seconds: float) -> None:
        insides, given_up = self._open(), threading.Event()

        def attempt(left: float) -> bool:
            try:
                insides.proxy.put(obj, True, left)
            except stdlib_queue.Full:
                return False
            return True

        def put() -> bool:
            return in_slices(
                attempt, seconds, lambda: given_up.is_set() or self._closed
            )

        job = self._lines.call_apart(insides, put)
        try:
            await job.wait()
        except BaseException:
            given_up.set()
            self._late_put = job
            raise
        if not job.result():
            if self._closed:
                raise ClosedResourceError(f"{self!r} was closed while a task waited")
            raise QueueFull("no free slot")

    async def _end_late_put(self) -> None:
        """Let a cancelled `put` happen before what comes now, or never."""
        job = self._late_put
        if job is not None:
            await job.wait()
            if self._late_put is job:
                self._late_put = None

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        await self._end_late_put()
        try:
            return await super()._call(method, *args, **kwargs)
        except stdlib_queue.Full:
            raise QueueFull("no free slot") from None

    def _forget_tasks(self) -> None:
        self._getters = Turn()
        self._putters = Turn()


def _outcome(job: Job[R]) -> R:
    """Return the result of a `get`, its error in our words."""
    try:
        return job.result()
    except stdlib_queue.Empty:
        raise QueueEmpty("nothing to get") from None
