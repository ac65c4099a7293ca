"""What a worker gets when it is passed one of the bridge's objects: the plain one.

Under spawn and forkserver arguments are pickled, and `__reduce__` puts the plain object
in. Under fork they are not, so `Process` looks for them in its arguments by `plain`.
"""

from typing import Any, Protocol, cast, runtime_checkable

from aioipc.bridge.insides import reducer_of

__all__ = ["Bridged", "plain", "reduce_plain"]


@runtime_checkable
class Bridged(Protocol):
    """An awaitable that stands for an object of `multiprocessing`."""

    @property
    def sync(self) -> Any:
        """The object of `multiprocessing`."""
        ...


def plain(value: Any) -> Any:
    """Return `value` with the awaitables in it replaced by what they stand for.

    It looks into lists, tuples and dicts, and leaves everything else alone.
    """
    if isinstance(value, Bridged):
        return value.sync
    if type(value) is tuple or type(value) is list:
        items = cast("list[Any] | tuple[Any, ...]", value)
        return type(items)(plain(item) for item in items)
    if type(value) is dict:
        return {k: plain(v) for k, v in cast("dict[Any, Any]", value).items()}
    return value


def reduce_plain(obj: object) -> tuple[Any, ...]:
    """Return how `multiprocessing` pickles `obj`, for a `__reduce__`."""
    reducer = reducer_of(type(obj))
    reduced: Any = reducer(obj) if reducer is not None else obj.__reduce_ex__(4)
    return reduced
