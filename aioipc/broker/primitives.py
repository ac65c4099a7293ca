"""What locks decide: who holds one, and who is next; no loop, no process.

A `party` is whoever may die and leave something held: a worker, or the coordinator
itself. A `Wait` is one call of one party, resolved once, unless it is withdrawn before.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from threading import BrokenBarrierError
from typing import Any

__all__ = ["Barrier", "Condition", "Event", "Lock", "Primitive", "Semaphore", "Wait"]


class Wait:
    """A call that waits.

    :param resolve: called once, with what the call returns or raises
    """

    __slots__ = ("party", "resolve")

    def __init__(self, party: Hashable, resolve: Callable[[Any], object]) -> None:
        self.party = party
        self.resolve = resolve


class Primitive:
    """Something to wait for.

    :ivar waiting: calls, in the order in which they came
    """

    def __init__(self) -> None:
        self.waiting: OrderedDict[Wait, None] = OrderedDict()

    def withdraw(self, wait: Wait) -> bool:
        """Let a call wait no longer; False if it does not, or not just so."""
        return self.waiting.pop(wait, self) is None

    def forget(self, party: Hashable) -> None:
        """Undo what a dead party holds, and the calls in which it waits."""
        for wait in [wait for wait in self.waiting if wait.party == party]:
            self.withdraw(wait)

    def _resolve_first(self, outcome: Any) -> Wait:
        wait, _ = self.waiting.popitem(last=False)
        wait.resolve(outcome)
        return wait


class Lock(Primitive):
    """Held by one party, or by none. Anyone may release it.

    :ivar turn: how many times it has been had so far
    :ivar lost: the turn that ended last by the holder's death
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_locked = False
        self.holder: Hashable = None
        self.turn = 0
        self.lost = 0

    def acquire(self, wait: Wait) -> None:
        """Have the call resolved with True when its party holds the lock."""
        self.waiting[wait] = None
        if not self.is_locked:
            self._pass_on()

    def acquire_nowait(self, party: Hashable) -> bool:
        """Have it, if it is free."""
        if self.is_locked:
            return False
        self._have(party)
        return True

    def release(self) -> None:
        """Give it to the next.

        :raises RuntimeError: if no one holds it
        """
        if not self.is_locked:
            raise RuntimeError("release of an unlocked lock")
        self._pass_on()

    def forget(self, party: Hashable) -> None:
        super().forget(party)
        if self.is_locked and self.holder == party:
            self.lost = self.turn
            self._pass_on()

    def _pass_on(self) -> None:
        self.is_locked, self.holder = False, None
        if self.waiting:
            self._have(next(iter(self.waiting)).party)
            self._resolve_first(True)

    def _have(self, party: Hashable) -> None:
        self.is_locked, self.holder = True, party
        self.turn += 1


class Semaphore(Primitive):
    """A number of permits, each of which goes to one party at a time."""

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        super().__init__()
        self.value = value
        self.held: Counter[Hashable] = Counter()

    def acquire(self, wait: Wait) -> None:
        """Have the call resolved with True when its party has a permit."""
        self.waiting[wait] = None
        self._hand_out()

    def acquire_nowait(self, party: Hashable) -> bool:
        """Have a permit, if one is free."""
        if self.value <= 0 or self.waiting:
            return False
        self.value -= 1
        self.held[party] += 1
        return True

    def release(self, party: Hashable, count: int = 1) -> None:
        """Give permits back, or add some."""
        if count < 1:
            raise ValueError("n must be one or more")
        for _ in range(count):
            self._pay_back(party)
        self.value += count
        self._hand_out()

    def forget(self, party: Hashable) -> None:
        super().forget(party)
        self.value += self.held.pop(party, 0)
        self._hand_out()

    def _pay_back(self, party: Hashable) -> None:
        """Note that a party holds one less, or else another one does.

        If one acquires and another one releases, neither leaves anything behind.
        """
        payer = party if self.held[party] > 0 else next(iter(+self.held), party)
        if self.held[payer] > 1:
            self.held[payer] -= 1
        else:
            del self.held[payer]

    def _hand_out(self) -> None:
        while self.waiting and self.value > 0:
            self.value -= 1
            self.held[next(iter(self.waiting)).party] += 1
            self._resolve_first(True)


class Event(Primitive):
    """A flag."""

    def __init__(self) -> None:
        super().__init__()
        self.is_set = False

    def wait(self, wait: Wait) -> None:
        """Have the call resolved with True when the flag is set."""
        self.waiting[wait] = None
        if self.is_set:
            self._resolve_first(True)

    def set(self) -> None:
        """Set the flag: whoever waits goes on."""
        self.is_set = True
        while self.waiting:
            self._resolve_first(True)

    def clear(self) -> None:
        """Reset the flag."""
        self.is_set = False


class Condition(Primitive):
    """Something that may have become true, looked at by the holder of a lock.

    A call that waits has given up the lock, and has it again when it is resolved: with
    whether it was notified.

    A notification is not lost with who had it, and may not have looked yet: if that one
    dies before it has released the lock, another is notified.
    """

    def __init__(self, lock: Lock) -> None:
        super().__init__()
        self.lock = lock
        self._notified: dict[Wait, Wait] = {}  # calls that wait for the lock again
        self._turns: dict[int, Hashable] = {}  # of the lock's, after being notified

    def wait(self, wait: Wait) -> None:
        """Give up the lock, and wait to be notified."""
        self._require_lock(wait.party, "wait")
        self.waiting[wait] = None
        self.lock.release()

    def notify(self, party: Hashable, count: int | None = 1) -> None:
        """Have calls go on, all if `count` is None, once the lock is theirs."""
        self._require_lock(party, "notify")
        self._notify(len(self.waiting) if count is None else count)

    def withdraw(self, wait: Wait) -> bool:
        """Have the call go on without being notified, once the lock is its party's."""
        if super().withdraw(wait):
            self.lock.acquire(Wait(wait.party, _with(wait, notified=False)))
        return False

    def forget(self, party: Hashable) -> None:
        for wait in [wait for wait in self.waiting if wait.party == party]:
            del self.waiting[wait]
        lost = [wait for wait in self._notified if wait.party == party]
        for wait in lost:
            self.lock.withdraw(self._notified.pop(wait))
        self._notify(len(lost) + self._end_turn(party))

    def renounce(self, party: Hashable) -> None:
        """Notify another one in the place of a party that was, and heard nothing of it.

        It lives on, and holds the lock, which it releases by itself.
        """
        self._notify(self._end_turn(party))

    def _notify(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            wait, _ = self.waiting.popitem(last=False)
            self._notified[wait] = again = Wait(wait.party, self._go_on(wait))
            self.lock.acquire(again)

    def _go_on(self, wait: Wait) -> Callable[[Any], None]:
        resolve = _with(wait, notified=True)

        def go_on(outcome: Any) -> None:
            del self._notified[wait]
            for turn in self._turns.keys() - {self.lock.lost}:
                del self._turns[turn]
            self._turns[self.lock.turn] = wait.party
            resolve(outcome)

        return go_on

    def _end_turn(self, party: Hashable) -> bool:
        """Whether a party has had the lock since it was notified, until its death."""
        lock = self.lock
        for turn in (lock.lost, lock.turn if lock.is_locked else 0):
            if self._turns.get(turn, self) == party:
                del self._turns[turn]
                return True
        return False

    def _require_lock(self, party: Hashable, what: str) -> None:
        if not self.lock.is_locked or self.lock.holder != party:
            raise RuntimeError(f"cannot {what} on un-acquired lock")


class Barrier(Primitive):
    """A number of parties that wait for each other."""

    def __init__(self, parties: int) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        super().__init__()
        self.parties = parties
        self.is_broken = False

    def wait(self, wait: Wait) -> None:
        """Have the call resolved with its index when all have come."""
        if self.is_broken:
            wait.resolve(BrokenBarrierError())
            return
        self.waiting[wait] = None
        if len(self.waiting) == self.parties:
            for index in range(self.parties):
                self._resolve_first(index)

    def abort(self) -> None:
        """Break it: whoever waits, now or later, gets BrokenBarrierError."""
        self.is_broken = True
        while self.waiting:
            self._resolve_first(BrokenBarrierError())

    def reset(self) -> None:
        """Make it whole; whoever waits gets BrokenBarrierError."""
        self.abort()
        self.is_broken = False

    def forget(self, party: Hashable) -> None:
        """Break it if the dead party waits there: the others would wait in vain."""
        if any(wait.party == party for wait in self.waiting):
            super().forget(party)
            self.abort()


def _with(wait: Wait, *, notified: bool) -> Callable[[Any], object]:
    """Have a call go on with its lock, or fail as the acquiring of that has failed."""
    return lambda outcome: wait.resolve(notified if outcome is True else outcome)
