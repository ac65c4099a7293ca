"""What workers may do with the broker's locks, and what it does when they die."""

from functools import partial

from aioipc.broker.primitives import (
    Barrier,
    Condition,
    Event,
    Lock,
    Primitive,
    Semaphore,
    Wait,
)
from aioipc.broker.session import Call, Service, Session

__all__ = [
    "BarrierService",
    "ConditionService",
    "EventService",
    "LockService",
    "SemaphoreService",
]


class _PrimitiveService(Service):
    """What workers may do with a lock or its like."""

    def __init__(self, number: int, core: Primitive) -> None:
        self.number = number
        self._core = core

    def forget(self, session: Session) -> None:
        self._core.forget(session)

    def _wait_for(self, call: Call) -> Wait:
        """Return a wait that is answered False if it is cancelled."""
        wait = Wait(call.session, call.resolve)
        call.withdraw = partial(self._give_up, call, wait)
        return wait

    def _give_up(self, call: Call, wait: Wait) -> None:
        if self._core.withdraw(wait):
            call.resolve(False)


class LockService(_PrimitiveService):
    """What workers may do with a lock."""

    def __init__(self, number: int, core: Lock) -> None:
        super().__init__(number, core)
        self._lock = core
        self.methods = {
            "acquire": self._acquire,
            "release": self._release,
            "locked": self._locked,
        }

    def _acquire(self, call: Call, block: bool) -> None:
        call.undo = partial(self._undo_acquire, call.session)
        if self._lock.acquire_nowait(call.session):
            call.resolve(True)
        elif block:
            self._lock.acquire(self._wait_for(call))
        else:
            call.resolve(False)

    def _release(self, call: Call) -> None:
        self._lock.release()
        call.resolve(None)

    def _undo_acquire(self, session: Session, acquired: bool) -> None:
        if acquired and self._lock.holder == session:
            self._lock.release()

    def _locked(self, call: Call) -> None:
        call.resolve(self._lock.is_locked)


class SemaphoreService(_PrimitiveService):
    """What workers may do with a semaphore."""

    def __init__(self, number: int, core: Semaphore) -> None:
        super().__init__(number, core)
        self._semaphore = core
        self.methods = {
            "acquire": self._acquire,
            "release": self._release,
            "value": self._value,
        }

    def _acquire(self, call: Call, block: bool) -> None:
        call.undo = partial(self._undo_acquire, call.session)
        if self._semaphore.acquire_nowait(call.session):
            call.resolve(True)
        elif block:
            self._semaphore.acquire(self._wait_for(call))
        else:
            call.resolve(False)

    def _release(self, call: Call, count: int = 1) -> None:
        self._semaphore.release(call.session, count)
        call.resolve(None)

    def _undo_acquire(self, session: Session, acquired: bool) -> None:
        if acquired:
            self._semaphore.release(session)

    def _value(self, call: Call) -> None:
        call.resolve(self._semaphore.value)


class EventService(_PrimitiveService):
    """What workers may do with an event."""

    def __init__(self, number: int, core: Event) -> None:
        super().__init__(number, core)
        self._event = core
        self.methods = {
            "is_set": self._is_set,
            "set": self._set,
            "clear": self._clear,
            "wait": self._wait,
        }

    def _is_set(self, call: Call) -> None:
        call.resolve(self._event.is_set)

    def _set(self, call: Call) -> None:
        self._event.set()
        call.resolve(None)

    def _clear(self, call: Call) -> None:
        self._event.clear()
        call.resolve(None)

    def _wait(self, call: Call) -> None:
        self._event.wait(self._wait_for(call))


class ConditionService(_PrimitiveService):
    """What workers may do with a condition."""

    def __init__(self, number: int, core: Condition) -> None:
        super().__init__(number, core)
        self._condition = core
        self.methods = {"wait": self._wait, "notify": self._notify}

    def _wait(self, call: Call) -> None:
        call.undo = partial(self._undo_wait, call.session)
        self._condition.wait(self._wait_for(call))

    def _undo_wait(self, session: Session, notified: bool) -> None:
        """Give up the lock, which the call has again, and have another one notified."""
        lock = self._condition.lock
        if lock.holder == session:
            if notified:
                self._condition.notify(session)
            lock.release()

    def _notify(self, call: Call, count: int | None) -> None:
        self._condition.notify(call.session, count)
        call.resolve(None)


class BarrierService(_PrimitiveService):
    """What workers may do with a barrier."""

    def __init__(self, number: int, core: Barrier) -> None:
        super().__init__(number, core)
        self._barrier = core
        self.methods = {
            "wait": self._wait,
            "abort": self._abort,
            "reset": self._reset,
            "state": self._state,
        }

    def _wait(self, call: Call) -> None:
        wait = Wait(call.session, call.resolve)
        call.withdraw = self._barrier.abort  # a worker's timeout, as the stdlib's
        self._barrier.wait(wait)

    def _abort(self, call: Call) -> None:
        self._barrier.abort()
        call.resolve(None)

    def _reset(self, call: Call) -> None:
        self._barrier.reset()
        call.resolve(None)

    def _state(self, call: Call) -> None:
        barrier = self._barrier
        call.resolve((len(barrier.waiting), barrier.is_broken, barrier.parties))
