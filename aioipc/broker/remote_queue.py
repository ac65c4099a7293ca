"""A broker's queues as a worker has them: blocking, with the standard library's names.

They import neither anyio nor asyncio, and raise the standard library's errors.
"""

import contextlib
import pickle
import queue
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from aioipc.broker.basket import Ask, Basket, Baskets
from aioipc.broker.link import SMALL, Link
from aioipc.broker.remote import RemoteObject, Spec
from aioipc.broker.waiting import ask, call, deadline_in, flush, send, wait
from aioipc.wire.broker import Kind, encode_lot
from aioipc.wire.pickles import Pickler, TooLarge, dumps_large, is_plain, loads
from aioipc.wire.shutdown import ShutDown
from aioipc.worker.ends import around_tasks, at_task_end
from aioipc.worker.interrupts import safe_point

__all__ = ["RemoteDeque", "RemoteQueue"]

T = TypeVar("T")

LOOK = 5e-5
"""Seconds after which a put looks whether the queue has been shut down."""

MOST = 4096
"""Items that `get_many` takes at a time, at most."""

LOT = 256
"""Items that `put_many` sends at a time."""

_PUT = Kind.PUT.value
_SIDES = b"\0", b"\1"  # right and left


class RemoteQueue(RemoteObject, Generic[T]):
    """A queue of a `Broker`, in a worker: FIFO, LIFO or by priority.

    Any number of threads may use it.

    :raises BrokenPipeError: from each method, if the broker is gone
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._traits = spec.traits
        self._must_wait = spec.traits.is_bounded or spec.traits.is_ordered
        self._left = not spec.traits.is_lifo

    def forget(self) -> None:
        super().forget()
        self._baskets: Baskets | None = None
        self._pickling = threading.RLock()
        self._pickler = Pickler()

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Remove and return an item.

        :param timeout: seconds to wait at most, for ever if None
        :raises queue.Empty: if none came
        :raises ShutDown: if there is none, and never will be
        :raises Exception: what unpickling raised; the item is removed, and counts as
            got: `task_done` is due
        """
        timeout = timeout if block else 0
        return self._get_one(timeout, left=self._left)

    def get_nowait(self) -> T:
        """Remove and return an item that is there, or raise queue.Empty."""
        return self.get(block=False)

    def get_many(self, most: int, timeout: float | None = None) -> list[T]:
        """Remove and return at least one item, and at most `most`.

        :raises queue.Empty: if none came
        :raises ShutDown: if there is none, and never will be
        :raises Exception: what unpickling one of them raised; that one is removed, and
            the others are got next
        """
        if most < 1:
            raise ValueError("most must be at least 1")
        basket, first, pickles = self._get(most, timeout, left=self._left)
        items: list[T] = []
        try:
            items.extend(map(loads, pickles))  # as far as it goes
        except Exception:
            basket.put_back(first, pickles, but=len(items))
            raise
        except BaseException:
            basket.put_back(first, pickles)
            raise
        return items

    @contextlib.contextmanager
    def lease(self, block: bool = True, timeout: float | None = None) -> Generator[T]:
        """Get an item for the time of a `with` block; for queues with `ack="manual"`.

        ::

            with jobs.lease() as job:
                results.put(work(job))

        That is `task_done` for this item at the end, or `give_back` if it raises.

        :raises ValueError: if the queue has `ack="auto"`
        :raises Exception: what `get` raises
        """
        self._require_leases()
        timeout = timeout if block else 0
        basket, number, (pickled,) = self._get(1, timeout, left=self._left)
        try:
            item = loads(pickled)
        except Exception:
            basket.end_lease(number, Kind.DONE)
            raise
        try:
            yield item
        except BaseException:
            with contextlib.suppress(BrokenPipeError):  # it has gone back already
                basket.end_lease(number, Kind.BACK)
                flush(basket.link)
            raise
        basket.end_lease(number, Kind.DONE)
        flush(basket.link)

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Add an item. When this returns it is the broker's, whatever becomes of us.

        However little time it has, it waits until it could tell the broker: that is
        long if the broker's loop is so busy that the connection is full.

        :param timeout: seconds to wait for room in the queue at most, for ever if None
        :raises queue.Full: if there was none
        :raises ShutDown: if the queue is shut down
        """
        self._put(obj, timeout if block else 0)

    def put_nowait(self, obj: T) -> None:
        """Add an item if there is room, or raise queue.Full."""
        self._put(obj, 0)

    def put_many(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Add items, one after the other.

        :raises queue.Full: if there was no room for all of them in time; those before
            are put
        """
        deadline = deadline_in(timeout)
        source = iter(items)
        while some := [self._dumps(item) for item in islice(source, LOT)]:
            link = self._open_to_put()
            lot = encode_lot(some)
            if self._must_wait:
                ask(link, Kind.PUT_WAIT, self._number, [_SIDES[0], *lot], deadline)
            else:
                send(link, Kind.PUT_ALL, self._number, 0, lot)

    def task_done(self) -> None:
        """Note that an item has been dealt with.

        With `ack="manual"` it is the one that this thread got last. Of several that one
        `get_many` has brought it is the first; after all of them, it is what the thread
        got before.

        :raises ValueError: if it is called more often than `get`
        """
        baskets = self._open()
        if self._traits.is_manual:
            self._end_lease(baskets, Kind.DONE)
        elif baskets.left.count_done() or baskets.right.count_done():
            send(baskets.link, Kind.DONE, self._number)
        else:
            self._call("task_done")  # of an item that another process got, perhaps

    def give_back(self) -> None:
        """Let another have an item: the one that `task_done` would be about.

        It goes to its place, so this thread may be who gets it next; or first what was
        sent to this process ahead.

        :raises ValueError: if there is none, or the queue has `ack="auto"`
        """
        self._require_leases()
        self._end_lease(self._open(), Kind.BACK)

    @property
    def maxsize(self) -> int:
        """How many items there can be; 0 for any number."""
        return self._call("maxsize")

    def join(self) -> None:
        """Wait until every item that was put has been dealt with."""
        self._call("join")

    def qsize(self) -> int:
        """Return how many items are in the queue."""
        return self._call("qsize")

    def empty(self) -> bool:
        """Return whether there is nothing to get."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether there is no room."""
        return self._call("full")

    def shutdown(self, immediate: bool = False) -> None:
        """Let no more be put; with `immediate`, drop what is in the queue.

        Whoever gets has the rest, and then ShutDown. As in Python 3.13.
        """
        self._call("shutdown", immediate)

    def __iter__(self) -> Iterator[T]:
        """Yield items until the queue is shut down and empty."""
        try:
            while True:
                yield self.get()
        except ShutDown:
            return

    def _attach(self, link: Link) -> None:
        traits = self._traits
        baskets = Baskets(
            link,
            self._number,
            may_ask_ahead=traits.is_ahead,
            is_manual=traits.is_manual,
        )
        if traits.is_manual:
            _with_leases.add(baskets)
        link.listening[self._number] = self._baskets = baskets
        super()._attach(link)

    def _open(self) -> Baskets:
        """Return what we have by an open connection."""
        while (baskets := self._baskets) is None or not baskets.link.is_open:
            self._connect()
        return baskets

    def _require_leases(self) -> None:
        if not self._traits.is_manual:
            raise ValueError('items are on lease with ack="manual" only')

    def _end_lease(self, baskets: Baskets, kind: Kind) -> None:
        if not baskets.end_lease(kind):
            what = "task_done" if kind == Kind.DONE else "give_back"
            raise ValueError(f"{what}() called too many times")
        flush(baskets.link)

    def _get_one(self, timeout: float | None, *, left: bool) -> T:
        return loads(self._get(1, timeout, left=left)[2][0])

    def _get(
        self, most: int, timeout: float | None, *, left: bool
    ) -> tuple[Basket, int, Sequence[bytes]]:
        """Return items, where they were, and the number of the first."""
        safe_point()
        most = min(most, MOST)
        baskets = self._open()
        basket = baskets.left if left else baskets.right
        first, pickles = basket.take(most)
        if not pickles:
            try:
                first, pickles = self._wait_to_get(basket, most, deadline_in(timeout))
            except (queue.Empty, ShutDown):
                raise
            except BaseException:  # no one waits for what has been asked for
                if basket.link.is_open:
                    with contextlib.suppress(BrokenPipeError):
                        basket.leave()
                raise
        return basket, first, pickles

    def _wait_to_get(
        self, basket: Basket, most: int, deadline: float
    ) -> tuple[int, Sequence[bytes]]:
        while True:
            asked = basket.ask(most, fair=most == 1)
            self._wait_for(basket, asked, deadline)
            first, pickles = basket.take(most)
            if pickles:
                return first, pickles
            # What was asked for ahead may have been answered long ago: with items that
            # others have by now, or with the word that there are none.
            if asked.is_answered and not asked.is_ahead:
                if asked.is_refused:
                    raise ShutDown
                if deadline <= time.monotonic():
                    raise queue.Empty

    def _wait_for(self, basket: Basket, asked: Ask, deadline: float) -> None:
        link = basket.link

        def is_over() -> bool:
            return asked.is_answered or basket.has_news

        flush(link)
        if not wait(link, is_over, deadline):
            basket.withdraw(asked)
            flush(link)
            wait(link, is_over)

    def _dumps(self, obj: T) -> bytes:
        if is_plain(obj):
            return pickle.dumps(obj)
        with self._pickling:
            try:
                pickled = self._pickler.dumps(obj)
            except TooLarge:
                pickled = dumps_large(obj)
        return pickled if isinstance(pickled, bytes) else b"".join(pickled)

    def _open_to_put(self) -> Link:
        """Return the link, unless the queue has been shut down."""
        safe_point()
        baskets = self._baskets
        if baskets is None or not baskets.link.is_open:
            baskets = self._open()
        link = baskets.link
        if baskets.is_shut is None:
            is_shut = call(link, self._number, "is_shut")
            baskets.is_shut = is_shut or bool(baskets.is_shut)  # told meanwhile
        now = time.perf_counter()
        if now - link.looked > LOOK:
            link.looked = now
            link.look()
        if baskets.is_shut:
            raise ShutDown
        return link

    def _put(self, obj: T, timeout: float | None, *, left: bool = False) -> None:
        pickled = self._dumps(obj)
        link = self._open_to_put()
        if self._must_wait:
            body = [_SIDES[left], *encode_lot([pickled])]
            ask(link, Kind.PUT_WAIT, self._number, body, deadline_in(timeout))
        elif not (
            link.send_small(_PUT, self._number, left, pickled)
            if len(pickled) < SMALL
            else link.send(_PUT, self._number, left, (pickled,))
        ):
            flush(link)


class RemoteDeque(RemoteQueue[T]):
    """A double-ended queue of a `Broker`, in a worker.

    `get` takes from the left, and `put` adds at the right, as with a FIFO queue.
    """

    def append(self, obj: T, timeout: float | None = None) -> None:
        """Add an item at the right end: `put`."""
        self._put(obj, timeout)

    def appendleft(self, obj: T, timeout: float | None = None) -> None:
        """Add an item at the left end, where `get` takes the next."""
        self._put(obj, timeout, left=True)

    def pop(self, timeout: float | None = None) -> T:
        """Remove and return the item at the right end.

        :raises queue.Empty: if none came
        """
        return self._get_one(timeout, left=False)

    def popleft(self, timeout: float | None = None) -> T:
        """Remove and return the item at the left end: `get`."""
        return self._get_one(timeout, left=True)

    def pop_nowait(self) -> T:
        """Remove and return the item at the right end, or raise queue.Empty."""
        return self._get_one(0, left=False)

    def popleft_nowait(self) -> T:
        """Remove and return the item at the left end, or raise queue.Empty."""
        return self._get_one(0, left=True)

    def append_nowait(self, obj: T) -> None:
        """Add an item at the right end if there is room, or raise queue.Full."""
        self._put(obj, 0)

    def appendleft_nowait(self, obj: T) -> None:
        """Add an item at the left end if there is room, or raise queue.Full."""
        self._put(obj, 0, left=True)


_with_leases: "weakref.WeakSet[Baskets]" = weakref.WeakSet()


def _end_task() -> None:
    """Give back what a task of a pool has left on lease."""
    for baskets in [*_with_leases]:
        if baskets.link.is_open:
            with contextlib.suppress(BrokenPipeError):
                baskets.give_back_all()
                flush(baskets.link)


@contextlib.contextmanager
def _set_leases_aside() -> Generator[None]:
    """Have what this thread has on lease not end with a task that it makes itself."""
    me = threading.get_ident()
    all_leases = [it.leases for it in [*_with_leases] if it.leases is not None]
    for leases in all_leases:
        leases.pass_on(me, -me)
    try:
        yield
    finally:
        for leases in all_leases:
            leases.pass_on(-me, me)


at_task_end(_end_task)
around_tasks(_set_leases_aside)
