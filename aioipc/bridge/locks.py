"""`AsyncLock` and its like: `multiprocessing`'s locks and semaphores, awaited.

Other processes, and threads of this one, go on using the plain object.

A Lock or a semaphore has no owner, as in the standard library: any task, thread or
process may release it. An RLock is owned by a task: that task may acquire it again, and
no other one may release it. If a task ends while it owns a lock, the lock stays held,
as it does if a thread ends. While a task owns an RLock, plain code in this process
finds it held by somebody else.

However often a plain lock is wrapped, it is one lock: to its awaitables the same task
owns it, and they have one queue for those of an event loop who wait. Event loops that
run at the same time, in several threads, compete for it as processes do.
"""

from dataclasses import dataclass
from multiprocessing import get_context, synchronize
from multiprocessing.context import BaseContext
from typing import Any, ClassVar

import anyio

from aioipc.bridge.attached import AttachedLock, SharedState
from aioipc.bridge.insides.locks import is_locked, lockable
from aioipc.transport.acquiring import Acquirer
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import current_task, task_name
from aioipc.transport.threads import Lockable

__all__ = [
    "AsyncBoundedSemaphore",
    "AsyncLock",
    "AsyncRLock",
    "AsyncSemaphore",
    "BoundedSemaphore",
    "Lock",
    "LockStatistics",
    "OwnedLock",
    "RLock",
    "Semaphore",
    "own_lock",
]


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """The state of a lock or a semaphore.

    :ivar locked: is held, by anyone; a semaphore: is at zero
    :ivar tasks_waiting: in `acquire`, in this process
    :ivar owner: the name of the task of this process that acquired it; of a lock only
    :ivar count: how many times the owner has acquired it
    """

    locked: bool
    tasks_waiting: int
    owner: str | None = None
    count: int = 0


class Tenure:
    """Who has a lock or a semaphore, and who waits for it, in this process.

    :ivar lockable: what any thread may acquire and release
    :ivar acquirer: what acquires it for tasks
    :ivar owner: the task that acquired it, of a lock only: itself, not its id, which
        might be another's later
    :ivar count: how many times
    """

    def __init__(self, lock: synchronize.SemLock) -> None:
        self.lockable: Lockable = lockable(lock)
        self.acquirer = Acquirer(self.lockable, type(lock).__name__)
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be owned by nobody: it is a task of the parent's; in a forked child."""
        self.owner: Any = None
        self.count = 0


_tenures = SharedState(Tenure)


class AsyncSemLock(AttachedLock):
    """What the locks and semaphores have in common.

    :param lock: the plain one
    """

    _kind: ClassVar[type[synchronize.SemLock]]

    def __init__(self, lock: Any) -> None:
        if not isinstance(lock, self._kind):
            msg = f"{type(self).__name__} wraps a {self._kind.__name__}, not {lock!r}"
            raise TypeError(msg)
        super().__init__(lock)
        self._tenure = _tenures.of(lock)
        self._acquirer = self._tenure.acquirer

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it, and return whether that was possible.

        Tasks of one event loop get it in the order in which they came. A cancel leaves
        nothing acquired.

        :param block: whether to wait
        :param timeout: seconds to wait at most, for ever if None; negative is 0
        """
        self._require_attached()
        return await self._acquirer.acquire(block, timeout)

    def release(self) -> None:
        """Release it, at once.

        :raises ValueError: if it was released too often
        """
        self._require_attached()
        self._acquirer.release()

    def locked(self) -> bool:
        """Return whether it is held, by anyone, or a semaphore is at zero."""
        return is_locked(self._plain)

    def statistics(self) -> LockStatistics:
        """Return whether it is held, and how many tasks of this process wait."""
        return LockStatistics(self.locked(), self._acquirer.tasks)

    def _is_in_use(self) -> bool:
        state = self.statistics()
        return bool(state.tasks_waiting or (state.locked and state.count))

    def _state(self) -> str:
        return f"{self._how_held()} waiting={self._acquirer.tasks}"

    def _how_held(self) -> str:
        try:
            return f"value={self._plain.get_value()}"
        except NotImplementedError:  # on macOS
            return f"locked={self.locked()}"


class AsyncSemaphore(AsyncSemLock):
    """A `multiprocessing.Semaphore`, awaited.

    Get one from `Semaphore` or `wrap`.
    """

    _kind = synchronize.Semaphore

    def get_value(self) -> int:
        """Return how many times it can be acquired at this moment.

        :raises NotImplementedError: where the platform can't tell, as on macOS
        """
        return self._plain.get_value()


class AsyncBoundedSemaphore(AsyncSemaphore):
    """A `multiprocessing.BoundedSemaphore`, awaited.

    Get one from `BoundedSemaphore` or `wrap`.
    """

    _kind = synchronize.BoundedSemaphore


class OwnedLock(AsyncSemLock):
    """A lock that knows which task of this process acquired it."""

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        acquired = await super().acquire(block, timeout)
        if acquired:
            self._tenure.owner, self._tenure.count = current_task(), 1
        return acquired

    def release(self) -> None:
        self._tenure.forget()
        super().release()

    def statistics(self) -> LockStatistics:
        locked, waiting = self.locked(), self._acquirer.tasks
        owner = self._tenure.owner
        if owner is None or not locked:  # it was released elsewhere
            return LockStatistics(locked, waiting)
        return LockStatistics(locked, waiting, task_name(owner), self._tenure.count)

    @property
    def lockable(self) -> Lockable:
        """What any thread may acquire and release."""
        return self._tenure.lockable

    @property
    def acquirer(self) -> Acquirer:
        """What acquires it; for a condition."""
        return self._acquirer

    @property
    def is_mine(self) -> bool:
        """Whether the current task owns it."""
        owner = self._tenure.owner
        return owner is not None and owner is current_task()

    def let_go(self) -> int:
        """Release it as many times as it is acquired, and return that."""
        count = self._tenure.count
        self._tenure.forget()
        self._acquirer.release()
        return count

    async def get_back(self, count: int) -> None:
        """Acquire it that many times, whatever cancels come meanwhile.

        The last of them is raised afterwards.
        """
        cancelled: BaseException | None = None
        acquired = False
        while not acquired:
            try:
                # asyncio's own cancel goes through the shield
                with anyio.CancelScope(shield=True):
                    acquired = await self._acquirer.acquire()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
        self._tenure.owner, self._tenure.count = current_task(), count
        if cancelled is not None:
            raise cancelled

    def _how_held(self) -> str:
        state = self.statistics()
        if not state.locked:
            return "unlocked"
        return f"owner={state.owner or 'elsewhere'} count={state.count}"


class AsyncLock(OwnedLock):
    """A `multiprocessing.Lock`, awaited. Any task, thread or process may release it.

    Get one from `Lock` or `wrap`.
    """

    _kind = synchronize.Lock


class AsyncRLock(OwnedLock):
    """A `multiprocessing.RLock`, awaited: a task that owns it may acquire it again.

    Get one from `RLock` or `wrap`.
    """

    _kind = synchronize.RLock

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        if self.is_mine:
            self._tenure.count += 1
            return True
        return await super().acquire(block, timeout)

    def release(self) -> None:
        """Release it once, at once.

        :raises AssertionError: if another task owns it, or none
        """
        if not self.is_mine:
            raise AssertionError("attempt to release an RLock not owned by this task")
        self._tenure.count -= 1
        if not self._tenure.count:
            super().release()


def own_lock(lock: Any) -> OwnedLock:
    """Return the awaitable counterpart of a plain Lock or RLock, or what is one."""
    if isinstance(lock, OwnedLock):
        return lock
    return AsyncRLock(lock) if isinstance(lock, synchronize.RLock) else AsyncLock(lock)


def Lock(*, context: BaseContext | None = None) -> AsyncLock:  # noqa: N802 - multiprocessing's name
    """Return a `multiprocessing.Lock` to await; in a worker it is the plain lock."""
    return AsyncLock((context or get_context()).Lock())


def RLock(*, context: BaseContext | None = None) -> AsyncRLock:  # noqa: N802
    """Return a `multiprocessing.RLock` to await, owned by tasks."""
    return AsyncRLock((context or get_context()).RLock())


def Semaphore(  # noqa: N802
    value: int = 1, *, context: BaseContext | None = None
) -> AsyncSemaphore:
    """Return a `multiprocessing.Semaphore` to await."""
    return AsyncSemaphore((context or get_context()).Semaphore(value))


def BoundedSemaphore(  # noqa: N802
    value: int = 1, *, context: BaseContext | None = None
) -> AsyncBoundedSemaphore:
    """Return a `multiprocessing.BoundedSemaphore` to await."""
    return AsyncBoundedSemaphore((context or get_context()).BoundedSemaphore(value))
