"""What a queue decides: who gets which item, and who may put one.

Pure: no loop and no process. Events come in as method calls, and those who wait hear of
the outcome by their own `give`, `admit` and `refuse`.

Who asks ahead is served after everyone who has nothing else to do. So an item may wait
with a worker that is busy, but not while another one is idle: then it is called back
(see `lending.py`).

A queue that is shut down and empty is not left by anyone as long as an item may come
back: the task that has been given it may be cancelled, and the worker that has been
sent it, or has it on lease, may die. Of workers that have something on lease and wait
for each other the first leaves: they would wait for ever.
"""

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from aioipc.broker.shelves import Item, Shelf
from aioipc.wire.shutdown import ShutDown

if TYPE_CHECKING:
    from aioipc.broker.lending import Consumer, Loan

__all__ = ["Getter", "Putter", "Store"]

STALE = 0.01
"""Seconds after which items that wait with a busy worker are offered to others.

So long, others may overtake them."""


class Getter(ABC):
    """Someone who waits for items, to be called once.

    :ivar want: items at most
    :ivar left: from which end
    :ivar is_idle: whether it does nothing until it has some
    :ivar is_fair: whether it leaves others their share
    :ivar consumer: the worker that it is; None if it is a task here
    """

    __slots__ = ("consumer", "is_fair", "is_idle", "left", "want")

    def __init__(
        self, want: int = 1, *, left: bool = True, idle: bool = True, fair: bool = False
    ) -> None:
        self.want = want
        self.left = left
        self.is_idle = idle
        self.is_fair = fair
        self.consumer: Consumer[Any] | None = None

    @abstractmethod
    def give(self, items: list[Item]) -> None:
        """Have them, at least one."""

    @abstractmethod
    def refuse(self) -> None:
        """Learn that there will be none: the queue is shut down."""


class Putter(ABC):
    """Someone who waits for room, to be called once.

    :ivar items: to be put, one after the other
    :ivar left: at which end
    """

    __slots__ = ("items", "left")

    def __init__(self, items: Iterable[Item], *, left: bool = False) -> None:
        self.items = list(reversed([*items]))
        self.left = left

    @abstractmethod
    def admit(self) -> None:
        """Learn that the last of the items has been put."""

    @abstractmethod
    def refuse(self, error: Exception) -> None:
        """Learn why the rest can't be put; `items` are those, the last one first."""


class Store:
    """The state of one queue.

    :ivar unfinished: items that were put and not yet dealt with
    :ivar owed: those of them that were got here
    :ivar on_the_way: items that were given to someone, and may be given back: the task
        has not yet gone on, or a thread has to pickle or unpickle them
    :param maxsize: items at most; 0 for any number
    """

    def __init__(self, shelf: Shelf, maxsize: int = 0) -> None:
        self.shelf = shelf
        self.maxsize = max(0, maxsize)
        self.unfinished = 0
        self.owed = 0
        self.on_the_way = 0
        self.is_shut = False
        self.is_dropped = False  # shut down with all that was in it
        self.hoards: dict[Loan, None] = {}  # what waits with workers, the oldest first
        self.consumers: dict[Consumer[Any], None] = {}
        self.putters: OrderedDict[Putter, None] = OrderedDict()
        self.getters: OrderedDict[Getter, None] = OrderedDict()  # idle ones,
        self.ahead: OrderedDict[Getter, None] = OrderedDict()  # ... and the others
        self.joiners: OrderedDict[Callable[[], object], None] = OrderedDict()

    def qsize(self) -> int:
        """Return how many items no one has taken."""
        return len(self.shelf) + sum(loan.untaken() for loan in self.hoards)

    @property
    def is_full(self) -> bool:
        """Whether a put would have to wait for room."""
        return 0 < self.maxsize <= len(self.shelf)

    @property
    def is_over(self) -> bool:
        """Whether it is shut down and empty, for good, and no worker owes it a word."""
        if not self.is_shut or self.shelf or self._may_come_back():
            return False
        return not any(consumer.owed for consumer in self.consumers)

    # Putting

    def put_nowait(self, item: Item, *, left: bool = False) -> bool:
        """Put an item; False if there is no room, or others wait for it.

        :raises ShutDown: if the queue is shut down
        :raises TypeError: if it can't be compared with the others
        """
        if self.is_shut:
            raise ShutDown
        if self.maxsize and (self.putters or len(self.shelf) >= self.maxsize):
            return False
        self.shelf.push(item, left=left)
        self.unfinished += 1
        if self.getters or self.ahead:
            self.match()
        return True

    def put_one(self, item: Item, *, left: bool) -> None:
        """Do what `put_late` does: in half the time."""
        if not self.is_dropped:
            self.shelf.push(item, left=left)
            self.unfinished += 1
            if self.getters or self.ahead:
                self.match()

    def put_late(self, items: Iterable[Item], *, left: bool = False) -> None:
        """Put items into a queue without a bound or priorities.

        Also those that were on their way while it was shut down.
        """
        if self.is_dropped:
            return
        late = [*items]
        count = len(late)
        late.reverse()
        self.shelf.push_all(late, left=left)  # which can't fail: nothing is compared
        self.unfinished += count
        if self.getters or self.ahead:
            self.match()

    def wait_to_put(self, putter: Putter) -> None:
        """Have a putter admitted as soon as there is room; perhaps at once."""
        if self.is_shut:
            raise ShutDown
        if not putter.items:
            putter.admit()
            return
        self.putters[putter] = None
        self.match()

    def withdraw_putter(self, putter: Putter) -> bool:
        """Let it wait no longer; False if it does not."""
        if putter not in self.putters:
            return False
        was_first = next(iter(self.putters)) is putter
        del self.putters[putter]
        if was_first:
            self.match()
        return True

    # Getting

    def get_nowait(self, *, left: bool = True) -> Item | None:
        """Take an item; None if there is none, or others wait for it.

        :raises ShutDown: if there is none, and never will be
        """
        if self.getters:
            return None
        if self.hoards:
            self._call_back_stale()
        try:
            item = self.shelf.pop(left=left)
        except IndexError:
            if not self._call_back():
                if self.is_shut and not self._may_come_back():
                    raise ShutDown from None
                return None
            item = self.shelf.pop(left=left)
        self.owed += 1
        if self.putters:
            self.match()
        return item

    def wait_to_get(self, getter: Getter) -> None:
        """Have a getter served as soon as there is something; perhaps at once."""
        (self.getters if getter.is_idle else self.ahead)[getter] = None
        if self.hoards:
            self._call_back_stale()
        self.match()

    def hurry(self, getter: Getter) -> None:
        """Note that who asked ahead has nothing to do any more."""
        self.ahead.pop(getter, None)
        getter.is_idle = True
        self.wait_to_get(getter)

    def withdraw_getter(self, getter: Getter) -> bool:
        """Let it wait no longer; False if it does not."""
        found = self.getters if getter.is_idle else self.ahead
        return found.pop(getter, self) is None

    def give_back(self, items: list[Item]) -> None:
        """Put back what was got here, was on the way, and is not taken after all."""
        self.owed -= len(items)
        self.on_the_way -= len(items)
        self.restore(items)

    def arrive(self, count: int) -> None:
        """Note that items are not on the way any more: they will not be given back."""
        self.on_the_way -= count
        if self.is_shut:
            self.match()

    def restore(self, items: Iterable[Item]) -> None:
        """Put back in their places what no one has taken."""
        items = [*items]
        if self.is_dropped:
            self.drop(len(items))
            return
        if items and self.hoards:
            self._call_back()  # or what is younger would be taken before
        self.shelf.restore(items)
        self.match()

    def match(self) -> None:
        """Serve those who wait, as far as there are items and room."""
        while True:
            self._admit()
            getter = self._next_getter()
            if getter is None:
                break
            count = min(getter.want, len(self.shelf))
            if getter.is_fair and len(self.consumers) > 1:
                count = min(count, -(-len(self.shelf) // len(self.consumers)))
            if getter.consumer is None:
                self.owed += count
                self.on_the_way += count
            getter.give(self.shelf.pop_many(count, left=getter.left))
        if self.is_shut and not self.shelf:
            self._refuse()

    def _next_getter(self) -> Getter | None:
        for waiting in (self.getters, self.ahead):
            if waiting:
                if not self.shelf and (waiting is self.ahead or not self._call_back()):
                    return None
                return waiting.popitem(last=False)[0]
        return None

    def _refuse(self) -> None:
        """Tell those who wait in vain, now that the queue is shut down and empty."""
        while self.ahead:  # they ask again when they have nothing to do
            self.ahead.popitem(last=False)[0].refuse()
        if not self.getters or self._is_under_way():
            return
        holders = self._holders()
        waiting = [getter.consumer for getter in self.getters]
        if holders and not holders.issubset(waiting):
            return
        first = next((one for one in waiting if one in holders), None)
        for getter in [*self.getters]:
            if not holders or getter.consumer is first:
                del self.getters[getter]
                getter.refuse()

    def _may_come_back(self) -> bool:
        """Whether someone has items which the queue may have back."""
        return self._is_under_way() or bool(self._holders())

    def _is_under_way(self) -> bool:
        """Whether items are on their way to someone; `match` is called when not."""
        if self.is_dropped:
            return False
        return self.on_the_way > 0 or any(
            loan.is_under_way()
            for consumer in self.consumers
            for loan in consumer.loans.values()
        )

    def _holders(self) -> "set[Consumer[Any]]":
        """Return who has items on lease, unless those won't come back, either."""
        if self.is_dropped:
            return set()
        return {consumer for consumer in self.consumers if consumer.leases}

    def _admit(self) -> None:
        while self.putters and not self.is_full:
            putter = next(iter(self.putters))
            try:
                self._admit_some(putter)
            except Exception as error:  # noqa: BLE001 - what the items' class raises
                del self.putters[putter]
                putter.refuse(error)
                continue
            if not putter.items:
                del self.putters[putter]
                putter.admit()

    def _admit_some(self, putter: Putter) -> None:
        """Put as much as there is room for; what could not be put stays with it."""
        items, shelf, before = putter.items, self.shelf, len(self.shelf)
        try:
            if not self.maxsize:
                shelf.push_all(items, left=putter.left)
            while items and not self.is_full:
                shelf.push(items[-1], left=putter.left)
                items.pop()
        finally:
            self.unfinished += len(shelf) - before

    def _call_back(self) -> bool:
        """Have back what waits with busy workers; whether there was any."""
        for loan in [*self.hoards]:
            self.shelf.restore(loan.recall())
        return bool(self.shelf)

    def _call_back_stale(self) -> None:
        since = time.monotonic() - STALE
        while self.hoards:
            loan = next(iter(self.hoards))
            if loan.since >= since:
                return
            self.shelf.restore(loan.recall())

    # Ends

    def shutdown(self, *, immediate: bool = False) -> None:
        """Take no more items; with `immediate`, drop those that there are."""
        self.is_shut = True
        while self.putters:
            self.putters.popitem(last=False)[0].refuse(ShutDown())
        if immediate:
            self._call_back()
            self.is_dropped = True
            count = len(self.shelf)
            self.shelf.clear()
            self.drop(count)
        self.match()

    def drop(self, count: int) -> None:
        """Note that no one will deal with items, unless that was noted before."""
        self.finish(min(count, self.unfinished))

    def task_done(self) -> None:
        """Note that an item has been dealt with: one got here, or by some worker.

        :raises ValueError: if there is none
        """
        self.finish()
        if self.owed:
            self.owed -= 1
            return
        for consumer in self.consumers:
            if consumer.owed:
                consumer.owed -= 1
                return

    def finish(self, count: int = 1) -> None:
        """Note that items have been dealt with.

        :raises ValueError: if more than were put
        """
        if count > self.unfinished:
            raise ValueError("task_done() called too many times")
        self.unfinished -= count
        if not self.unfinished:
            while self.joiners:
                self.joiners.popitem(last=False)[0]()
