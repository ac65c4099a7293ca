"""`AsyncCondition` and `AsyncEvent`: to wait for what any process may tell.

What may have to wait for other processes is awaited: not only `wait`, but `notify`,
`set` and `clear`, too. They need the lock, and they wait until those are awake whom
they woke, as they do in the standard library; as there, a process that was killed while
it waited may hold them up for ever.

A note to the next reader. The notifying itself is a job in a thread, and the lock is
held until it is done, whatever becomes of the task: the semaphores would be out of step
otherwise. See `Sleepers` for the other side.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context, synchronize
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from aioipc.bridge.attached import Attached, AttachedLock, SharedState
from aioipc.bridge.insides.locks import ConditionInsides, EventInsides
from aioipc.bridge.locks import AsyncLock, AsyncRLock, LockStatistics, own_lock
from aioipc.transport.acquiring import Acquirer
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.sleepers import Sleeper, Sleepers
from aioipc.transport.threads import SLICE, Job, Lockable, ServiceThread

__all__ = [
    "AsyncCondition",
    "AsyncEvent",
    "Condition",
    "ConditionStatistics",
    "Event",
    "EventStatistics",
]

T = TypeVar("T")

GLANCES = 50
"""How often `AsyncEvent.is_set` waits a millisecond for the event's lock, and blocks.

Not a time: if the whole machine stands still, that is no answer.
"""

LOOK = 0.2
"""Seconds at most that `AsyncEvent.wait` waits for it when its own time is over."""


@dataclass(frozen=True, slots=True)
class ConditionStatistics:
    """The state of an `AsyncCondition` in this process.

    :ivar tasks_waiting: in `wait`, and not yet notified
    :ivar lock: of its lock
    """

    tasks_waiting: int
    lock: LockStatistics


@dataclass(frozen=True, slots=True)
class EventStatistics:
    """The state of an `AsyncEvent`.

    :ivar is_set: in all processes
    :ivar tasks_waiting: in this process
    """

    is_set: bool
    tasks_waiting: int


class AsyncCondition(AttachedLock):
    """A `multiprocessing.Condition`, awaited.

    Each waiting task is one sleeper for `notify`, of whatever process. Its lock is
    owned by a task, be it a Lock or an RLock: only that task may wait and notify.

    Get one from `Condition` or `wrap`.

    :param condition: the plain one
    :param lock: the awaitable of its lock, if there is one already
    """

    def __init__(
        self,
        condition: Any,
        lock: AsyncLock | AsyncRLock | None = None,
    ) -> None:
        if not isinstance(condition, synchronize.Condition):
            msg = f"AsyncCondition wraps a Condition, not {condition!r}"
            raise TypeError(msg)
        super().__init__(condition)
        self._insides = ConditionInsides(condition)
        self._lock = own_lock(lock or self._insides.lock)
        self._sleepers = Sleepers(self._insides, self._pass_on, "condition wait")
        self._passer = ServiceThread("notify another")

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock, and return whether that was possible; as its `acquire`."""
        self._require_attached()
        return await self._lock.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock; as its `release`."""
        self._lock.release()

    async def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire the lock again.

        A cancel is raised when the lock is acquired again, however long that takes. If
        the task had already been notified, another one is, in its place.

        :param timeout: seconds to wait at most, without those for the lock
        :returns: whether it was notified
        :raises AssertionError: if this task does not own the lock
        """
        if not self._lock.is_mine:
            raise AssertionError("must acquire() condition before using wait()")
        # A notify of ours that was cancelled is not for one who waits after it.
        await self._lock.acquirer.until_called()
        sleeper = self._sleepers.lie_down()
        count = self._lock.let_go()
        try:
            await self._sleep(sleeper, timeout, count)
        except BaseException:
            if sleeper.notified:
                self._sleepers.wake_another()
            raise
        return sleeper.notified

    async def wait_for(
        self, predicate: Callable[[], T], timeout: float | None = None
    ) -> T:
        """Wait until `predicate` is true, and return what it returned last.

        :param timeout: seconds to wait at most, for ever if None
        """
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        while not (result := predicate()):
            left = end - time.monotonic()
            if left <= 0:
                break
            await self.wait(None if timeout is None else left)
        return result

    async def notify(self, n: int = 1) -> None:
        """Notify `n` of those who wait, in whatever process.

        If it is cancelled they are notified nevertheless.

        :raises AssertionError: if this task does not own the lock
        """
        job = self.notify_soon(n)
        if job is None:
            await anyio.lowlevel.checkpoint()
        else:
            await job.wait()
            job.result()

    async def notify_all(self) -> None:
        """Notify all who wait, as `notify` does."""
        await self.notify(sys.maxsize)

    def notify_soon(self, n: int) -> Job[None] | None:
        """Begin to notify; a `release` comes into effect when that is done.

        :returns: None if nobody waits
        """
        if not self._lock.is_mine:
            raise AssertionError("lock is not owned")
        if not self._insides.has_sleepers:
            return None
        return self._lock.acquirer.call_held(lambda: self._insides.notify(n))

    def statistics(self) -> ConditionStatistics:
        """Return how many tasks of this process wait, and the state of the lock."""
        return ConditionStatistics(len(self._sleepers), self._lock.statistics())

    def _is_in_use(self) -> bool:
        state = self.statistics()
        lock = state.lock
        return bool(state.tasks_waiting or lock.tasks_waiting or lock.count)

    def _state(self) -> str:
        return f"{self._lock!r} waiting={len(self._sleepers)}"

    async def _sleep(self, sleeper: Sleeper, timeout: float | None, count: int) -> None:
        """Sleep, and have the lock again, unless the coroutine is thrown away."""
        try:
            with anyio.move_on_after(timeout):
                await sleeper.wait()
        except GeneratorExit:
            self._sleepers.get_up(sleeper)
            raise
        except BaseException:
            self._sleepers.get_up(sleeper)
            await self._lock.get_back(count)
            raise
        self._sleepers.get_up(sleeper)
        await self._lock.get_back(count)

    def _pass_on(self) -> None:
        """Notify someone in another process, in a thread, as nobody here is there."""
        if self._insides.has_sleepers:
            self._passer.submit(self._notify_another)

    def _notify_another(self) -> None:
        lock = self._lock.lockable
        # Who goes to sleep from now on has seen why there was a notification.
        while self._insides.has_sleepers:
            if lock.acquire(True, SLICE):
                try:
                    self._insides.notify(1)
                finally:
                    lock.release()
                return


class EventLock:
    """The lock of an event, which knows whether this process has it.

    :ivar is_ours: whether it does
    """

    def __init__(self, lock: Lockable) -> None:
        self._lock = lock
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be the parent's, if anyone's; in a forked child."""
        self.is_ours = False

    def acquire(self, block: bool = True, timeout: float | None = None, /) -> bool:
        """Acquire it; False if that takes too long."""
        acquired = self._lock.acquire(block, timeout)
        if acquired:
            self.is_ours = True
        return acquired

    def release(self) -> None:
        """Release it."""
        self.is_ours = False
        self._lock.release()


def _lock_of(event: Any) -> tuple[EventLock, Acquirer]:
    lock = EventLock(EventInsides(event).condition.lock)
    return lock, Acquirer(lock, "event")


_locks = SharedState(_lock_of)


class AsyncEvent(Attached):
    """A `multiprocessing.Event`, awaited.

    Get one from `Event` or `wrap`.

    :param event: the plain one
    """

    def __init__(self, event: Any) -> None:
        if not isinstance(event, synchronize.Event):
            msg = f"AsyncEvent wraps an Event, not {event!r}"
            raise TypeError(msg)
        super().__init__(event)
        self._insides = EventInsides(event)
        self._condition = self._insides.condition
        self._lock, self._acquirer = _locks.of(event)
        # All are notified, so there is nobody to pass a notification on to.
        self._sleepers = Sleepers(self._condition, bool, "event wait")

    def is_set(self) -> bool:
        """Return whether it is set, at this moment.

        It is not awaited, so it can't wait for long: if others have the event's lock
        for 50 ms, it says False. That is wrong if another process, which was just
        looking whether it is set, has got no CPU for so long; ``await wait(0)`` gives
        it 200 ms.
        """
        # The others take the flag down for an instant when they look whether it is up;
        # they do that with the lock. To sleep, not to spin, lets them have the CPU.
        for _ in range(GLANCES):
            if self._insides.flagged:
                return True
            if self._lock.is_ours:  # perhaps for a task that goes on after us
                break
            if self._lock.acquire(True, 0.001):
                flagged = self._insides.flagged
                self._lock.release()
                return flagged
        return self._insides.flagged

    async def set(self) -> None:
        """Set it, and wake all who wait, in all processes.

        If it is cancelled, it is set and they are all awoken, or nothing has happened.
        """
        self._require_attached()
        await self._acquirer.acquire()
        self._insides.raise_flag()
        if not self._condition.has_sleepers:
            self._acquirer.release()
            return
        job = self._acquirer.call_held(lambda: self._condition.notify(sys.maxsize))
        self._acquirer.release()
        await job.wait()
        job.result()

    async def clear(self) -> None:
        """Reset it. Those who waited when it was set have been awoken."""
        self._require_attached()
        await self._acquirer.acquire()
        self._insides.flag.acquire(False)
        self._acquirer.release()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or has been while the task waited.

        :param timeout: seconds to wait at most, for ever if None; negative is 0. To
            look a last time takes an instant more; 200 ms if somebody holds the event's
            lock, who may have been killed
        :returns: False if the time ran out
        """
        self._require_attached()
        if self._insides.flagged:
            await anyio.lowlevel.checkpoint()
            return True
        if timeout is not None and timeout <= 0:
            return await self._look()
        sleeper: Sleeper | None = None
        with anyio.move_on_after(timeout):
            await self._acquirer.acquire()
            sleeper = self._lie_down()
            if sleeper is not None:
                await self._sleep(sleeper)
            return True
        return (sleeper is not None and sleeper.notified) or await self._look()

    def statistics(self) -> EventStatistics:
        """Return whether it is set, and how many tasks of this process wait."""
        return EventStatistics(self.is_set(), self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._sleepers) + self._acquirer.tasks

    def _is_in_use(self) -> bool:
        return self._waiting > 0

    def _state(self) -> str:
        word = "set" if self.is_set() else "unset"
        return f"{word} waiting={self._waiting}"

    async def _look(self) -> bool:
        """Return whether it is set, with the lock: see `is_set`."""
        if self._insides.flagged:
            return True
        if not await self._acquirer.acquire(timeout=LOOK):
            return self._insides.flagged
        flagged = self._insides.flagged
        self._acquirer.release()
        return flagged

    def _lie_down(self) -> Sleeper | None:
        """Go to sleep unless it is set; with the lock, which is released."""
        try:
            return None if self._insides.flagged else self._sleepers.lie_down()
        finally:
            self._acquirer.release()

    async def _sleep(self, sleeper: Sleeper) -> None:
        try:
            await sleeper.wait()
        finally:
            self._sleepers.get_up(sleeper)


def Condition(  # noqa: N802 - multiprocessing's name
    lock: Any = None, *, context: BaseContext | None = None
) -> AsyncCondition:
    """Return a `multiprocessing.Condition` to await; in a worker it is the plain one.

    :param lock: an `AsyncLock` or `AsyncRLock`, or a plain one; a new RLock if None
    """
    ours = lock if isinstance(lock, AsyncLock | AsyncRLock) else None
    plain: Any = lock if ours is None else ours.sync
    return AsyncCondition((context or get_context()).Condition(plain), ours)


def Event(*, context: BaseContext | None = None) -> AsyncEvent:  # noqa: N802
    """Return a `multiprocessing.Event` to await; in a worker it is the plain one."""
    return AsyncEvent((context or get_context()).Event())
