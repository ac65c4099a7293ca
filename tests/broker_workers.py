"""Who uses a broker's queue, with no loop and no process: tasks, and workers."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aioipc.broker.lending import Consumer
from aioipc.broker.shelves import Item
from aioipc.broker.store import Getter, Putter, Store


def put(store: Store, *values: Any, left: bool = False) -> None:
    for value in values:
        assert store.put_nowait(Item(value), left=left)


def get(store: Store, *, left: bool = True) -> Any:
    item = store.get_nowait(left=left)
    return None if item is None else item.value


def drain(store: Store, *, left: bool = True) -> list[Any]:
    return [get(store, left=left) for _ in range(store.qsize())]


class Task(Getter):
    """Waits in the coordinator, and goes on at once when it is given items.

    :param slow: that it has not gone on yet, until `go_on` is called
    """

    def __init__(
        self, store: Store, want: int = 1, *, slow: bool = False, **how: bool
    ) -> None:
        super().__init__(want, **how)
        self.store = store
        self.is_slow = slow
        self.items: list[Item] = []
        self.is_refused = False
        store.wait_to_get(self)

    @property
    def got(self) -> list[Any]:
        return [item.value for item in self.items]

    def give(self, items: list[Item]) -> None:
        assert items
        assert not self.items
        assert not self.is_refused
        self.items = items
        if not self.is_slow:
            self.go_on()

    def refuse(self) -> None:
        assert not self.items
        assert not self.is_refused
        self.is_refused = True

    def go_on(self) -> None:
        self.store.arrive(len(self.items))

    def cancel(self) -> None:
        """Wait no more; and give back what it has been given, if it is slow."""
        if not self.store.withdraw_getter(self):
            self.store.give_back(self.items)


class Source(Putter):
    """Waits for room."""

    def __init__(self, store: Store, *values: Any, left: bool = False) -> None:
        super().__init__(map(Item, values), left=left)
        self.is_admitted = False
        self.error: Exception | None = None
        store.wait_to_put(self)

    @property
    def rest(self) -> list[Any]:
        return [item.value for item in reversed(self.items)]

    def admit(self) -> None:
        assert not self.items
        assert not self.is_admitted
        assert self.error is None
        self.is_admitted = True

    def refuse(self, error: Exception) -> None:
        assert not self.is_admitted
        assert self.error is None
        self.error = error


class Count:
    """The tokens of one slot."""

    def __init__(self) -> None:
        self.left = 0
        self.told: dict[Callable[[], object], None] = {}

    def put(self, count: int) -> None:
        assert not self.left, "a slot serves one loan at a time"
        self.left += count

    def take(self, count: int) -> int:
        taken = min(count, self.left)
        self.left -= taken
        return taken

    def count(self) -> int:
        return self.left

    def tell(self, taken: Callable[[], object]) -> None:
        self.told[taken] = None

    def take_as_worker(self) -> bool:
        """Take one; the kernel tells of that."""
        is_one = self.take(1) == 1
        while is_one and self.told:
            self.told.popitem()[0]()
        return is_one


class Worker:
    """Does what `basket.py` does, and what a `QueueService` does for it.

    :ivar got: values of all the items that it has taken
    :ivar leases: numbers and values of those for which it has not said `task_done`
    """

    def __init__(
        self, store: Store, *, manual: bool = False, tokens: bool = True, slots: int = 3
    ) -> None:
        self.store = store
        self.consumer = Consumer(store, manual=manual)
        self.tokens = [Count() if tokens else None for _ in range(slots)]
        self.free = deque(range(slots))
        self.arrived: deque[tuple[int, int, deque[Item]]] = deque()
        self.got: list[Any] = []
        self.leases: dict[int, Any] = {}
        self.refusals = 0

    @property
    def asks(self) -> dict[int, "Ask"]:
        return self.consumer.asks

    def ask(self, want: int = 1, **how: bool) -> "Ask":
        slot = self.free.popleft()
        self.consumer.settle(slot)
        ask = self.asks[slot] = Ask(self, slot, want, **how)
        self.store.wait_to_get(ask)
        return ask

    def ask_ahead(self, want: int = 1) -> "Ask":
        return self.ask(want, idle=False, fair=True)

    def take(self, most: int = 1) -> list[Any]:
        """Take items that have arrived, and that no one has called back."""
        taken: list[Any] = []
        while self.arrived and len(taken) < most:
            slot, number, items = self.arrived[0]
            tokens = self.tokens[slot]
            if not items or (tokens is not None and not tokens.take_as_worker()):
                self.arrived.popleft()
                self.free.append(slot)
                continue
            if tokens is None:
                self.consumer.loans[slot].take(1)
            self.arrived[0] = slot, number + 1, items
            taken.append(items.popleft().value)
            self.leases[number] = taken[-1]
        self.got += taken
        return taken

    def hurry(self) -> None:
        """Wait for what was asked for ahead, unless it has come."""
        for ask in [*self.asks.values()]:
            if not ask.is_idle:
                self.store.hurry(ask)

    def withdraw(self) -> None:
        """Ask no more; what arrived nevertheless may be called back."""
        self.hurry()
        for slot, ask in [*self.asks.items()]:
            assert self.store.withdraw_getter(ask)
            del self.asks[slot]
            self.free.append(slot)
        for loan in [*self.arrived]:
            slot = loan[0]
            if self.tokens[slot] is not None:
                self.consumer.expose(slot)
            else:
                self.consumer.leave(slot)
                self.arrived.remove(loan)
                self.free.append(slot)

    def done(self, value: Any) -> None:
        number = next(n for n, leased in self.leases.items() if leased == value)
        del self.leases[number]
        self.consumer.done(number)

    def give_back(self, value: Any) -> None:
        number = next(n for n, leased in self.leases.items() if leased == value)
        del self.leases[number]
        self.consumer.give_back(number)

    def die(self) -> None:
        for ask in self.asks.values():
            self.store.withdraw_getter(ask)
        self.asks.clear()
        self.consumer.end()


class Ask(Getter):
    """What a worker asks for."""

    def __init__(self, worker: Worker, slot: int, want: int, **how: bool) -> None:
        super().__init__(want, **how)
        self.worker = worker
        self.consumer = worker.consumer
        self.slot = slot

    def give(self, items: list[Item]) -> None:
        assert items
        worker, slot = self.worker, self.slot
        del worker.asks[slot]
        hoard = len(items) > 1 or not self.is_idle
        loan = worker.consumer.lend(slot, items, worker.tokens[slot], hoard=hoard)
        worker.arrived.append((slot, loan.number, deque(items)))

    def refuse(self) -> None:
        del self.worker.asks[self.slot]
        self.worker.free.append(self.slot)
        self.worker.refusals += 1


def values(items: Iterable[Item]) -> list[Any]:
    return [item.value for item in items]
