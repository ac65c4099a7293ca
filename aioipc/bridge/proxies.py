"""What a manager holds for others, awaited: dicts, lists, values and their like.

Where Python has no syntax to await, a method has the name of what it does: `set`,
`delete`, `contains`, `len`. `await d[key]` and `async for` are there.

A change of an item that is a plain dict or list stays here: what the manager gives out
is a copy. Set the item again, or let it be a proxy: proxies may be in each other.
"""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from aioipc.bridge.proxy import AsyncProxy, WaitingProxy, awaitable, stands_for
from aioipc.transport.turns import Turn

if TYPE_CHECKING:
    from aioipc.transport.threads import Job

__all__ = [
    "AsyncArrayProxy",
    "AsyncDictProxy",
    "AsyncIteratorProxy",
    "AsyncListProxy",
    "AsyncNamespaceProxy",
    "AsyncValueProxy",
]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
D = TypeVar("D")

_MISSING: Any = object()


@stands_for("DictProxy")
class AsyncDictProxy(AsyncProxy, Generic[K, V]):
    """A manager's dict, awaited."""

    def __getitem__(self, key: K) -> Awaitable[V]:
        """Return the value of a key, to be awaited, or raise KeyError."""
        return self._call("__getitem__", key)

    @overload
    async def get(self, key: K) -> V | None: ...
    @overload
    async def get(self, key: K, default: D) -> V | D: ...
    async def get(self, key: K, default: Any = None) -> Any:
        """Return the value of a key, or `default`."""
        return await self._call("get", key, default)

    async def set(self, key: K, value: V) -> None:
        """Give a key a value: `d[key] = value`."""
        await self._call("__setitem__", key, value)

    async def delete(self, key: K) -> None:
        """Remove a key, or raise KeyError: `del d[key]`."""
        await self._call("__delitem__", key)

    async def contains(self, key: object) -> bool:
        """Return whether there is such a key: `key in d`."""
        return await self._call("__contains__", key)

    async def len(self) -> int:
        """Return how many keys there are."""
        return await self._call("__len__")

    @overload
    async def pop(self, key: K) -> V: ...
    @overload
    async def pop(self, key: K, default: D) -> V | D: ...
    async def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove a key and return its value, or `default`, or raise KeyError."""
        if default is _MISSING:
            return await self._call("pop", key)
        return await self._call("pop", key, default)

    async def popitem(self) -> tuple[K, V]:
        """Remove the key that came last, and return it and its value, or KeyError."""
        return await self._call("popitem")

    @overload
    async def setdefault(self, key: K) -> V | None: ...
    @overload
    async def setdefault(self, key: K, default: V) -> V: ...
    async def setdefault(self, key: K, default: Any = None) -> Any:
        """Return the value of a key, which is `default` from now on if it had none."""
        return await self._call("setdefault", key, default)

    async def update(
        self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **kwargs: V
    ) -> None:
        """Give many keys their values, at once."""
        await self._call("update", other, **kwargs)

    async def clear(self) -> None:
        """Remove all keys."""
        await self._call("clear")

    async def copy(self) -> dict[K, V]:
        """Return a dict with the same keys and values."""
        return await self._call("copy")

    async def keys(self) -> list[K]:
        """Return a list of the keys."""
        return await self._call("keys")

    async def values(self) -> list[V]:
        """Return a list of the values."""
        return await self._call("values")

    async def items(self) -> list[tuple[K, V]]:
        """Return a list of the keys with their values."""
        return list((await self.copy()).items())

    async def __aiter__(self) -> AsyncIterator[K]:
        """Iterate over the keys that are there as it begins."""
        for key in await self.keys():
            yield key


@stands_for("ListProxy", "BaseListProxy")
class AsyncListProxy(AsyncProxy, Generic[T]):
    """A manager's list, awaited."""

    @overload
    def __getitem__(self, index: int) -> Awaitable[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Awaitable[list[T]]: ...
    def __getitem__(self, index: int | slice) -> Awaitable[Any]:
        """Return an item or several, to be awaited, or raise IndexError."""
        return self._call("__getitem__", index)

    @overload
    async def set(self, index: int, value: T) -> None: ...
    @overload
    async def set(self, index: slice, value: Iterable[T]) -> None: ...
    async def set(self, index: int | slice, value: Any) -> None:
        """Replace an item or several: `l[index] = value`."""
        await self._call("__setitem__", index, value)

    async def delete(self, index: int | slice) -> None:
        """Remove an item or several: `del l[index]`."""
        await self._call("__delitem__", index)

    async def contains(self, value: object) -> bool:
        """Return whether an item equals `value`: `value in l`."""
        return await self._call("__contains__", value)

    async def len(self) -> int:
        """Return how many items there are."""
        return await self._call("__len__")

    async def append(self, value: T) -> None:
        """Add an item at the end."""
        await self._call("append", value)

    async def extend(self, values: Iterable[T]) -> None:
        """Add items at the end."""
        await self._call("extend", values)

    async def insert(self, index: int, value: T) -> None:
        """Add an item before another."""
        await self._call("insert", index, value)

    async def pop(self, index: int = -1) -> T:
        """Remove an item and return it, or raise IndexError."""
        return await self._call("pop", index)

    async def remove(self, value: T) -> None:
        """Remove the first item that equals `value`, or raise ValueError."""
        await self._call("remove", value)

    async def index(self, value: T, *bounds: int) -> int:
        """Return where the first item is that equals `value`, or raise ValueError.

        :param bounds: where to begin, and where to end
        """
        return await self._call("index", value, *bounds)

    async def count(self, value: T) -> int:
        """Return how many items equal `value`."""
        return await self._call("count", value)

    async def sort(
        self, *, key: Callable[[T], Any] | None = None, reverse: bool = False
    ) -> None:
        """Sort the items, in the manager, which gets `key` pickled."""
        await self._call("sort", key=key, reverse=reverse)

    async def reverse(self) -> None:
        """Turn the order of the items around."""
        await self._call("reverse")

    async def clear(self) -> None:
        """Remove all items."""
        await self.delete(slice(None))

    async def copy(self) -> list[T]:
        """Return a list of the same items."""
        return await self[:]

    async def __aiter__(self) -> AsyncIterator[T]:
        """Iterate over the items that are there as it begins."""
        for item in await self.copy():
            yield item


@stands_for("ArrayProxy")
class AsyncArrayProxy(AsyncProxy, Generic[T]):
    """A manager's array of numbers, awaited. Its length stays what it is."""

    @overload
    def __getitem__(self, index: int) -> Awaitable[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Awaitable[Sequence[T]]: ...
    def __getitem__(self, index: int | slice) -> Awaitable[Any]:
        """Return an item, or an `array.array` of several, to be awaited."""
        return self._call("__getitem__", index)

    @overload
    async def set(self, index: int, value: T) -> None: ...
    @overload
    async def set(self, index: slice, value: Sequence[T]) -> None: ...
    async def set(self, index: int | slice, value: Any) -> None:
        """Replace an item, or several by those of an `array.array`."""
        await self._call("__setitem__", index, value)

    async def len(self) -> int:
        """Return how many items there are."""
        return await self._call("__len__")

    async def copy(self) -> Sequence[T]:
        """Return an `array.array` of the same items."""
        return await self[:]

    async def __aiter__(self) -> AsyncIterator[T]:
        """Iterate over the items that are there as it begins."""
        for item in await self.copy():
            yield item


@stands_for("ValueProxy")
class AsyncValueProxy(AsyncProxy, Generic[T]):
    """A manager's value, awaited.

    Others may set it between a `get` and a `set`: there is no lock to it.
    """

    async def get(self) -> T:
        """Return the value."""
        return await self._call("get")

    async def set(self, value: T) -> None:
        """Replace the value."""
        await self._call("set", value)


@stands_for("NamespaceProxy")
class AsyncNamespaceProxy(AsyncProxy):
    """A manager's namespace, awaited: an object with attributes.

    A name that begins with an underscore would be an attribute of the plain proxy, not
    of the namespace, and so raises AttributeError here.
    """

    async def get(self, name: str) -> Any:
        """Return an attribute, or raise AttributeError."""
        return await self._call("__getattribute__", _shared_name(name))

    async def set(self, name: str, value: Any) -> None:
        """Give an attribute a value."""
        await self._call("__setattr__", _shared_name(name), value)

    async def delete(self, name: str) -> None:
        """Remove an attribute, or raise AttributeError."""
        await self._call("__delattr__", _shared_name(name))


@stands_for("IteratorProxy")
class AsyncIteratorProxy(WaitingProxy, AsyncIterator[T], Generic[T]):
    """An iterator or a generator in a manager, awaited.

    A cancelled step has taken nothing: the item is the next one's.
    """

    def forget(self) -> None:
        super().forget()
        self._coming: Job[T] | None = None

    async def __anext__(self) -> T:
        """Return the next item, or raise StopAsyncIteration."""
        self._settle()
        turn = self._turn
        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            item = await self._arrive()
        finally:
            turn.pass_on()
        if item is _MISSING:
            raise StopAsyncIteration
        return item

    async def _arrive(self) -> T:
        insides = self._open()
        job = self._coming
        if job is None:
            self._coming = job = self._lines.call_apart(
                insides, lambda: _next(insides.proxy)
            )
        await job.wait()
        self._coming = None
        return job.take()

    def _forget_tasks(self) -> None:
        self._turn = Turn()


def _next(proxy: Any) -> Any:
    try:
        return awaitable(proxy.__next__())
    except StopIteration:
        return _MISSING


def _shared_name(name: str) -> str:
    if name.startswith("_"):
        raise AttributeError(f"{name!r} would belong to a proxy, not to the namespace")
    return name
