"""A broker's locks as a worker has them: blocking, with the standard library's names.

What a worker holds when it dies passes on to the next who waits.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from aioipc.broker.connecting import Address
from aioipc.broker.link import Link
from aioipc.broker.releasing import Releasable
from aioipc.broker.remote import RemoteObject, Spec
from aioipc.broker.waiting import call, send, wait
from aioipc.wire.broker import Kind
from aioipc.worker.interrupts import safe_point

__all__ = [
    "RemoteBarrier",
    "RemoteCondition",
    "RemoteEvent",
    "RemoteLock",
    "RemoteSemaphore",
]

T = TypeVar("T")


class RemoteLock(Releasable):
    """A lock of a `Broker`, in a worker. Anyone may release it, as with `Lock`.

    :raises BrokenPipeError: from each method, if the broker is gone
    """

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock; return whether that was possible.

        :param timeout: seconds to wait at most, for ever if None
        """
        safe_point()
        link = self._connect()
        acquired: bool = call(link, self._number, "acquire", block, timeout=timeout)
        if acquired:
            self._acquired(link)
        return acquired

    def release(self) -> None:
        """Release the lock.

        :raises RuntimeError: if no one holds it
        """
        self._release()

    def locked(self) -> bool:
        """Return whether someone holds it."""
        return self._call("locked")

    def __enter__(self) -> bool:
        return self.acquire()


class RemoteSemaphore(Releasable):
    """A semaphore of a `Broker`, in a worker."""

    _most = sys.maxsize

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire a permit; return whether that was possible.

        :param timeout: seconds to wait at most, for ever if None
        """
        safe_point()
        link = self._connect()
        acquired: bool = call(link, self._number, "acquire", block, timeout=timeout)
        if acquired:
            self._acquired(link)
        return acquired

    def release(self, n: int = 1) -> None:
        """Give back permits, or add some."""
        self._release(n)

    def get_value(self) -> int:
        """Return how many permits are free."""
        return self._call("value")

    def locked(self) -> bool:
        """Return whether no permit is free."""
        return self.get_value() == 0

    def __enter__(self) -> bool:
        return self.acquire()


class RemoteEvent(RemoteObject):
    """An event of a `Broker`, in a worker."""

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._call("is_set")

    def set(self) -> None:
        """Set the flag: whoever waits goes on."""
        self._call("set")

    def clear(self) -> None:
        """Reset the flag."""
        self._call("clear")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set; return whether it is.

        :param timeout: seconds to wait at most, for ever if None
        """
        return self._call("wait", timeout=timeout)


class RemoteCondition(RemoteObject):
    """A condition of a `Broker`, in a worker.

    :param lock: that it goes with
    """

    def __init__(self, spec: Spec, lock: RemoteLock) -> None:
        super().__init__(spec)
        self._lock = lock

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock; return whether that was possible."""
        return self._lock.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Return whether someone holds the lock."""
        return self._lock.locked()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire it again.

        :param timeout: seconds to wait to be notified at most, for ever if None
        :returns: whether it was notified
        :raises RuntimeError: if this process does not hold the lock
        """
        link = self._connect()
        on_interrupt = partial(self._regain, link)
        return call(
            link, self._number, "wait", timeout=timeout, on_interrupt=on_interrupt
        )

    def _regain(self, link: Link, request: int) -> None:
        """Have the lock again, as whoever waits with it releases it on the way out.

        If this was notified, another one is. And if this is interrupted once more, the
        lock is not held, nor released on the way out.
        """
        try:
            send(link, Kind.CANCEL, self._number, request)
            wait(link, lambda: request in link.outcomes)
        except BaseException:
            self._lock._lost(link)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            link.abandon(self._number, request)
            raise
        with contextlib.suppress(RuntimeError):  # it was not held at all
            if link.take_outcome(request):
                link.tell(self._number, "notify", 1)

    def wait_for(
        self, predicate: Callable[[], T], timeout: float | None = None
    ) -> T | bool:
        """Wait until a predicate is true, return what it returned last."""
        until = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        """Have `n` of those who wait go on, once this process has released the lock.

        :raises RuntimeError: if it does not hold it
        """
        self._call("notify", n)

    def notify_all(self) -> None:
        """Have all who wait go on."""
        self._call("notify", None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.__exit__()

    def at(self, address: Address) -> "RemoteCondition":
        spec = self._spec._replace(address=address)
        return RemoteCondition(spec, cast("RemoteLock", self._lock.at(address)))

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteCondition, (self._spec, self._lock)


class RemoteBarrier(RemoteObject):
    """A barrier of a `Broker`, in a worker."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties wait, return the place in which this one came.

        :param timeout: seconds; when they are over the barrier is broken
        :raises threading.BrokenBarrierError: if it is broken, now or meanwhile: by a
            timeout, `abort`, `reset`, or because one who waited has died
        """
        return self._call("wait", timeout=timeout)

    def abort(self) -> None:
        """Break the barrier."""
        self._call("abort")

    def reset(self) -> None:
        """Make the barrier whole; whoever waits gets BrokenBarrierError."""
        self._call("reset")

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._call("state")[2]

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return self._call("state")[0]

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._call("state")[1]
