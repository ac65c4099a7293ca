"""Items with a worker, until it is known that the worker has taken them.

Note to the next reader. Items are sent to a worker ahead of its `get`, several at a
time, which is what makes it fast. Yet none is lost if the worker dies before it has
taken it, and none waits with a busy worker while another is idle. For that, each item
has a token in an eventfd that both sides share. The worker takes a token before it
takes an item, in their order; the coordinator takes tokens back, from the end. The
kernel hands each token to one of them, so both know whose the item is, with no message
and at any moment: also after the worker's death.

An eventfd serves one loan at a time. The next one comes when the worker has asked for
it in the same slot, and so is done with the last: its tokens are gone, taken by either.

Without an eventfd (on another machine, say) nothing is sent ahead, and the worker says
what it has taken, and what it will not take.
"""

import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from aioipc.broker.shelves import Item
from aioipc.broker.store import Getter, Store

__all__ = ["Consumer", "Loan", "Tokens"]

G = TypeVar("G", bound=Getter)


class Tokens(Protocol):
    """Of one slot: one for each item that was lent and is not taken."""

    def put(self, count: int) -> None:
        """Add some."""
        ...

    def take(self, count: int) -> int:
        """Take up to `count`; return how many there were."""
        ...

    def count(self) -> int:
        """Return how many there are."""
        ...

    def tell(self, taken: Callable[[], object]) -> None:
        """Have a function called after some were taken; perhaps more than once."""
        ...


class Loan:
    """Items that were sent to a worker in one message.

    :ivar items: those that it has taken, or still can
    :ivar number: of the first of them, among all that the worker was lent
    :ivar since: when they were sent, or no one waited for them any more
    :ivar left: from which end of the queue they are
    :param tokens: None if the worker says when it has taken them
    """

    __slots__ = ("consumer", "items", "left", "number", "since", "tokens")

    def __init__(
        self, consumer: "Consumer[Any]", items: list[Item], tokens: Tokens | None
    ) -> None:
        self.consumer = consumer
        self.items = items
        self.number = 0
        self.since = time.monotonic()
        self.tokens = tokens
        self.left = True

    def untaken(self) -> int:
        """Return how many items are on their way, or wait with the worker."""
        return 0 if self.tokens is None else self.tokens.count()

    def is_under_way(self) -> bool:
        """Whether the worker has not taken all of it; if so, its queue will hear."""
        if self.tokens is None:
            return bool(self.items)
        if not self.tokens.count():
            return False
        self.tokens.tell(self.consumer.store.match)
        return self.tokens.count() > 0  # or it has taken them before we listened

    def recall(self) -> list[Item]:
        """Take back, and return, what the worker has not taken.

        It is busy: so what it has asked for ahead, it can wait for until it says more.
        """
        if self.tokens is None:
            return []
        count = self.tokens.take(len(self.items))
        if count:
            for ask in self.consumer.asks.values():
                self.consumer.store.ahead.pop(ask, None)
        return self.take_back(len(self.items) - count)

    def take(self, count: int) -> None:
        """Note what the worker says: it has taken so many of the first items."""
        del self.items[:count]
        self.number += count
        if self.consumer.store.is_shut:
            self.consumer.store.match()  # who waits for what may come back

    def take_back(self, taken: int) -> list[Item]:
        """Return all but the first `taken` items, which stay the worker's."""
        back, self.items = self.items[taken:], self.items[:taken]
        self.consumer.returned(self.number + taken, len(back))
        self.consumer.store.hoards.pop(self, None)
        return back


class Consumer(Generic[G]):
    """A worker that takes items from a queue.

    :ivar asks: what it waits for, by slot
    :ivar leases: items that it has taken and not yet dealt with, by their number, if
        those are to go to another when it dies
    :ivar owed: how many items it was lent that have not come back, and for which no one
        has called `task_done`
    """

    def __init__(self, store: Store, *, manual: bool) -> None:
        self.store = store
        self.asks: dict[int, G] = {}
        self.loans: dict[int, Loan] = {}
        self.leases: dict[int, Item] | None = {} if manual else None
        self._lent = 0
        self.owed = 0
        store.consumers[self] = None

    def lend(
        self,
        slot: int,
        items: list[Item],
        tokens: Tokens | None,
        *,
        left: bool = True,
        hoard: bool,
    ) -> Loan:
        """Note that items go to the worker, and add their tokens.

        :param hoard: whether some may wait there while the worker is busy
        """
        loan = self.loans[slot] = Loan(self, items, tokens)
        loan.left = left
        loan.number = self._lent
        if hoard and tokens is not None:
            self.store.hoards[loan] = None
        if self.leases is not None:
            self.leases.update(enumerate(items, self._lent))
        self._lent += len(items)
        self.owed += len(items)
        if tokens is not None:
            tokens.put(len(items))
        return loan

    def expose(self, slot: int) -> None:
        """Note that no one waits for what was lent: it may be called back."""
        loan = self.loans.get(slot)
        if loan is not None and loan.tokens is not None:
            loan.since = time.monotonic()  # hoards lie in this order
            self.store.hoards[loan] = None
            self.store.match()  # others may have waited for just that

    def settle(self, slot: int) -> None:
        """Note that the worker is done with a loan: what it could take, it has."""
        loan = self.loans.pop(slot, None)
        if loan is not None:
            self.store.hoards.pop(loan, None)

    def settle_all(self, *, left: bool) -> None:
        """Note that the worker waits for items from an end, and so has none."""
        for slot in [slot for slot, loan in self.loans.items() if loan.left == left]:
            self.settle(slot)

    def returned(self, first: int, count: int) -> None:
        """Note that items came back that were not taken."""
        self.owed -= count
        if self.leases is not None:
            for number in range(first, first + count):
                self.leases.pop(number, None)

    def done(self, number: int) -> None:
        """Note that an item has been dealt with: which one, if that matters.

        Someone else may have said so before; it is too late to tell the worker.

        :raises ValueError: if it has no such item on lease
        """
        if self.leases is not None and self.leases.pop(number, None) is None:
            raise ValueError("task_done() called too many times")
        self.store.drop(1)
        if self.owed:
            self.owed -= 1
        if self.store.is_shut:
            self.store.match()  # who waits for what may come back

    def give_back(self, number: int) -> None:
        """Have an item back that the worker has on lease.

        :raises ValueError: if it has no such item on lease
        """
        if self.leases is None or number not in self.leases:
            raise ValueError("it gives back what it has not")
        item = self.leases[number]
        self.returned(number, 1)
        self.store.restore([item])

    def leave(self, slot: int) -> None:
        """Have back what has no tokens, and the worker says that it will not take."""
        loan = self.loans.pop(slot)
        self.store.restore(loan.take_back(0))

    def end(self) -> None:
        """Have everything back that the worker has not taken; it is dead."""
        store = self.store
        del store.consumers[self]
        back: list[Item] = []
        for slot, loan in [*self.loans.items()]:
            unsaid = loan.tokens is None
            back += loan.take_back(0) if unsaid else loan.recall()
            self.settle(slot)
        if self.leases is not None:
            back += self.leases.values()
        elif self.owed:
            store.drop(self.owed)
        store.restore(back)
