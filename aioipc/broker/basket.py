"""Items that a worker has been sent, and what it has asked for.

They come in loans; `broker/lending.py` tells how it is known whose an item is. Nothing
here waits, and no task is interrupted here (see `worker/interrupts.py`): it takes an
item with its token, or neither.
"""

import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter

from aioipc.broker.leases import Leases
from aioipc.broker.link import Link
from aioipc.wire.broker import Kind, Want, decode_items, encode_count

__all__ = ["Ask", "Basket", "Baskets"]

MOST_AHEAD = 256
"""Items that are asked for at a time, at most, of those that no one waits for."""

QUICK = 1e-3
"""Seconds in which a worker that should be sent more is through with a loan."""


_OURS = 1 << 62
"""The slot of what is in no slot any more: it has been taken."""


class Ask:
    """What a worker has asked for.

    :ivar is_ahead: whether it did not wait for that when it asked
    :ivar is_idle: whether it waits for that
    :ivar is_refused: whether there will be none: the queue is shut down and empty
    """

    __slots__ = ("is_ahead", "is_answered", "is_idle", "is_refused", "slot")

    def __init__(self, slot: int, *, idle: bool) -> None:
        self.slot = slot
        self.is_ahead = not idle
        self.is_idle = idle
        self.is_answered = False
        self.is_refused = False


class Basket:
    """What a process has of one queue's items, from one end.

    :ivar link: by which they come
    :ivar leases: where what is taken is noted, if it is not ours then
    :param left: from which end
    :param may_ask_ahead: whether the queue allows that
    """

    def __init__(
        self,
        link: Link,
        number: int,
        *,
        left: bool,
        may_ask_ahead: bool,
        leases: Leases | None,
    ) -> None:
        self.link = link
        self.leases = leases
        self._undone = 0  # items taken, and not dealt with
        self._left = left
        self._number = number
        self._may_ask_ahead = may_ask_ahead
        self._lock = threading.Lock()
        self._asks: dict[int, Ask] = {}  # that are not answered, by slot
        self._arrived: deque[tuple[int, int, deque[bytes]]] = deque()
        self._batch: deque[bytes] = deque()  # the loan of which items are taken,
        self._slot = -1  # ... its slot,
        self._first = 0  # ... the number of the next item,
        self._began: float | None = None  # ... and when the first was taken
        self._ahead = 1

    @property
    def has_news(self) -> bool:
        """Whether items have arrived."""
        return bool(self._arrived or self._batch)

    def take(self, most: int) -> tuple[int, Sequence[bytes]]:
        """Take up to `most` items; return the number of the first, and them."""
        with self._lock:
            try:
                return self._take(most)
            except BaseException:
                self.link.fail()
                raise

    def _take(self, most: int) -> tuple[int, Sequence[bytes]]:
        while True:
            if self._batch:
                taken = self._take_from_batch(most)
                if not self._batch:  # no one may get here for long
                    self._free_slot(self._slot)
                if taken:
                    count, first = len(taken), self._first
                    self._undone += count
                    self._first += count
                    if self.leases is not None:
                        self.leases.add(threading.get_ident(), first, count)
                    return first, taken
            if self._began is not None:
                self._adapt(perf_counter() - self._began)
            if not self._arrived:
                return 0, ()
            self._begin_batch()

    def put_back(
        self, first: int, pickles: Sequence[bytes], *, but: int | None = None
    ) -> None:
        """Have items taken again, before all others: they could not be used.

        :param first: the number of the first of them
        :param but: the index of one that is not put back
        """
        but = len(pickles) if but is None else but
        with self._lock:
            self._suspend_batch()
            for start, end in (but + 1, len(pickles)), (0, but):
                some = deque(pickles[start:end])
                if some:
                    self._arrived.appendleft((_OURS, first + start, some))
                    self._undone -= len(some)
            if self.leases is not None:
                self.leases.end_get(first, but=first + but)

    def end_lease(self, number: int, kind: Kind) -> None:
        """Say what has become of an item, unless it has been said: DONE or BACK."""
        if self.leases is not None and self.leases.end_one(number):
            self.link.send(kind, self._number, number, ())

    def count_done(self) -> bool:
        """Note that an item is done; False if there is none that was taken."""
        with self._lock:
            is_one = self._undone > 0
            self._undone -= is_one
            return is_one

    def ask(self, most: int, *, fair: bool) -> Ask:
        """Ask for items, unless that is done: they are waited for now.

        The broker takes it from this that all is taken that was lent. So what arrived
        since `take` found nothing, or another thread has left, is to be taken first.
        """
        with self._lock:
            if self._arrived or self._batch:
                return _answered()
            for ask in self._asks.values():
                if not ask.is_idle:
                    ask.is_idle = True
                    self.link.send(Kind.HURRY, self._number, ask.slot, ())
                return ask
            return self._ask(Want(most, self._left, idle=True, fair=fair))

    def withdraw(self, ask: Ask) -> None:
        """Ask no more; there will be an answer."""
        if not ask.is_answered:
            self.link.send(Kind.UNWANT, self._number, ask.slot, ())

    def leave(self) -> None:
        """Ask for nothing, and let the broker have what it has sent: no one waits here.

        If another thread does, it asks again.
        """
        with self._lock:
            for ask in self._asks.values():
                if ask.is_idle:
                    self.link.send(Kind.UNWANT, self._number, ask.slot, ())
            self._suspend_batch()
            for loan in [*self._arrived]:
                slot = loan[0]
                if slot == _OURS:
                    continue
                if self.link.has_tokens(slot):  # those tell who has it in the end
                    self.link.send(Kind.UNWANT, self._number, slot, ())
                else:
                    self.link.send(Kind.UNTAKEN, self._number, slot, ())
                    self._arrived.remove(loan)
                    self._free_slot(slot)

    def on_answer(self, kind: int, slot: int, body: bytes) -> None:
        """Take an answer, if it is one to this."""
        with self._lock:  # `ask` must not find neither what was asked for nor the ask
            ask = self._asks.pop(slot, None)
            if ask is None:
                return
            if kind == Kind.ITEMS:
                number, items = decode_items(body)
                self._arrived.append((slot, number, deque(items)))
            else:
                ask.is_refused = bool(body)
                self.link.free_slot(slot)
            ask.is_answered = True

    def _take_from_batch(self, most: int) -> list[bytes]:
        link, slot, batch = self.link, self._slot, self._batch
        count = min(most, len(batch))
        if not link.has_tokens(slot):
            if slot != _OURS:
                link.send(Kind.TAKEN, self._number, slot, [encode_count(count)])
            return [batch.popleft() for _ in range(count)]
        ours = link.take_tokens(slot, count)
        taken = [batch.popleft() for _ in range(ours)]
        if ours < count:
            batch.clear()  # the broker has taken the rest back
        return taken

    def _begin_batch(self) -> None:
        self._slot, self._first, self._batch = self._arrived.popleft()
        self._began = perf_counter()
        if (
            self._ahead > 1
            and self._may_ask_ahead
            and not self._asks
            and not self._arrived
            and self.link.has_free_tokens
        ):
            self._ask(Want(self._ahead, self._left, idle=False, fair=True))

    def _suspend_batch(self) -> None:
        """Have what is left of the batch arrive again."""
        if self._batch:
            self._arrived.appendleft((self._slot, self._first, self._batch))
            self._batch = deque()

    def _adapt(self, seconds: float) -> None:
        """Ask for more ahead if the last batch was dealt with quickly, or else less."""
        self._began = None
        if seconds < QUICK:
            self._ahead = min(2 * self._ahead, MOST_AHEAD)
        else:
            self._ahead = max(1, self._ahead // 2)

    def _free_slot(self, slot: int) -> None:
        if slot != _OURS:
            self.link.free_slot(slot)

    def _ask(self, want: Want) -> Ask:
        slot = self.link.take_slot()
        ask = self._asks[slot] = Ask(slot, idle=want.idle)
        self.link.send(Kind.WANT, self._number, slot, [want.encode()])
        return ask


class Baskets:
    """What a process has of one queue by one connection; with that, it is lost.

    :ivar is_shut: whether puts are refused; None if that is not known
    :ivar leases: which items its threads have on lease, if any are
    :ivar left: what is taken from the left end
    :ivar right: what is taken from the right end
    """

    def __init__(
        self, link: Link, number: int, *, may_ask_ahead: bool, is_manual: bool
    ) -> None:
        self.link = link
        self._number = number
        self.is_shut: bool | None = None
        self.leases = Leases() if is_manual else None
        self.left, self.right = (
            Basket(
                link,
                number,
                left=left,
                may_ask_ahead=may_ask_ahead,
                leases=self.leases,
            )
            for left in (True, False)
        )

    def end_lease(self, kind: Kind) -> bool:
        """Say what has become of the item that this thread is at: DONE or BACK.

        :returns: False if there is none
        """
        assert self.leases is not None
        number = self.leases.end(threading.get_ident())
        if number is None:
            return False
        self.link.send(kind, self._number, number, ())
        return True

    def give_back_all(self) -> None:
        """Let others have all that this thread has on lease."""
        if self.leases is not None:
            for number in self.leases.end_all(threading.get_ident()):
                self.link.send(Kind.BACK, self._number, number, ())

    def on_message(self, kind: int, tag: int, body: bytes) -> None:
        """Take a message of the broker's."""
        if kind == Kind.SHUT:
            self.is_shut = True
        else:
            self.left.on_answer(kind, tag, body)
            self.right.on_answer(kind, tag, body)


def _answered() -> Ask:
    """Return what was asked for before it was waited for."""
    ask = Ask(-1, idle=False)
    ask.is_answered = True
    return ask
