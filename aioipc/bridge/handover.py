"""What a worker gets when it is passed one of the bridge's objects: the plain one.

Under spawn and forkserver arguments are pickled, and `__reduce__` puts the plain object
in. Under fork they are not, so `Process` looks for them in its arguments by `plain`.
"""

import operator
from abc import ABC, abstractmethod
from typing import Any, cast

__all__ = ["Bridged", "plain"]


class Bridged(ABC):
    """An awaitable that stands for an object of `multiprocessing`."""

    @property
    @abstractmethod
    def sync(self) -> Any:
        """The plain object, to be handed to a worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle insists that an object reduces to its own class, but not if a call
        # makes it. So: take the first of a tuple.
        return operator.getitem, ((self.sync,), 0)


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
