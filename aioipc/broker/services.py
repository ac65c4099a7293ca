"""What workers may do with a queue: `QueueService`."""

import logging
import pickle
import queue
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aioipc.broker.lending import Consumer
from aioipc.broker.session import Call, Service, Session
from aioipc.broker.shelves import Item
from aioipc.broker.store import Getter, Putter, Store
from aioipc.transport.loops import Loop
from aioipc.transport.threads import Job, run_in_thread
from aioipc.wire.broker import Kind, Want, decode_count, decode_lot, encode_items
from aioipc.wire.parts import LARGE
from aioipc.wire.pickles import (
    Pickler,
    TooLarge,
    dumps_large,
    is_plain,
    loads,
    loads_large,
)

if TYPE_CHECKING:
    from aioipc.broker.remote import Traits

__all__ = ["ABSENT", "QueueService"]

ABSENT: Any = object()
"""The value of an item of which there is only the pickle."""

MOST_LOOKED_AT = 4
"""Workers that are looked at before the loop sleeps."""

_PUT = Kind.PUT.value

_logger = logging.getLogger("aioipc")


class QueueService(Service):
    """What workers may do with a queue."""

    def __init__(self, loop: Loop, number: int, store: Store, traits: "Traits") -> None:
        self.number = number
        self.methods = {
            "is_shut": self._is_shut,
            "qsize": self._qsize,
            "full": self._full,
            "maxsize": self._maxsize,
            "task_done": self._task_done,
            "join": self._join,
            "shutdown": self._shutdown,
        }
        self._loop = loop
        self._store = store
        self._traits = traits
        self._pickler = Pickler()
        self._consumers: dict[Session, Consumer[_RemoteGetter]] = {}
        self._told: set[Session] = set()  # who may put
        self._takes_all = not (traits.is_bounded or traits.is_ordered)

    def on_message(self, session: Session, kind: int, tag: int, body: bytes) -> None:
        self._told.add(session)
        if kind == _PUT and self._takes_all:
            self._store.put_one(Item(ABSENT, body), left=tag > 0)
        elif kind == Kind.PUT_ALL and self._takes_all:
            items = [Item(ABSENT, pickled) for pickled in decode_lot(body)]
            self._store.put_late(items, left=bool(tag))
        elif kind == Kind.PUT_WAIT:
            self._wait_to_put(session, tag, body)
        elif kind == Kind.WANT:
            self._want(session, tag, Want.decode(body))
        elif kind == Kind.HURRY:
            self._hurry(self._consumers[session], tag)
        elif kind == Kind.UNWANT:
            self._unwant(self._consumers[session], tag)
        elif kind == Kind.TAKEN:
            self._consumers[session].loans[tag].take(decode_count(body))
        elif kind == Kind.UNTAKEN:
            self._consumers[session].leave(tag)
        elif kind == Kind.DONE:
            self._consumers[session].done(tag)
        elif kind == Kind.BACK:
            self._consumers[session].give_back(tag)
        elif kind in {Kind.PUT, Kind.PUT_ALL}:
            raise ValueError("it puts, and does not wait for room")
        else:
            super().on_message(session, kind, tag, body)

    def forget(self, session: Session) -> None:
        self._told.discard(session)
        consumer = self._consumers.pop(session, None)
        if consumer is not None:
            for getter in consumer.asks.values():
                self._store.withdraw_getter(getter)
            consumer.asks.clear()
            consumer.end()

    def look(self) -> bool:
        """Look for what workers have put; whether there is something to get."""
        for session in [*self._told]:
            session.look()
        return bool(self._store.shelf)

    @property
    def is_looked_at(self) -> bool:
        """Whether few enough workers put to look at each of them."""
        return 0 < len(self._told) <= MOST_LOOKED_AT

    def is_served(self) -> bool:
        """Whether what the loop brought last came from one of them."""
        served = self._loop.served
        return any(session.fileno() == served for session in self._told)

    def tell_of_shutdown(self) -> None:
        """Tell workers that they can put no more."""
        for session in self._told:
            session.send(Kind.SHUT, self.number, 0, ())

    def tell_of_end(self) -> None:
        """Tell workers that the broker does not know the queue any more."""
        for session in self._told:
            session.send(Kind.GONE, self.number, 0, ())
        self._told.clear()
        self._consumers.clear()

    # Getting

    def _want(self, session: Session, slot: int, want: Want) -> None:
        if slot in session.slots:
            session.slots.pop(slot).settle(slot)
        consumer = self._consumers.get(session)
        if consumer is None:
            manual = self._traits.is_manual
            consumer = Consumer[_RemoteGetter](self._store, manual=manual)
            self._consumers[session] = consumer
        getter = _RemoteGetter(self, session, consumer, slot, want)
        consumer.asks[slot] = getter
        if want.idle:
            consumer.settle_all(left=want.left)
        self._store.wait_to_get(getter)

    def _hurry(self, consumer: Consumer["_RemoteGetter"], slot: int) -> None:
        getter = consumer.asks.get(slot)
        if getter is None or getter.is_idle:
            return
        if getter.is_served:
            getter.is_idle = True
        else:
            self._store.hurry(getter)

    def _unwant(self, consumer: Consumer["_RemoteGetter"], slot: int) -> None:
        getter = consumer.asks.get(slot)
        if getter is None:
            consumer.expose(slot)
        elif getter.is_served:
            getter.is_unwanted = True
        else:
            self._store.withdraw_getter(getter)
            getter.answer(b"")

    def give(self, getter: "_RemoteGetter", items: list[Item]) -> None:
        """Send items to a worker."""
        try:
            pickles = self._dumps(items)
        except TooLarge:
            self._give_later(getter, items)
            return
        session, consumer, slot = getter.session, getter.lender, getter.slot
        del consumer.asks[slot]
        loan = consumer.lend(
            slot,
            items,
            session.tokens(slot),
            left=getter.left,
            hoard=not getter.is_idle or (getter.is_fair and len(items) > 1),
        )
        session.slots[slot] = consumer
        body = encode_items(loan.number, pickles)
        session.send(Kind.ITEMS, self.number, slot, body)

    def _give_later(self, getter: "_RemoteGetter", items: list[Item]) -> None:
        """Have items pickled by a thread, and give them then."""
        job = run_in_thread(lambda: [*map(_dumps_large, items)], "dumps")
        self._store.on_the_way += len(items)

        def pickled() -> None:
            try:
                self._give_pickled(getter, items, job)
            finally:
                self._store.arrive(len(items))

        job.then(lambda: self._loop.call_soon(pickled))

    def _give_pickled(
        self, getter: "_RemoteGetter", items: list[Item], job: Job[list[bytes]]
    ) -> None:
        is_there = getter.lender in self._store.consumers
        if job.succeeded:
            for item, data in zip(items, job.result(), strict=True):
                item.pickled = data
            if is_there and not getter.is_unwanted:
                self.give(getter, items)
                return
        if is_there:  # if there was no memory, it asks again
            getter.answer(b"")
        self._store.restore(items)

    def _dumps(self, items: list[Item]) -> list[bytes]:
        """Return the pickles of items.

        :raises TooLarge: if that would keep the loop for too long
        """
        pickles: list[bytes] = []
        size = 0
        for item in items:
            pickled = item.pickled
            if pickled is None:
                if size > LARGE:
                    raise TooLarge
                value = item.value
                pickled = pickle.dumps(value) if is_plain(value) else self._dump(value)
                item.pickled = pickled
                size += len(pickled)
            pickles.append(pickled)
        return pickles

    def _dump(self, value: Any) -> bytes:
        """Return a pickle: of what unpickling then raises, if it can't be had."""
        try:
            pickled = self._pickler.dumps(value)
        except TooLarge:
            raise
        except Exception as error:  # noqa: BLE001 - whatever its class raises
            return _dumps_error(error)
        return pickled if isinstance(pickled, bytes) else b"".join(pickled)

    # Putting

    def _wait_to_put(self, session: Session, request: int, body: bytes) -> None:
        call = Call(session, self, request)
        session.calls[request] = call
        try:
            items = [Item(ABSENT, pickled) for pickled in decode_lot(body, 1)]
        except Exception as error:  # noqa: BLE001 - it is the worker's
            call.resolve(error)
            return
        putter = _RemotePutter(call, items, left=bool(body[0]))
        if not self._traits.is_ordered:
            self._put(call, putter)
        elif len(body) < LARGE:
            self._put(call, putter, partial(_load, items, loads))
        else:
            self._put_later(call, request, putter)

    def _put_later(self, call: Call, request: int, putter: Putter) -> None:
        """Have items unpickled by a thread, to be compared, and put them then.

        The worker waits for that: so what it puts next comes after them.
        """
        job = run_in_thread(partial(_load_large, putter.items), "loads")
        call.withdraw = partial(call.resolve, queue.Full())

        def loaded() -> None:
            if call.session.calls.get(request) is call:
                self._put(call, putter, job.result)

        job.then(lambda: self._loop.call_soon(loaded))

    def _put(
        self, call: Call, putter: Putter, load: Callable[[], object] = bool
    ) -> None:
        call.withdraw = partial(self._give_up_put, call, putter)
        try:
            load()
            self._store.wait_to_put(putter)
        except Exception as error:  # noqa: BLE001 - it is the worker's
            call.resolve(error)

    def _give_up_put(self, call: Call, putter: Putter) -> None:
        if self._store.withdraw_putter(putter):
            call.resolve(queue.Full())

    # Calls

    def _is_shut(self, call: Call) -> None:
        call.resolve(self._store.is_shut)

    def _qsize(self, call: Call) -> None:
        call.resolve(self._store.qsize())

    def _full(self, call: Call) -> None:
        call.resolve(self._store.is_full)

    def _maxsize(self, call: Call) -> None:
        call.resolve(self._store.maxsize)

    def _task_done(self, call: Call) -> None:
        self._store.task_done()
        call.resolve(None)

    def _join(self, call: Call) -> None:
        if not self._store.unfinished:
            call.resolve(None)
            return
        joiner = partial(call.resolve, None)
        self._store.joiners[joiner] = None
        call.withdraw = partial(self._give_up_join, call, joiner)

    def _give_up_join(self, call: Call, joiner: Callable[[], object]) -> None:
        del self._store.joiners[joiner]
        call.resolve(None)

    def _shutdown(self, call: Call, immediate: bool) -> None:
        self._store.shutdown(immediate=immediate)
        self.tell_of_shutdown()
        call.resolve(None)


class _RemoteGetter(Getter):
    """A worker that asks for items.

    :ivar lender: its `consumer`, which it always has
    :ivar slot: in which it has asked
    :ivar is_served: whether they have been found, and may still have to be pickled
    :ivar is_unwanted: whether the worker does not wait for them any more
    """

    __slots__ = ("_service", "is_served", "is_unwanted", "lender", "session", "slot")

    def __init__(
        self,
        service: QueueService,
        session: Session,
        consumer: Consumer["_RemoteGetter"],
        slot: int,
        want: Want,
    ) -> None:
        super().__init__(want.most, left=want.left, idle=want.idle, fair=want.fair)
        self._service = service
        self.session = session
        self.consumer = self.lender = consumer
        self.slot = slot
        self.is_served = False
        self.is_unwanted = False

    def give(self, items: list[Item]) -> None:
        self.is_served = True
        self._service.give(self, items)

    def refuse(self) -> None:
        self.answer(b"\1")

    def answer(self, body: bytes) -> None:
        """Say that there are no items, or will be none."""
        del self.lender.asks[self.slot]
        self.session.send(Kind.NO_ITEMS, self._service.number, self.slot, [body])


class _RemotePutter(Putter):
    """A worker that waits for room."""

    __slots__ = ("_call",)

    def __init__(self, call: Call, items: list[Item], *, left: bool) -> None:
        super().__init__(items, left=left)
        self._call = call

    def admit(self) -> None:
        self._call.resolve(None)

    def refuse(self, error: Exception) -> None:
        self._call.resolve(error)


def _load(items: list[Item], loads: Callable[[bytes], Any]) -> None:
    for item in items:
        item.value = loads(item.pickled or b"")


def _load_large(items: list[Item]) -> None:
    """Load items; in a thread. Whatever their classes raise is no end of the loop."""
    try:
        _load(items, loads_large)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"an item can't be unpickled: {error!r}") from error


def _dumps_large(item: Item) -> bytes:
    """Pickle an item; in a thread."""
    try:
        return item.pickled or b"".join(dumps_large(item.value))
    except BaseException as error:  # noqa: BLE001 - whatever the item's class raises
        return _dumps_error(error)


def _dumps_error(error: BaseException) -> bytes:
    """Return a pickle that tells why, when it is loaded: the item is lost."""
    try:
        why = str(error)
    except Exception:  # noqa: BLE001 - the error's class is the user's, too
        why = type(error).__name__
    _logger.warning("an item of a queue can't be pickled: %s", why)
    return pickle.dumps(_Lost(f"the item can't be pickled: {why}"))


class _Lost:
    """What takes the place of an item that can't be pickled."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return lost, (self._why,)


def lost(why: str) -> None:
    """Raise what a worker gets for an item that can't be pickled."""
    raise pickle.PicklingError(why)
