"""What the awaitable locks and their like have in common: a plain object to detach.

Others may go on using the plain object meanwhile, in this process and elsewhere.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from aioipc.bridge.handover import Bridged
from aioipc.errors import BusyResourceError, ClosedResourceError

__all__ = ["Attached", "AttachedLock", "SharedState"]

S = TypeVar("S")


class SharedState(Generic[S]):
    """What all awaitables of one plain object in this process have in common.

    Programs wrap an object wherever they use it: a task that acquired a lock by one
    awaitable must not be a stranger to another. It lives as long as the plain object,
    to which it must not refer.

    :param make: makes it for a plain object that has none yet
    """

    def __init__(self, make: Callable[[Any], S]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Any, S] = WeakKeyDictionary()

    def of(self, plain: Any) -> S:
        """Return that of a plain object."""
        state = self._made.get(plain)
        if state is None:
            state = self._made.setdefault(plain, self._make(plain))
        return state


class Attached(Bridged):
    """An awaitable of a plain object that it does not own alone.

    :param plain: the `multiprocessing` one
    """

    def __init__(self, plain: Any) -> None:
        self._plain: Any = plain
        self._detached = False

    def detach(self) -> Any:
        """Give the plain object back, and be of no use any more.

        :raises BusyResourceError: if tasks of this process wait for it or, of what has
            a lock, one has acquired that
        """
        self._require_attached()
        if self._is_in_use():
            raise BusyResourceError(f"{self!r} is in use")
        self._detached = True
        return self._plain

    @property
    def sync(self) -> Any:
        """The plain object, to be handed to a worker."""
        self._require_attached()
        return self._plain

    def __repr__(self) -> str:
        state = "detached" if self._detached else self._state()
        return f"<{type(self).__name__} {state}>"

    def _require_attached(self) -> None:
        if self._detached:
            raise ClosedResourceError(f"{self!r}")

    @abstractmethod
    def _is_in_use(self) -> bool:
        """Whether tasks of this process would be left alone by `detach`."""

    @abstractmethod
    def _state(self) -> str:
        """Say how it is, for `repr`."""


class AttachedLock(Attached):
    """One that can be acquired: ``async with`` does."""

    @abstractmethod
    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it, and return whether that was possible."""

    @abstractmethod
    def release(self) -> None:
        """Release it, at once."""

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()
