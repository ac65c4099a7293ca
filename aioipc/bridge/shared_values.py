"""`AsyncValue` and `AsyncArray`: memory that processes share, and an awaitable lock.

The memory is read and written at once, without the lock; only the lock is awaited. So
what must be done in one piece, such as ``value.value += 1``, needs ``async with
value:`` around it. (The standard library's take their lock for every access, which does
not help with that either.)
"""

from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from multiprocessing.sharedctypes import SynchronizedArray, SynchronizedBase
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from aioipc.bridge.attached import AttachedLock
from aioipc.bridge.locks import AsyncLock, AsyncRLock, LockStatistics, own_lock

if TYPE_CHECKING:
    from ctypes import _SimpleCData  # pyright: ignore[reportPrivateUsage]

__all__ = ["Array", "AsyncArray", "AsyncValue", "Value"]

T = TypeVar("T")

AnyLock = AsyncLock | AsyncRLock


class Synchronized(AttachedLock):
    """An object in shared memory, and its lock.

    :param plain: the `multiprocessing` one
    :param lock: the awaitable of its lock, if there is one already
    """

    def __init__(self, plain: Any, lock: AnyLock | None = None) -> None:
        super().__init__(plain)
        self._obj: Any = plain.get_obj()
        self._lock: Any = own_lock(lock or plain.get_lock())

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock, and return whether that was possible; as its `acquire`."""
        self._require_attached()
        return await self._lock.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock; as its `release`."""
        self._lock.release()

    def get_lock(self) -> AnyLock:
        """Return the lock, to await."""
        return self._lock

    def get_obj(self) -> Any:
        """Return the ctypes object: for the fields of a Structure, for example."""
        return self._obj

    def statistics(self) -> LockStatistics:
        """Return the state of the lock."""
        return self._lock.statistics()

    def _is_in_use(self) -> bool:
        state = self.statistics()
        return bool(state.tasks_waiting or state.count)

    def _state(self) -> str:
        return f"{self._obj!r} {self._lock!r}"


class AsyncValue(Synchronized, Generic[T]):
    """A `multiprocessing.Value`, with a lock to await.

    Get one from `Value` or `wrap`.
    """

    def __init__(self, plain: Any, lock: AnyLock | None = None) -> None:
        if not isinstance(plain, SynchronizedBase) or isinstance(
            plain, SynchronizedArray
        ):
            msg = f"AsyncValue wraps a synchronized Value, not {plain!r}"
            raise TypeError(msg)
        super().__init__(plain, lock)

    @property
    def value(self) -> T:
        """What is in the memory; not of a Structure, see `get_obj`."""
        return self._obj.value

    @value.setter
    def value(self, value: T) -> None:
        self._obj.value = value


class AsyncArray(Synchronized, Generic[T]):
    """A `multiprocessing.Array`, with a lock to await.

    Get one from `Array` or `wrap`.
    """

    def __init__(self, plain: Any, lock: AnyLock | None = None) -> None:
        if not isinstance(plain, SynchronizedArray):
            msg = f"AsyncArray wraps a synchronized Array, not {plain!r}"
            raise TypeError(msg)
        super().__init__(plain, lock)

    def __len__(self) -> int:
        return len(self._obj)

    def __iter__(self) -> Iterator[T]:
        return iter(self._obj)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return an item; or a list of them, or bytes or a string of characters."""
        return self._obj[index]

    @overload
    def __setitem__(self, index: int, value: T) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Any) -> None: ...
    def __setitem__(self, index: int | slice, value: Any) -> None:
        self._obj[index] = value

    @property
    def value(self) -> Any:
        """The bytes before the first NUL; of an array of ``"c"`` only."""
        return self._obj.value

    @value.setter
    def value(self, value: Any) -> None:
        self._obj.value = value

    @property
    def raw(self) -> Any:
        """All the bytes; of an array of ``"c"`` only."""
        return self._obj.raw

    @raw.setter
    def raw(self, value: Any) -> None:
        self._obj.raw = value


@overload
def Value(
    typecode_or_type: "str | type[Any]",
    *args: Any,
    lock: Literal[False],
    context: BaseContext | None = ...,
) -> Any: ...
@overload
def Value(
    typecode_or_type: "type[_SimpleCData[T]]",
    *args: Any,
    lock: Any = ...,
    context: BaseContext | None = ...,
) -> AsyncValue[T]: ...
@overload
def Value(
    typecode_or_type: "str | type[Any]",
    *args: Any,
    lock: Any = ...,
    context: BaseContext | None = ...,
) -> AsyncValue[Any]: ...
def Value(  # noqa: N802 - multiprocessing's name
    typecode_or_type: "str | type[Any]",
    *args: Any,
    lock: Any = True,
    context: BaseContext | None = None,
) -> Any:
    """Return a `multiprocessing.Value` to await; in a worker it is the plain one.

    :param args: its first value, or the fields of a Structure
    :param lock: an `AsyncLock`, an `AsyncRLock` or a plain one; a new RLock if True.
        If False, there is nothing to await: the plain ctypes object is returned
    """
    ours, plain = _both(lock)
    value = (context or get_context()).Value(typecode_or_type, *args, lock=plain)
    return value if lock is False else AsyncValue[Any](value, ours)


@overload
def Array(
    typecode_or_type: "str | type[Any]",
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[False],
    context: BaseContext | None = ...,
) -> Any: ...
@overload
def Array(
    typecode_or_type: "type[_SimpleCData[T]]",
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Any = ...,
    context: BaseContext | None = ...,
) -> AsyncArray[T]: ...
@overload
def Array(
    typecode_or_type: "str | type[Any]",
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Any = ...,
    context: BaseContext | None = ...,
) -> AsyncArray[Any]: ...
def Array(  # noqa: N802
    typecode_or_type: "str | type[Any]",
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Any = True,
    context: BaseContext | None = None,
) -> Any:
    """Return a `multiprocessing.Array` to await; in a worker it is the plain one.

    :param size_or_initializer: how many items, all 0, or the items
    :param lock: as of `Value`; if False, the plain ctypes array is returned
    """
    ours, plain = _both(lock)
    factory: Any = context or get_context()
    array = factory.Array(typecode_or_type, size_or_initializer, lock=plain)
    return array if lock is False else AsyncArray[Any](array, ours)


def _both(lock: Any) -> tuple[AnyLock | None, Any]:
    """Return the awaitable, if `lock` is one, and what `multiprocessing` takes."""
    if isinstance(lock, AsyncLock | AsyncRLock):
        return lock, lock.sync
    return None, lock
