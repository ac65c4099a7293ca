"""`AsyncQueue`: a `multiprocessing` queue, awaited.

Its other users, in this process and in others, may go on using the plain queue: items
and locks are the standard library's.

One thing is better than there: `put` pickles the item before it returns. A pickling
error is the caller's, and what becomes of the object afterwards does not matter.
"""

import threading
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from multiprocessing.queues import JoinableQueue as StdlibJoinableQueue
from multiprocessing.queues import Queue as StdlibQueue
from multiprocessing.queues import SimpleQueue as StdlibSimpleQueue
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc.bridge.handover import Bridged
from aioipc.bridge.insides.queues import QueueInsides, Tasks
from aioipc.bridge.pickling import dumps_off_loop
from aioipc.errors import ClosedResourceError, QueueEmpty, QueueFull, UndeliveredError
from aioipc.transport.choice import Transport, check_transport
from aioipc.transport.shared import SharedReceiver, SharedSender
from aioipc.transport.threads import ServiceThread, acquire, run_in_thread
from aioipc.transport.turns import Turn
from aioipc.wire.frames import MAX_FRAME_SIZE
from aioipc.wire.pickles import Pickler, TooLarge, dumps_large

__all__ = [
    "AsyncJoinableQueue",
    "AsyncQueue",
    "AsyncSimpleQueue",
    "JoinableQueue",
    "Queue",
    "QueueStatistics",
    "SimpleQueue",
]

T = TypeVar("T")

BURST = 64
"""Items put without a pause before the loop gets its turn."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """The state of an `AsyncQueue` in this process.

    :ivar buffered_items: were taken for a `get` that was cancelled; the next has them
    :ivar unwritten_items: were put, and wait for room in the pipe
    :ivar tasks_getting: are in `get` or one of its like
    :ivar tasks_putting: are in a `put` that waits for a slot
    """

    buffered_items: int
    unwritten_items: int
    tasks_getting: int
    tasks_putting: int


class AsyncQueue(Bridged, ObjectSendStream[T], ObjectReceiveStream[T], Generic[T]):
    """A `multiprocessing.Queue`, awaited; also a pair of anyio object streams.

    Any number of tasks may get and put; those that get are served in the order in which
    they came. It serves one event loop at a time, and others after it.

    A cancelled `get` has taken nothing: the item is there for the next. A cancelled
    `put` has put nothing.

    Get one from `Queue` or `wrap`; it owns the queue, in this process, until `detach`.

    :param queue: not used otherwise in this process meanwhile
    :param transport: how to wait: ``"readiness"``, ``"threads"``, or None for the best
    :param max_message_size: bytes; a longer item is refused as its length arrives
    """

    _kind: type = StdlibQueue

    def __init__(
        self,
        queue: Any,
        *,
        transport: Transport | None = None,
        max_message_size: int = MAX_FRAME_SIZE,
    ) -> None:
        check_transport(transport)
        if not isinstance(queue, self._kind):
            msg = f"{type(self).__name__} wraps a {self._kind.__name__}, not {queue!r}"
            raise TypeError(msg)
        insides = QueueInsides(queue)
        name = f"<queue fd={insides.reader}>"
        self._queue: Any = queue
        self._insides = insides
        self._closed = False
        self._burst = 0
        self._pickler = Pickler()
        self._slot_turn = Turn()
        self._slot_thread = ServiceThread("queue put")
        self._receiver = SharedReceiver(
            insides.reader,
            insides.read_lock,
            insides.slots,
            transport=transport,
            max_size=max_message_size,
            what=name,
        )
        self._sender = SharedSender(insides.writer, insides.write_lock, queue, name)

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove and return an item.

        :param block: whether to wait for one
        :param timeout: seconds to wait at most, for ever if None
        :raises QueueEmpty: if none came
        :raises DecodeError: if the item can't be unpickled; it is removed
        :raises FrameError: if what arrived is no item
        :raises ClosedResourceError: if this queue is closed, now or meanwhile
        """
        if not block:
            return self.get_nowait()
        if timeout is None:
            return await self._receiver.receive_object()
        with anyio.move_on_after(timeout):
            return await self._receiver.receive_object()
        return self.get_nowait()

    async def receive(self) -> T:
        """Remove and return an item: `get`, by anyio's name for it."""
        return await self._receiver.receive_object()

    def get_nowait(self) -> T:
        """Remove and return an item that is there.

        :raises QueueEmpty: if none is, or another process is just taking it
        """
        try:
            return self._receiver.receive_nowait()
        except LookupError:
            raise QueueEmpty("nothing to get") from None

    async def put(
        self, obj: T, block: bool = True, timeout: float | None = None
    ) -> None:
        """Add an item, as it is now.

        :param block: whether to wait for a slot if the queue is full
        :param timeout: seconds to wait at most, for ever if None
        :raises QueueFull: if no slot came free
        :raises ClosedResourceError: if this queue is closed, now or meanwhile
        :raises Exception: what pickling raised; nothing is put then
        """
        self._require_open()
        self._burst += 1
        if self._burst > BURST:
            self._burst = 0
            await anyio.lowlevel.checkpoint()
        try:
            pickled = self._pickler.dumps(obj)
        except TooLarge:
            pickled = await dumps_off_loop(obj)
        self._require_open()
        if not await self._take_slot(block, timeout):
            raise QueueFull("no free slot")
        self._hand_over(obj, pickled)

    async def send(self, item: T) -> None:
        """Add an item: `put`, by anyio's name for it."""
        await self.put(item)

    def put_nowait(self, obj: T) -> None:
        """Add an item if there is a free slot.

        A large object graph is pickled in a thread by `put`, but here, at once.

        :raises QueueFull: if there is none
        """
        self._require_open()
        try:
            pickled = self._pickler.dumps(obj)
        except TooLarge:
            pickled = dumps_large(obj)
        if not self._take_slot_nowait():
            raise QueueFull("no free slot")
        self._hand_over(obj, pickled)

    def until(self, sentinel: T) -> AsyncIterator[T]:
        """Iterate over the items before the first that equals `sentinel`.

        The sentinel is removed, and nothing after it.
        """
        return Until(self, sentinel)

    def qsize(self) -> int:
        """Return how many items are in the queue, in all processes, more or less.

        :raises NotImplementedError: where the platform can't tell, as on macOS
        """
        return self._queue.qsize() + len(self._receiver.frames)

    def empty(self) -> bool:
        """Return whether there is nothing to get, at this moment."""
        return not self._receiver.frames and self._queue.empty()

    def full(self) -> bool:
        """Return whether there is no free slot, at this moment."""
        return self._queue.full()

    def close(self) -> None:
        """Use the queue no more in this process; what was put is still written.

        Tasks that wait get ClosedResourceError. An item that was taken for a `get`
        that was cancelled, and that no other `get` had, is lost, with a RuntimeWarning.
        """
        if not self._closed:
            held = self._held
            self._let_go()
            self._queue.close()
            self._sender.feeder.close(self._insides.close)
            self._warn_of_loss(held)

    async def join_thread(self) -> None:
        """Wait until all that was put is written; only after `close`.

        At the end of the program that is waited for anyway, as with any
        `multiprocessing.Queue`, unless `cancel_join_thread` was called.
        """
        if not self._closed:
            raise ValueError(f"{self!r} is not closed")
        feeder = self._sender.feeder
        await run_in_thread(feeder.join, "join").wait()

    def cancel_join_thread(self) -> None:
        """Let the program end without what is not yet written."""
        self._queue.cancel_join_thread()
        self._sender.feeder.cancel_join()

    async def aclose(self) -> None:
        """Close the queue, and wait until all that was put is written."""
        self.close()
        if self._sender.feeder.backlog:
            await self.join_thread()
        await anyio.lowlevel.checkpoint()

    def detach(self) -> Any:
        """Give the plain queue back as it was, and close this object without it.

        :raises UndeliveredError: if items were taken that no one has, or are not yet
            written; nothing is changed then
        """
        self._require_open()
        state, part = self.statistics(), self._receiver.decoder.in_frame
        if state.buffered_items or state.unwritten_items or part:
            raise UndeliveredError(
                f"{self!r} holds {state.buffered_items + part} items that no one has, "
                f"and {state.unwritten_items} that are not yet written"
            )
        self._let_go()
        self._sender.feeder.close(_nothing)
        return self._queue

    @property
    def sync(self) -> Any:
        """The plain queue, to be handed to a worker."""
        self._require_open()
        return self._queue

    @property
    def closed(self) -> bool:
        """Whether this queue was closed in this process."""
        return self._closed

    def statistics(self) -> QueueStatistics:
        """Return how much is held in this process, and who is waiting."""
        return QueueStatistics(
            buffered_items=len(self._receiver.frames),
            unwritten_items=self._sender.feeder.backlog,
            tasks_getting=self._receiver.tasks,
            tasks_putting=self._slot_turn.tasks,
        )

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._closed:
            return f"<{name} closed>"
        state = self.statistics()
        held = f"buffered={state.buffered_items} unwritten={state.unwritten_items}"
        return f"<{name} fd={self._insides.reader} {held}>"

    def __del__(self) -> None:
        if getattr(self, "_closed", True) is False:
            self._let_go()
            self._sender.feeder.close(_nothing)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedResourceError(f"{self!r}")

    def _let_go(self) -> None:
        self._closed = True
        self._receiver.close()
        self._slot_thread.close()

    @property
    def _held(self) -> int:
        """Items taken from the queue, wholly or in part, that no `get` has had."""
        return len(self._receiver.frames) + self._receiver.decoder.in_frame

    def _warn_of_loss(self, count: int) -> None:
        if count:
            held = f"{count} items that it held for a get"
            warnings.warn(f"{self!r}: {held} are lost", RuntimeWarning, stacklevel=3)

    def _take_slot_nowait(self) -> bool:
        slots = self._insides.slots
        return slots is None or (not self._slot_turn.taken and slots.acquire(False))

    async def _take_slot(self, block: bool, timeout: float | None) -> bool:
        slots, turn = self._insides.slots, self._slot_turn
        if slots is None or self._take_slot_nowait():
            return True
        if not block:
            return False
        with anyio.move_on_after(timeout):
            if turn.taken:
                await turn.wait()
            turn.taken = True
            try:
                await acquire(slots, self._slot_thread)
            finally:
                turn.pass_on()
            return True
        return False

    def _hand_over(self, obj: T, pickled: bytes | list[bytes]) -> None:
        """Put an item that has a slot; it need not be written at once."""
        if self._insides.feeds:
            # Items that were put before we came may still be with that thread.
            self._insides.feed(obj)
        elif not isinstance(pickled, bytes):
            self._sender.feeder.feed(pickled, join_at_exit=True)
        elif not self._sender.send_nowait(pickled):
            self._sender.feeder.feed((pickled,), join_at_exit=True)


def _nothing() -> None:
    """Leave the pipe open."""


class Until(AsyncIterator[T]):
    """The items of a queue before a sentinel."""

    def __init__(self, queue: ObjectReceiveStream[T], sentinel: T) -> None:
        self._queue = queue
        self._sentinel = sentinel
        self._over = False

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        item = await self._queue.receive()
        # An array compares itself with anything, to an array: equal types first.
        if item is self._sentinel or (
            type(item) is type(self._sentinel) and item == self._sentinel
        ):
            self._over = True
            raise StopAsyncIteration
        return item


class AsyncSimpleQueue(AsyncQueue[T]):
    """A `multiprocessing.SimpleQueue`, awaited.

    It is bounded by its pipe alone: `put` waits until the item is written, and a
    cancelled `put` has written all of it or nothing.
    """

    _kind = StdlibSimpleQueue

    async def put(
        self, obj: T, block: bool = True, timeout: float | None = None
    ) -> None:
        if not block:
            self.put_nowait(obj)
            return
        if not await self._put(obj, timeout):
            raise QueueFull(f"no room in the pipe within {timeout} s")

    def put_nowait(self, obj: T) -> None:
        """Add an item that fits into the pipe at once.

        :raises QueueFull: if it does not, or is longer than a page
        """
        self._require_open()
        try:
            pickled = self._pickler.dumps(obj)
        except TooLarge:
            pickled = []
        if not isinstance(pickled, bytes) or not self._sender.send_nowait(pickled):
            raise QueueFull("no room in the pipe")

    def qsize(self) -> int:
        raise NotImplementedError("a SimpleQueue does not count its items")

    def full(self) -> bool:
        """Return whether there is no room in the pipe, at this moment."""
        return not self._sender.has_room()

    def close(self) -> None:
        """Use the queue no more in this process; see `AsyncQueue.close`."""
        if not self._closed:
            held = self._held
            self._let_go()
            self._sender.feeder.close(self._insides.close)
            self._warn_of_loss(held)

    def cancel_join_thread(self) -> None:
        """Do nothing: a `put` that returned is written."""

    async def _put(self, obj: T, timeout: float | None) -> bool:
        self._require_open()
        self._burst += 1
        if self._burst > BURST:
            self._burst = 0
            await anyio.lowlevel.checkpoint()
        try:
            pickled = self._pickler.dumps(obj)
        except TooLarge:
            pickled = await dumps_off_loop(obj)
        self._require_open()
        if not isinstance(pickled, bytes):
            return await self._sender.send(pickled, timeout)
        if self._sender.send_nowait(pickled):
            return True
        return await self._sender.send((pickled,), timeout)


class AsyncJoinableQueue(AsyncQueue[T]):
    """A `multiprocessing.JoinableQueue`, awaited."""

    _kind = StdlibJoinableQueue

    def __init__(
        self,
        queue: Any,
        *,
        transport: Transport | None = None,
        max_message_size: int = MAX_FRAME_SIZE,
    ) -> None:
        super().__init__(queue, transport=transport, max_message_size=max_message_size)
        self._tasks = Tasks(queue)

    async def task_done(self) -> None:
        """Note that an item that was got has been dealt with.

        :raises ValueError: if it is called more often than `put`
        """
        if self._tasks.done_nowait():
            return
        job = run_in_thread(self._queue.task_done, "task_done")
        with anyio.CancelScope(shield=True):
            await job.wait()
        job.result()

    async def join(self) -> None:
        """Wait until every item that was put has been dealt with.

        A cancel leaves nothing waiting.
        """
        given_up = threading.Event()

        def join() -> None:
            while not given_up.is_set() and not self._tasks.join_for_a_while():
                pass

        job = run_in_thread(join, "join")
        try:
            await job.wait()
        finally:
            given_up.set()
        job.result()

    def _hand_over(self, obj: T, pickled: bytes | list[bytes]) -> None:
        # Before the item can be seen, and so without the lock: join() may miss an item
        # that comes at the same time, as with the standard library's.
        self._tasks.add()
        super()._hand_over(obj, pickled)


def Queue(  # noqa: N802 - multiprocessing's name
    maxsize: int = 0,
    *,
    context: BaseContext | None = None,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> AsyncQueue[Any]:
    """Return a `multiprocessing.Queue` to await; in a worker it is the plain queue."""
    queue = (context or get_context()).Queue(maxsize)
    return AsyncQueue(queue, transport=transport, max_message_size=max_message_size)


def JoinableQueue(  # noqa: N802
    maxsize: int = 0,
    *,
    context: BaseContext | None = None,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> AsyncJoinableQueue[Any]:
    """Return a `multiprocessing.JoinableQueue` to await."""
    queue = (context or get_context()).JoinableQueue(maxsize)
    return AsyncJoinableQueue(
        queue, transport=transport, max_message_size=max_message_size
    )


def SimpleQueue(  # noqa: N802
    *,
    context: BaseContext | None = None,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> AsyncSimpleQueue[Any]:
    """Return a `multiprocessing.SimpleQueue` to await."""
    queue = (context or get_context()).SimpleQueue()
    return AsyncSimpleQueue(
        queue, transport=transport, max_message_size=max_message_size
    )
