"""The broker's queues, awaited: `BrokerQueue` and `BrokerDeque`."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc.bridge.handover import Bridged
from aioipc.broker.parking import LocalGetter, LocalPutter, Parking
from aioipc.broker.remote import Spec, rebuild
from aioipc.broker.remote_queue import RemoteDeque, RemoteQueue
from aioipc.broker.services import ABSENT, QueueService
from aioipc.broker.shelves import Item
from aioipc.broker.store import Store
from aioipc.errors import (
    ClosedResourceError,
    DecodeError,
    EventLoopError,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
)
from aioipc.transport.loops import Loop, running_loop
from aioipc.transport.spin import Spin
from aioipc.transport.threads import run_in_thread
from aioipc.wire.parts import LARGE
from aioipc.wire.pickles import loads, loads_large
from aioipc.wire.shutdown import ShutDown

__all__ = ["BrokerDeque", "BrokerQueue", "BrokerQueueStatistics"]

T = TypeVar("T")

BURST = 64
"""Items got or put without a pause before the loop gets its turn."""


@dataclass(frozen=True, slots=True)
class BrokerQueueStatistics:
    """The state of a `BrokerQueue`.

    :ivar items: that no one has taken
    :ivar items_sent: those of them that wait with a worker, which is busy
    :ivar leased: that workers have, or will have next, on lease
    :ivar unfinished: items put, for which `task_done` has not been called
    :ivar getting: tasks and workers that wait for an item
    :ivar putting: tasks and workers that wait for room
    :ivar workers: that take items
    """

    items: int
    items_sent: int
    leased: int
    unfinished: int
    getting: int
    putting: int
    workers: int


class BrokerQueue(Bridged, ObjectSendStream[T], ObjectReceiveStream[T], Generic[T]):
    """A queue that lives here; in a worker it is a `RemoteQueue`, which blocks.

    Any number of tasks and workers may get and put; they are served in the order in
    which they came. Items that are put and got here are not pickled; those that a
    worker gets are when they are sent to it, and should not be changed until then.

    A cancelled `get` has taken nothing: the item is there for the next, in its place. A
    cancelled `put` has put the item, or not. What a worker has put is here when its
    `put` returns. An item that was sent to a worker which dies before its `get` has
    taken it goes to the next, in its place.

    Make one by `Broker.Queue`, `LifoQueue` or `PriorityQueue`.
    """

    _remote: type[RemoteQueue[Any]] = RemoteQueue

    def __init__(
        self, loop: Loop, spec: Spec, store: Store, drop: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._spec = spec
        self._store = store
        self._left = not spec.traits.is_lifo
        self._mark = loop.mark  # see `running_loop`
        self._burst = 0
        self._spin = Spin()
        self._eager = False
        self._closed = False
        self._sync: RemoteQueue[T] | None = None
        self._drop = drop  # from the broker
        self._service = QueueService(loop, spec.number, store, spec.traits)

    @property
    def maxsize(self) -> int:
        """How many items there may be; 0 for any number."""
        return self._store.maxsize

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove and return an item.

        :param timeout: seconds to wait at most, for ever if None
        :raises QueueEmpty: if none came
        :raises QueueShutDown: if there is none, and never will be
        :raises DecodeError: if it can't be unpickled; it is removed
        :raises ClosedResourceError: if the broker is closed, now or meanwhile
        """
        return await self._get(self._left, timeout if block else 0)

    async def receive(self) -> T:
        """Remove and return an item: `get`, by anyio's name for it."""
        return await self._get(self._left, None)

    def get_nowait(self) -> T:
        """Remove and return an item that is there, or raise QueueEmpty."""
        return self._get_nowait(self._left)

    async def get_many(self, most: int, timeout: float | None = None) -> list[T]:
        """Remove and return at least one item, and at most `most`.

        :param timeout: seconds to wait at most, for ever if None
        :raises QueueEmpty: if none came
        :raises QueueShutDown: if there is none, and never will be
        """
        if most < 1:
            raise ValueError("most must be at least 1")
        await self._pause()
        return await self._load(await self._wait_to_get(most, self._left, timeout))

    async def put(
        self, obj: T, block: bool = True, timeout: float | None = None
    ) -> None:
        """Add an item.

        :param timeout: seconds to wait for room at most, for ever if None
        :raises QueueFull: if there was none
        :raises QueueClosed: if the queue is shut down, now or meanwhile
        :raises TypeError: if it can't be compared with the first one, by priority
        :raises ClosedResourceError: if the broker is closed, now or meanwhile
        """
        await self._put(obj, timeout if block else 0)

    async def send(self, item: T) -> None:
        """Add an item: `put`, by anyio's name for it."""
        await self._put(item, None)

    def put_nowait(self, obj: T) -> None:
        """Add an item if there is room, or raise QueueFull."""
        self._put_nowait(obj, left=False)

    async def put_many(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Add items, one after the other.

        A cancel, or the end of the time, leaves those put for which there was room.

        :raises QueueFull: if there was no room for all of them in time
        :raises QueueClosed: if the queue is shut down, now or meanwhile
        """
        await self._pause()
        await self._wait_to_put([*map(Item, items)], False, timeout)

    def task_done(self) -> None:
        """Note that an item has been dealt with.

        :raises ValueError: if it is called more often than `put`
        """
        self._require_loop()
        self._store.task_done()

    async def join(self) -> None:
        """Wait until every item that was put has been dealt with."""
        self._require_open()
        joiners = self._store.joiners
        parking = Parking(self._loop)
        if self._store.unfinished:
            joiners[parking.go_on] = None
            try:
                await parking.wait()
            finally:
                joiners.pop(parking.go_on, None)
            self._require_open()
        else:
            await anyio.lowlevel.checkpoint()

    def qsize(self) -> int:
        """Return how many items no one has taken."""
        return self._store.qsize()

    def empty(self) -> bool:
        """Return whether there is nothing to get."""
        return not self._store.qsize()

    def full(self) -> bool:
        """Return whether there is no room."""
        return self._store.is_full

    def shutdown(self, immediate: bool = False) -> None:
        """Let no more be put; with `immediate`, drop what is in the queue.

        Whoever gets has the rest, and then QueueShutDown; `async for` ends. What a
        worker puts before it hears of this is taken in. As in Python 3.13.
        """
        self._require_loop()
        self._store.shutdown(immediate=immediate)
        self._service.tell_of_shutdown()

    async def aclose(self) -> None:
        """Shut the queue down; if there is nothing in it, have the broker forget it.

        That is if it is empty, nothing may come back, and workers have called
        `task_done` for all that they got; call this once more when it is so. It has its
        name no more then, and workers that use it hear that the broker does not know
        it. What the last of them have just put is dropped.
        """
        self.shutdown()
        if self._store.is_over:
            self._drop()
            self._service.tell_of_end()
            self._sync = None
        await anyio.lowlevel.checkpoint()

    def _close(self) -> None:
        """Have all who wait here fail; for the broker, which is closed."""
        self._closed = True
        self._drop = bool  # the broker is in no reference cycle
        self._store.shutdown(immediate=True)
        while self._store.joiners:
            self._store.joiners.popitem()[0]()

    @property
    def sync(self) -> RemoteQueue[T]:
        """What a worker gets: it blocks."""
        if self._sync is None:
            self._sync = rebuild(self._remote, self._spec)
        return self._sync

    def statistics(self) -> BrokerQueueStatistics:
        """Return who waits for whom."""
        store = self._store
        sent = sum(loan.untaken() for loan in store.hoards)
        leases = sum(len(consumer.leases or ()) for consumer in store.consumers)
        return BrokerQueueStatistics(
            items=len(store.shelf) + sent,
            items_sent=sent,
            leased=max(0, leases - sent),
            unfinished=store.unfinished,
            getting=len(store.getters),
            putting=len(store.putters),
            workers=len(store.consumers),
        )

    def __repr__(self) -> str:
        store = self._store
        state = " closed" * self._closed or " shut down" * store.is_shut
        bound = f"/{store.maxsize}" if store.maxsize else ""
        return f"<{type(self).__name__} {store.qsize()}{bound} items{state}>"

    # How

    async def _get(self, left: bool, timeout: float | None) -> T:
        self._burst += 1
        if self._burst > BURST:
            await self._pause()
        item = self._take(left)
        if item is not None:
            pickled = item.pickled
            if pickled is None or len(pickled) < LARGE:
                return _value(item)
            self._store.on_the_way += 1
            return (await self._load([item]))[0]
        if timeout is not None and timeout <= 0:
            raise QueueEmpty("nothing to get")
        items = await self._wait_to_get(1, left, timeout)
        return (await self._load(items))[0]

    def _take(self, left: bool) -> Item | None:
        """Remove and return an item that is there."""
        if self._closed or running_loop() is not self._mark:
            self._require_open()
        try:
            return self._store.get_nowait(left=left)
        except ShutDown:
            raise QueueShutDown("the queue is shut down, and empty") from None

    async def _wait_to_get(
        self, most: int, left: bool, timeout: float | None
    ) -> list[Item]:
        """Return at least one item, which is on the way until `_load` has it."""
        self._require_open()
        store, service = self._store, self._service
        if self._eager and service.is_looked_at and self._look() and most == 1:
            item = self._take(left)
            if item is not None:
                store.on_the_way += 1
                return [item]
        getter = LocalGetter(self._loop, most, left=left)
        store.wait_to_get(getter)
        since = perf_counter()
        try:
            if timeout is None:
                await getter.parking.wait()
            else:
                with anyio.move_on_after(timeout):
                    await getter.parking.wait()
        except BaseException:
            if not store.withdraw_getter(getter):
                store.give_back(getter.items)
            raise
        if getter.items:
            alone = service.is_served()
            self._eager = self._spin.looped(perf_counter() - since, alone=alone)
            return getter.items
        if store.withdraw_getter(getter):
            raise QueueEmpty(f"nothing to get within {timeout} s")
        self._require_open()
        raise QueueShutDown("the queue is shut down, and empty")

    def _look(self) -> bool:
        """Look for an item, for a little while, before the loop sleeps."""
        os.sched_yield()  # to whoever wants this CPU
        if self._service.look():
            self._spin.left -= 1
            self._eager = self._spin.left > 0
            return True
        found = self._spin.look(self._service.look)
        self._eager = self._spin.again
        return found

    async def _load(self, items: list[Item]) -> list[T]:
        """Return the values of items; large ones are unpickled by a thread.

        If this is cancelled, they go back to their places. Of several, those go back
        that are not to blame if it fails.
        """
        store = self._store
        if sum(len(item.pickled or b"") for item in items) >= LARGE:
            job = run_in_thread(lambda: [*map(_load, items)], "loads")
            try:
                await job.wait()
            except BaseException:
                store.give_back(items)
                raise
        values: list[T] = []
        for item in items:
            try:
                values.append(_value(item))
            except BaseException:
                store.give_back([other for other in items if other is not item])
                store.arrive(1)
                raise
        store.arrive(len(items))
        return values

    def _get_nowait(self, left: bool) -> T:
        item = self._take(left)
        if item is None:
            raise QueueEmpty("nothing to get")
        return _value(item)

    def _put_nowait(self, obj: T, *, left: bool) -> None:
        if not self._add(Item(obj), left):
            raise QueueFull("no room")

    async def _put(self, obj: T, timeout: float | None, *, left: bool = False) -> None:
        self._burst += 1
        if self._burst > BURST:
            await self._pause()
        item = Item(obj)
        if not self._add(item, left):
            if timeout is not None and timeout <= 0:
                raise QueueFull("no room")
            await self._wait_to_put([item], left, timeout)

    def _add(self, item: Item, left: bool) -> bool:
        """Add an item if there is room."""
        if self._closed or running_loop() is not self._mark:
            self._require_open()
        try:
            return self._store.put_nowait(item, left=left)
        except ShutDown:
            raise QueueClosed("the queue is shut down") from None

    async def _wait_to_put(
        self, items: list[Item], left: bool, timeout: float | None
    ) -> None:
        self._require_open()
        store, putter = self._store, LocalPutter(self._loop, items, left=left)
        try:
            store.wait_to_put(putter)
            with anyio.move_on_after(timeout):
                await putter.parking.wait()
        except ShutDown:
            raise QueueClosed("the queue is shut down") from None
        except BaseException:
            store.withdraw_putter(putter)
            raise
        if putter.parking.is_over and putter.error is None:
            return
        if store.withdraw_putter(putter):
            raise QueueFull(f"no room within {timeout} s")
        self._require_open()
        if isinstance(putter.error, ShutDown):
            raise QueueClosed("the queue was shut down")
        assert putter.error is not None
        raise putter.error

    async def _pause(self) -> None:
        self._burst = 0
        await anyio.lowlevel.checkpoint()

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedResourceError("the broker is closed")
        self._require_loop()

    def _require_loop(self) -> None:
        """Be in the thread of the loop; afterwards nothing goes wrong any more."""
        if not (self._closed or self._loop.is_current()):
            raise EventLoopError("a queue of a broker is used outside of its loop")


class BrokerDeque(BrokerQueue[T]):
    """A queue with two ends that lives here; in a worker it is a `RemoteDeque`.

    `get` takes from the left, and `put` adds at the right, as with a FIFO queue.
    """

    _remote = RemoteDeque

    async def append(self, obj: T, timeout: float | None = None) -> None:
        """Add an item at the right end: `put`."""
        await self._put(obj, timeout)

    async def appendleft(self, obj: T, timeout: float | None = None) -> None:
        """Add an item at the left end, where `get` takes the next."""
        await self._put(obj, timeout, left=True)

    async def pop(self, timeout: float | None = None) -> T:
        """Remove and return the item at the right end.

        :raises QueueEmpty: if none came
        """
        return await self._get(False, timeout)

    async def popleft(self, timeout: float | None = None) -> T:
        """Remove and return the item at the left end: `get`."""
        return await self._get(True, timeout)

    def pop_nowait(self) -> T:
        """Remove and return the item at the right end, or raise QueueEmpty."""
        return self._get_nowait(False)

    def popleft_nowait(self) -> T:
        """Remove and return the item at the left end, or raise QueueEmpty."""
        return self._get_nowait(True)

    def append_nowait(self, obj: T) -> None:
        """Add an item at the right end if there is room, or raise QueueFull."""
        self._put_nowait(obj, left=False)

    def appendleft_nowait(self, obj: T) -> None:
        """Add an item at the left end if there is room, or raise QueueFull."""
        self._put_nowait(obj, left=True)


def _value(item: Item) -> Any:
    value = item.value
    if value is ABSENT:
        assert item.pickled is not None
        try:
            return loads(item.pickled)
        except Exception as error:
            raise DecodeError(f"an item can't be unpickled: {error}") from error
    if type(value) is _Unloadable:
        error = value.error
        raise DecodeError(f"an item can't be unpickled: {error}") from error
    return value


def _load(item: Item) -> None:
    """Unpickle an item; in a thread."""
    if item.value is ABSENT:
        try:
            item.value = loads_large(item.pickled or b"")
        except BaseException as error:  # noqa: BLE001 - whatever a class raises
            item.value = _Unloadable(error)


class _Unloadable:
    """What takes the place of a value that can't be had."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
