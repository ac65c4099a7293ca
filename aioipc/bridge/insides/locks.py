"""What `multiprocessing` hides of locks and what is made of them."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import ctypes
from collections.abc import Callable
from functools import cache
from multiprocessing.synchronize import RLock, SemLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioipc.transport.threads import Lockable

__all__ = [
    "BarrierInsides",
    "ConditionInsides",
    "EventInsides",
    "OwnerlessRLock",
    "is_locked",
    "lockable",
]


def is_locked(lock: SemLock) -> bool:
    """Whether a lock is held by anyone, or a semaphore at zero."""
    return lock._semlock._is_zero()  # type: ignore[attr-defined]


def lockable(lock: SemLock) -> "Lockable":
    """Return what any thread may acquire and release; it does not refer to `lock`."""
    return OwnerlessRLock(lock) if isinstance(lock, RLock) else lock._semlock  # type: ignore[attr-defined]


class OwnerlessRLock:
    """The semaphore of an RLock, without the thread that owns it.

    Only the thread that acquired an RLock may release it, and may acquire it again.
    Here tasks own it, and any thread may act for them: so the RLock is told to forget
    its owner, as it does in a forked child. For all that know it, it is then held by
    another process, until the semaphore itself is posted.
    """

    __slots__ = ("_semlock",)

    def __init__(self, lock: RLock) -> None:
        self._semlock: Any = lock._semlock  # type: ignore[attr-defined]

    def acquire(self, block: bool = True, timeout: float | None = None, /) -> bool:
        """Acquire it; False if that takes too long."""
        # Plain code may own it in this thread; it would be acquired once more, then.
        if self._semlock._is_mine() or not self._semlock.acquire(block, timeout):
            return False
        self._semlock._after_fork()
        return True

    def release(self) -> None:
        """Release it; only if it is held."""
        _post()(self._semlock.handle)


@cache
def _post() -> Callable[[int], int]:
    post = ctypes.PyDLL(None).sem_post
    post.argtypes = [ctypes.c_void_p]
    return post


class ConditionInsides:
    """The lock and the three semaphores of a `multiprocessing.Condition`.

    :ivar sleeping: counts those who went to sleep, until they are notified
    :ivar wakeups: is posted once for each who is notified
    :ivar woken: counts those who came back, notified or not, until a notifier looks
    """

    __slots__ = ("_sleeping", "lock", "sleeping", "wakeups", "woken")

    def __init__(self, condition: Any) -> None:
        self.lock: Any = condition._lock
        self.sleeping: Lockable = condition._sleeping_count
        self.wakeups: Lockable = condition._wait_semaphore
        self.woken: Lockable = condition._woken_count
        self._sleeping: Any = condition._sleeping_count._semlock

    @property
    def has_sleepers(self) -> bool:
        """Whether a notification could concern anyone."""
        return not self._sleeping._is_zero()

    def notify(self, n: int) -> None:
        """Do what `Condition.notify` does, for whoever holds the lock; it may block.

        The standard library's checks whether the calling thread holds it.
        """
        while self.woken.acquire(False):  # those who left by a timeout
            self.sleeping.acquire(False)
        notified = 0
        while notified < n and self.sleeping.acquire(False):
            self.wakeups.release()
            notified += 1
        for _ in range(notified):
            self.woken.acquire()
        while notified and self.wakeups.acquire(False):
            pass  # meant for one whose time ran out meanwhile


class EventInsides:
    """The flag and the condition of a `multiprocessing.Event`."""

    __slots__ = ("_flag", "condition", "flag")

    def __init__(self, event: Any) -> None:
        self.condition = ConditionInsides(event._cond)
        self.flag: Lockable = event._flag
        self._flag: Any = event._flag._semlock

    @property
    def flagged(self) -> bool:
        """The flag without its lock: now and then it is down for an instant."""
        return not self._flag._is_zero()

    def raise_flag(self) -> None:
        """Set the flag; with the lock. It is not down for an instant if it is up."""
        if not self.flagged:
            self.flag.release()


class BarrierInsides:
    """The state of a `multiprocessing.Barrier`, in shared memory.

    :ivar condition: the plain one, whose lock guards `state` and `count`
    """

    __slots__ = ("_barrier", "action", "condition", "parties", "timeout")

    def __init__(self, barrier: Any) -> None:
        self._barrier = barrier
        self.condition: Any = barrier._cond
        self.action: Callable[[], object] | None = barrier._action
        self.timeout: float | None = barrier._timeout
        self.parties: int = barrier._parties

    @property
    def state(self) -> int:
        """0 filling, 1 draining, -1 resetting, -2 broken."""
        return self._barrier._state

    @state.setter
    def state(self, value: int) -> None:
        self._barrier._state = value

    @property
    def count(self) -> int:
        """How many are in the barrier, waiting or on their way out."""
        return self._barrier._count

    @count.setter
    def count(self, value: int) -> None:
        self._barrier._count = value
