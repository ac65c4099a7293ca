"""A queue of the cluster as a task has it: blocking, with the stdlib's method names."""

import pickle
import queue
from typing import Any, Generic, TypeVar

import distributed

from aioipc.dask.remote import dumps

__all__ = ["RemoteQueue"]

T = TypeVar("T")


class RemoteQueue(Generic[T]):
    """The queue of that name; see `aioipc.dask.shared.DaskQueue`."""

    def __init__(self, name: str, maxsize: int) -> None:
        self.name = name
        self.maxsize = maxsize
        dask: Any = distributed
        self._queue = dask.Queue(name, client=dask.get_client(), maxsize=maxsize)

    def put(self, item: T, timeout: float | None = None) -> None:
        """Put an item, behind all others.

        :raises queue.Full: if there was no room within `timeout` seconds
        """
        try:
            self._queue.put(dumps(item), timeout=timeout)
        except TimeoutError:
            raise queue.Full from None

    def get(self, timeout: float | None = None) -> T:
        """Take the first item.

        :raises queue.Empty: if there was none within `timeout` seconds
        """
        try:
            return pickle.loads(self._queue.get(timeout=timeout))
        except TimeoutError:
            raise queue.Empty from None

    def qsize(self) -> int:
        """Return how many items there are."""
        return int(self._queue.qsize())

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteQueue, (self.name, self.maxsize)
