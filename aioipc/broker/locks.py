"""The broker's locks, awaited.

What a worker holds when it dies passes on to the next who waits. A wait that is
cancelled leaves nothing held, and no one's turn lost.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from aioipc.bridge.handover import Bridged
from aioipc.broker.lock_services import (
    BarrierService,
    ConditionService,
    EventService,
    LockService,
    SemaphoreService,
)
from aioipc.broker.parking import COORDINATOR, LocalWait
from aioipc.broker.primitives import (
    Barrier,
    Condition,
    Event,
    Lock,
    Primitive,
    Semaphore,
)
from aioipc.broker.remote import Spec, rebuild
from aioipc.broker.remote_locks import (
    RemoteBarrier,
    RemoteCondition,
    RemoteEvent,
    RemoteLock,
    RemoteSemaphore,
)
from aioipc.errors import (
    BrokenBarrierError,
    ClosedResourceError,
    EventLoopError,
)
from aioipc.transport.loops import Loop

__all__ = [
    "BrokerBarrier",
    "BrokerCondition",
    "BrokerEvent",
    "BrokerLock",
    "BrokerSemaphore",
]

T = TypeVar("T")


class _BrokerPrimitive(Bridged):
    """Something to wait for that lives here."""

    def __init__(self, loop: Loop, spec: Spec, core: Primitive) -> None:
        self._loop = loop
        self._spec = spec
        self._primitive = core
        self._closed = False

    def _close(self) -> None:
        """Have all who wait here fail; for the broker, which is closed."""
        self._closed = True
        waiting = self._primitive.waiting
        while waiting:
            waiting.popitem()[0].resolve(ClosedResourceError("the broker is closed"))

    async def _wait(
        self,
        begin: Callable[[LocalWait], None],
        undo: Callable[[], object],
        timeout: float | None = None,
    ) -> Any:
        """Return what comes of a wait; False after `timeout` seconds.

        :param undo: called if it succeeded, and the task was cancelled
        """
        self._require_open()
        wait = LocalWait(self._loop)
        begin(wait)
        try:
            with anyio.move_on_after(timeout):
                await wait.parking.wait()
        except BaseException:
            if not self._primitive.withdraw(wait) and wait.outcome is True:
                undo()
            raise
        if not wait.parking.is_over and self._primitive.withdraw(wait):
            return False
        if isinstance(wait.outcome, BaseException):
            raise wait.outcome
        return wait.outcome

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedResourceError("the broker is closed")
        self._require_loop()

    def _require_loop(self) -> None:
        """Be in the thread of the loop; afterwards nothing goes wrong any more."""
        if not (self._closed or self._loop.is_current()):
            raise EventLoopError("a lock of a broker is used outside of its loop")


class _BrokerAcquirable(_BrokerPrimitive):
    """Something to acquire that lives here."""

    def __init__(self, loop: Loop, spec: Spec, core: Lock | Semaphore) -> None:
        super().__init__(loop, spec, core)
        self._acquirable = core

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; return whether that was possible.

        :param timeout: seconds to wait at most, for ever if None
        :raises ClosedResourceError: if the broker is closed, now or meanwhile
        """
        self._require_open()
        if self._acquirable.acquire_nowait(COORDINATOR):
            return await _or_undo(self.release)
        if not block or (timeout is not None and timeout <= 0):
            await anyio.lowlevel.checkpoint()
            return False
        return await self._wait(self._acquirable.acquire, self.release, timeout)

    def release(self) -> None:
        """Release it."""
        raise NotImplementedError

    async def __aenter__(self) -> bool:
        return await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._closed:
            self.release()


class BrokerLock(_BrokerAcquirable):
    """A lock that lives here; in a worker it is a `RemoteLock`, which blocks.

    Anyone may release it, as with `multiprocessing.Lock`. It passes on when the worker
    dies that acquired it. Those who wait are served in the order in which they came.
    """

    def __init__(self, loop: Loop, spec: Spec, core: Lock) -> None:
        super().__init__(loop, spec, core)
        self._core = core
        self._service = LockService(spec.number, core)

    def release(self) -> None:
        """Release the lock.

        :raises RuntimeError: if no one holds it
        """
        self._require_loop()
        self._core.release()

    def locked(self) -> bool:
        """Return whether someone holds it."""
        return self._core.is_locked

    @property
    def sync(self) -> RemoteLock:
        """What a worker gets: it blocks."""
        return rebuild(RemoteLock, self._spec)

    def __repr__(self) -> str:
        state = f"held by {self._core.holder}" if self._core.is_locked else "unlocked"
        return f"<BrokerLock {state}, {len(self._core.waiting)} waiting>"


class BrokerSemaphore(_BrokerAcquirable):
    """A semaphore that lives here; in a worker it is a `RemoteSemaphore`.

    What a worker has acquired, and not released, is released when it dies.
    """

    def __init__(self, loop: Loop, spec: Spec, core: Semaphore) -> None:
        super().__init__(loop, spec, core)
        self._semaphore = core
        self._service = SemaphoreService(spec.number, core)

    def release(self, n: int = 1) -> None:
        """Give back permits, or add some."""
        self._require_loop()
        self._semaphore.release(COORDINATOR, n)

    def get_value(self) -> int:
        """Return how many permits are free."""
        return self._semaphore.value

    def locked(self) -> bool:
        """Return whether no permit is free."""
        return self.get_value() == 0

    @property
    def sync(self) -> RemoteSemaphore:
        """What a worker gets: it blocks."""
        return rebuild(RemoteSemaphore, self._spec)

    def __repr__(self) -> str:
        core = self._semaphore
        return f"<BrokerSemaphore {core.value} free, {len(core.waiting)} waiting>"


class BrokerEvent(_BrokerPrimitive):
    """An event that lives here; in a worker it is a `RemoteEvent`."""

    def __init__(self, loop: Loop, spec: Spec, core: Event) -> None:
        super().__init__(loop, spec, core)
        self._event = core
        self._service = EventService(spec.number, core)

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._event.is_set

    def set(self) -> None:
        """Set the flag: whoever waits goes on."""
        self._require_loop()
        self._event.set()

    def clear(self) -> None:
        """Reset the flag."""
        self._require_loop()
        self._event.clear()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set; return whether it is.

        :param timeout: seconds to wait at most, for ever if None
        :raises ClosedResourceError: if the broker is closed, now or meanwhile
        """
        if self._event.is_set:
            self._require_open()
            await anyio.lowlevel.checkpoint()
            return True
        return await self._wait(self._event.wait, bool, timeout)

    @property
    def sync(self) -> RemoteEvent:
        """What a worker gets: it blocks."""
        return rebuild(RemoteEvent, self._spec)

    def __repr__(self) -> str:
        state = "set" if self._event.is_set else "not set"
        return f"<BrokerEvent {state}, {len(self._event.waiting)} waiting>"


class BrokerCondition(_BrokerPrimitive):
    """A condition that lives here; in a worker it is a `RemoteCondition`.

    :param lock: that it goes with
    """

    def __init__(
        self, loop: Loop, spec: Spec, core: Condition, lock: BrokerLock
    ) -> None:
        super().__init__(loop, spec, core)
        self._condition = core
        self._lock = lock
        self._service = ConditionService(spec.number, core)

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock; return whether that was possible."""
        return await self._lock.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Return whether someone holds the lock."""
        return self._lock.locked()

    async def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire it again.

        A cancelled wait has the lock again, too; if it had been notified, another one
        is in its place.

        :param timeout: seconds to wait to be notified at most, for ever if None
        :returns: whether it was notified
        :raises RuntimeError: if no task here holds the lock
        """
        self._require_open()
        wait = LocalWait(self._loop)
        self._condition.wait(wait)
        cancelled: BaseException | None = None
        try:
            with anyio.move_on_after(timeout):
                await wait.parking.wait()
        except BaseException as error:  # noqa: BLE001 - raised below, with the lock
            cancelled = error
        if not wait.parking.is_over:
            self._condition.withdraw(wait)  # it goes on as soon as it has the lock
        while not wait.parking.is_over:
            try:
                with anyio.CancelScope(shield=True):
                    await wait.parking.wait()
            except BaseException as error:  # noqa: BLE001 - asyncio's own cancel
                cancelled = error
        if isinstance(wait.outcome, BaseException):
            raise wait.outcome
        if cancelled is not None:
            if wait.outcome:
                self._condition.renounce(COORDINATOR)
            raise cancelled
        return wait.outcome

    async def wait_for(
        self, predicate: Callable[[], T], timeout: float | None = None
    ) -> T | bool:
        """Wait until a predicate is true, return what it returned last."""
        until = None if timeout is None else anyio.current_time() + timeout
        while not (result := predicate()):
            left = None if until is None else until - anyio.current_time()
            if left is not None and left <= 0:
                break
            await self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        """Have `n` of those who wait go on, once the lock is released.

        :raises RuntimeError: if no task here holds the lock
        """
        self._require_loop()
        self._condition.notify(COORDINATOR, n)

    def notify_all(self) -> None:
        """Have all who wait go on."""
        self._require_loop()
        self._condition.notify(COORDINATOR, None)

    @property
    def sync(self) -> RemoteCondition:
        """What a worker gets: it blocks."""
        return RemoteCondition(self._spec, self._lock.sync)

    async def __aenter__(self) -> bool:
        return await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._closed:
            self.release()

    def __repr__(self) -> str:
        waiting = len(self._condition.waiting)
        return f"<BrokerCondition of {self._lock!r}, {waiting} waiting>"


class BrokerBarrier(_BrokerPrimitive):
    """A barrier that lives here; in a worker it is a `RemoteBarrier`.

    If a worker dies that waits, it is broken: the others would wait in vain.
    """

    def __init__(self, loop: Loop, spec: Spec, core: Barrier) -> None:
        super().__init__(loop, spec, core)
        self._barrier = core
        self._service = BarrierService(spec.number, core)

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties wait, return the place in which this one came.

        A cancelled wait has not come, as with `asyncio.Barrier`.

        :param timeout: seconds; when they are over the barrier is broken
        :raises BrokenBarrierError: if it is broken, now or meanwhile: by a
            timeout, `abort`, `reset`, or because a worker that waited has died
        """
        self._require_open()
        wait = LocalWait(self._loop)
        self._barrier.wait(wait)
        try:
            with anyio.move_on_after(timeout):
                await wait.parking.wait()
        except BaseException:
            self._barrier.withdraw(wait)
            raise
        if not wait.parking.is_over:
            self._barrier.abort()
        if isinstance(wait.outcome, threading.BrokenBarrierError):
            raise BrokenBarrierError("the barrier is broken")
        if isinstance(wait.outcome, BaseException):
            raise wait.outcome
        return wait.outcome

    def abort(self) -> None:
        """Break the barrier."""
        self._require_loop()
        self._barrier.abort()

    def reset(self) -> None:
        """Make the barrier whole; whoever waits gets BrokenBarrierError."""
        self._require_loop()
        self._barrier.reset()

    @property
    def parties(self) -> int:
        """How many have to wait."""
        return self._barrier.parties

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return len(self._barrier.waiting)

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._barrier.is_broken

    @property
    def sync(self) -> RemoteBarrier:
        """What a worker gets: it blocks."""
        return rebuild(RemoteBarrier, self._spec)

    def __repr__(self) -> str:
        state = ", broken" if self._barrier.is_broken else ""
        return f"<BrokerBarrier {self.n_waiting} of {self.parties} waiting{state}>"


async def _or_undo(undo: Callable[[], object]) -> bool:
    """Give the loop its turn; undo what was acquired if that brings a cancel."""
    try:
        await anyio.lowlevel.checkpoint()
    except BaseException:
        undo()
        raise
    return True
