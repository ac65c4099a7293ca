"""What a broker's locks decide; the parties are letters."""

from threading import BrokenBarrierError
from typing import Any

import pytest

from aioipc.broker.primitives import Barrier, Condition, Event, Lock, Semaphore, Wait

PENDING = object()


class Call(Wait):
    """A wait that knows what came of it."""

    def __init__(self, party: str) -> None:
        super().__init__(party, self.resolved)
        self.outcome: Any = PENDING

    def resolved(self, outcome: Any) -> None:
        assert self.outcome is PENDING, "resolved twice"
        self.outcome = outcome

    def __repr__(self) -> str:
        state = "pending" if self.outcome is PENDING else repr(self.outcome)
        return f"<{self.party} {state}>"


def calls(begin, parties: str) -> list[Call]:
    begun = [Call(party) for party in parties]
    for call in begun:
        begin(call)
    return begun


def done(begun: list[Call]) -> str:
    """Return the parties whose calls succeeded."""
    return "".join(str(call.party) for call in begun if call.outcome is True)


def pending(begun: list[Call]) -> str:
    return "".join(str(call.party) for call in begun if call.outcome is PENDING)


# Lock


def test_a_lock_is_passed_on_in_the_order_of_the_calls():
    lock = Lock()
    waiting = calls(lock.acquire, "abc")
    assert (done(waiting), lock.holder) == ("a", "a")
    lock.release()
    assert (done(waiting), lock.holder) == ("ab", "b")
    lock.release()
    lock.release()
    assert (lock.is_locked, lock.holder) == (False, None)


def test_a_lock_that_no_one_holds_cannot_be_released():
    lock = Lock()
    with pytest.raises(RuntimeError, match="unlocked"):
        lock.release()
    assert lock.acquire_nowait("a")
    lock.release()
    with pytest.raises(RuntimeError, match="unlocked"):
        lock.release()


def test_a_lock_that_is_held_cannot_be_had_at_once_not_even_by_its_holder():
    lock = Lock()
    assert lock.acquire_nowait("a")
    assert not lock.acquire_nowait("a")
    assert not lock.acquire_nowait("b")
    assert lock.holder == "a"


def test_who_gives_up_waiting_for_a_lock_is_passed_over():
    lock = Lock()
    waiting = calls(lock.acquire, "abc")
    assert lock.withdraw(waiting[1])
    assert not lock.withdraw(waiting[1])
    assert not lock.withdraw(waiting[0]), "it has it"
    lock.release()
    assert (done(waiting), pending(waiting)) == ("ac", "b")


def test_a_dead_holder_s_lock_passes_on():
    lock = Lock()
    waiting = calls(lock.acquire, "aba")
    lock.forget("a")
    assert (done(waiting), lock.holder) == ("ab", "b")
    lock.release()
    assert not lock.is_locked, "the other call of the dead one is forgotten"
    assert pending(waiting) == "a"


def test_a_dead_waiter_leaves_the_lock_alone():
    lock = Lock()
    waiting = calls(lock.acquire, "abc")
    lock.forget("b")
    assert lock.holder == "a"
    lock.release()
    assert lock.holder == "c"
    assert pending(waiting) == "b"


def test_a_lock_that_another_has_released_is_not_the_dead_one_s():
    lock = Lock()
    calls(lock.acquire, "ab")
    lock.release()
    lock.forget("a")
    assert lock.holder == "b"


# Semaphore


def test_permits_are_handed_out_in_the_order_of_the_calls():
    semaphore = Semaphore(2)
    waiting = calls(semaphore.acquire, "abcd")
    assert done(waiting) == "ab"
    semaphore.release("a")
    assert done(waiting) == "abc"
    semaphore.release("b", 3)
    assert done(waiting) == "abcd"
    assert semaphore.value == 2


def test_a_semaphore_has_no_fewer_permits_than_none():
    with pytest.raises(ValueError, match=">= 0"):
        Semaphore(-1)
    with pytest.raises(ValueError, match="one or more"):
        Semaphore().release("a", 0)


def test_no_permit_can_be_had_at_once_when_there_is_none():
    semaphore = Semaphore(1)
    assert semaphore.acquire_nowait("a")
    assert not semaphore.acquire_nowait("b")
    assert semaphore.value == 0


def test_who_gives_up_waiting_for_a_permit_is_passed_over():
    semaphore = Semaphore(0)
    waiting = calls(semaphore.acquire, "ab")
    assert semaphore.withdraw(waiting[0])
    semaphore.release("x")
    assert done(waiting) == "b"
    assert not semaphore.withdraw(waiting[1])
    assert semaphore.value == 0


def test_a_dead_party_s_permits_are_handed_out_again():
    semaphore = Semaphore(3)
    calls(semaphore.acquire, "aab")
    waiting = calls(semaphore.acquire, "cad")
    semaphore.forget("a")
    assert done(waiting) == "cd"
    semaphore.forget("b")
    semaphore.forget("c")
    semaphore.forget("d")
    assert semaphore.value == 3


def test_permits_that_were_given_back_are_not_handed_out_again_after_a_death():
    semaphore = Semaphore(2)
    calls(semaphore.acquire, "aa")
    semaphore.release("a")
    semaphore.forget("a")
    semaphore.forget("a")
    assert semaphore.value == 2


def test_permits_that_were_added_stay():
    semaphore = Semaphore(0)
    semaphore.release("a", 5)
    semaphore.forget("a")
    assert semaphore.value == 5


# Event


def test_all_who_wait_go_on_when_an_event_is_set():
    event = Event()
    waiting = calls(event.wait, "abc")
    assert event.withdraw(waiting[1])
    event.forget("c")
    event.set()
    event.set()
    assert (done(waiting), pending(waiting)) == ("a", "bc")
    assert done(calls(event.wait, "de")) == "de"
    event.clear()
    assert done(calls(event.wait, "f")) == ""
    assert not event.is_set


# Condition


@pytest.fixture
def condition() -> Condition:
    return Condition(Lock())


def wait(condition: Condition, parties: str) -> list[Call]:
    """Have parties wait, one after the other; no one has the lock then."""
    begun = [Call(party) for party in parties]
    for call in begun:
        assert condition.lock.acquire_nowait(call.party)
        condition.wait(call)
    return begun


def notify(condition: Condition, count: int | None = 1) -> None:
    assert condition.lock.acquire_nowait("x")
    condition.notify("x", count)
    condition.lock.release()


def test_who_waits_has_given_up_the_lock_and_has_it_again_when_notified(condition):
    (call,) = wait(condition, "a")
    assert not condition.lock.is_locked
    assert condition.lock.acquire_nowait("b")
    condition.notify("b")
    assert call.outcome is PENDING
    condition.lock.release()
    assert (call.outcome, condition.lock.holder) == (True, "a")


@pytest.mark.parametrize("holder", [None, "b"])
def test_only_the_holder_of_the_lock_may_wait_or_notify(condition, holder):
    if holder:
        condition.lock.acquire_nowait(holder)
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.wait(Call("a"))
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.notify("a")
    assert condition.lock.holder == holder
    assert not condition.waiting


def test_those_who_wait_are_notified_in_order_and_one_has_the_lock_at_a_time(condition):
    waiting = wait(condition, "abcd")
    notify(condition, 2)
    assert (done(waiting), condition.lock.holder) == ("a", "a")
    condition.lock.release()
    assert (done(waiting), condition.lock.holder) == ("ab", "b")
    condition.lock.release()
    assert not condition.lock.is_locked
    notify(condition, None)
    condition.lock.release()
    assert done(waiting) == "abcd"


def test_notifying_no_one_is_not_kept(condition):
    notify(condition, 5)
    notify(condition, None)
    waiting = wait(condition, "a")
    assert (pending(waiting), condition.lock.is_locked) == ("a", False)


@pytest.mark.parametrize("is_held", [True, False])
def test_who_gives_up_waiting_has_the_lock_again_first(condition, is_held):
    first, second = wait(condition, "ab")
    if is_held:
        condition.lock.acquire_nowait("x")
    condition.withdraw(first)
    if is_held:
        assert first.outcome is PENDING
        condition.lock.release()
    assert (first.outcome, condition.lock.holder) == (False, "a")
    condition.notify("a")
    condition.lock.release()
    assert second.outcome is True


def test_it_is_too_late_to_give_up_waiting_when_notified(condition):
    (call,) = wait(condition, "a")
    condition.lock.acquire_nowait("x")
    condition.notify("x")
    condition.withdraw(call)
    condition.lock.release()
    assert call.outcome is True
    condition.lock.release()
    assert not condition.lock.is_locked


def test_a_dead_waiter_is_not_notified(condition):
    waiting = wait(condition, "aba")
    condition.lock.forget("a")
    condition.forget("a")
    notify(condition)
    assert done(waiting) == "b"


@pytest.mark.parametrize("lock_first", [True, False])
def test_a_notification_of_one_who_died_before_it_had_the_lock_passes_on(
    condition, lock_first
):
    waiting = wait(condition, "abc")
    condition.lock.acquire_nowait("x")
    condition.notify("x")
    parts = [condition.lock, condition] if lock_first else [condition, condition.lock]
    for part in parts:
        part.forget("a")
    assert condition.lock.holder == "x"
    condition.lock.release()
    assert (done(waiting), condition.lock.holder) == ("b", "b")
    condition.lock.release()
    assert not condition.lock.is_locked


@pytest.mark.parametrize("lock_first", [True, False])
def test_a_notifier_and_the_notified_die_together(condition, lock_first):
    waiting = wait(condition, "abc")
    condition.lock.acquire_nowait("a")
    condition.notify("a", 2)
    parts = [condition.lock, condition] if lock_first else [condition, condition.lock]
    for part in parts:
        part.forget("a")
    assert (done(waiting), condition.lock.holder) == ("b", "b")
    condition.lock.release()
    assert (done(waiting), condition.lock.holder) == ("bc", "c")


@pytest.mark.parametrize("lock_first", [True, False])
def test_a_notification_of_one_who_died_before_it_released_the_lock_passes_on(
    condition, lock_first
):
    """It may have died before it was notified, and no one knew of it."""
    waiting = wait(condition, "abc")
    notify(condition)
    assert (done(waiting), condition.lock.holder) == ("a", "a")
    parts = [condition.lock, condition] if lock_first else [condition, condition.lock]
    for part in parts:
        part.forget("a")
    assert (done(waiting), condition.lock.holder) == ("ab", "b")


@pytest.mark.parametrize("again", [True, False])
def test_the_death_of_one_who_has_released_the_lock_notifies_no_one(condition, again):
    waiting = wait(condition, "ab")
    notify(condition)
    condition.lock.release()
    if again:
        assert condition.lock.acquire_nowait("a")
    condition.lock.forget("a")
    condition.forget("a")
    assert done(waiting) == "a"
    assert not condition.lock.is_locked


def test_who_has_heard_nothing_of_its_notification_renounces_it(condition):
    waiting = wait(condition, "abc")
    notify(condition)
    condition.renounce("a")
    condition.renounce("a")
    condition.renounce("c")
    assert (done(waiting), condition.lock.holder) == ("a", "a")
    condition.lock.release()
    assert (done(waiting), condition.lock.holder) == ("ab", "b")
    condition.lock.release()
    condition.renounce("b")
    assert done(waiting) == "ab"


def test_one_who_died_with_the_lock_after_it_was_notified_leaves_it(condition):
    waiting = wait(condition, "ab")
    notify(condition, 2)
    condition.lock.forget("a")
    condition.forget("a")
    assert (done(waiting), condition.lock.holder) == ("ab", "b")


def test_one_who_gave_up_and_died_before_it_had_the_lock_leaves_nothing(condition):
    (call,) = wait(condition, "a")
    condition.lock.acquire_nowait("x")
    condition.withdraw(call)
    condition.lock.forget("a")
    condition.forget("a")
    condition.lock.release()
    assert not condition.lock.is_locked
    assert call.outcome is PENDING


@pytest.mark.parametrize("how", ["notified", "gave up"])
def test_who_waits_for_the_lock_again_hears_that_there_will_be_none(condition, how):
    (call,) = wait(condition, "a")
    condition.lock.acquire_nowait("x")
    if how == "notified":
        condition.notify("x")
    else:
        condition.withdraw(call)
    error = OSError("closed")
    while condition.lock.waiting:
        condition.lock.waiting.popitem()[0].resolve(error)
    assert call.outcome is error


# Barrier


def test_all_go_on_when_the_last_has_come_each_with_its_place():
    barrier = Barrier(3)
    waiting = calls(barrier.wait, "ab")
    assert pending(waiting) == "ab"
    waiting += calls(barrier.wait, "c")
    assert [call.outcome for call in waiting] == [0, 1, 2]
    again = calls(barrier.wait, "aab")
    assert [call.outcome for call in again] == [0, 1, 2]


def test_a_barrier_is_for_someone():
    with pytest.raises(ValueError, match=">= 1"):
        Barrier(0)
    (call,) = calls(Barrier(1).wait, "a")
    assert call.outcome == 0


def test_who_gives_up_waiting_at_a_barrier_has_not_come():
    barrier = Barrier(2)
    (first,) = calls(barrier.wait, "a")
    assert barrier.withdraw(first)
    later = calls(barrier.wait, "bc")
    assert [call.outcome for call in later] == [0, 1]


def test_an_aborted_barrier_is_broken_until_it_is_reset():
    barrier = Barrier(2)
    waiting = calls(barrier.wait, "a")
    barrier.abort()
    assert barrier.is_broken
    waiting += calls(barrier.wait, "b")
    assert all(isinstance(call.outcome, BrokenBarrierError) for call in waiting)
    barrier.reset()
    assert not barrier.is_broken
    assert [call.outcome for call in calls(barrier.wait, "ab")] == [0, 1]


def test_a_reset_barrier_is_whole_but_not_for_those_who_waited():
    barrier = Barrier(2)
    (first,) = calls(barrier.wait, "a")
    barrier.reset()
    assert isinstance(first.outcome, BrokenBarrierError)
    assert not barrier.is_broken


def test_a_barrier_breaks_when_one_dies_who_waits():
    barrier = Barrier(3)
    dead, alive = calls(barrier.wait, "ab")
    barrier.forget("c")
    assert not barrier.is_broken
    barrier.forget("a")
    assert barrier.is_broken
    assert isinstance(alive.outcome, BrokenBarrierError)
    assert dead.outcome is PENDING
