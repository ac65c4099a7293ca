"""Pickles of arguments and results; their large buffers lie in shared memory.

What that takes is imported when there is some to be done: a worker starts without.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from aioipc.memory.bulky import BULKY, MARK, is_bulky, leaving_out, wrapper
from aioipc.memory.file import File
from aioipc.wire.pickles import Pickler, TooLarge, dumps_large
from aioipc.worker.chunks import ChunkResult

if TYPE_CHECKING:
    from collections import deque

    from aioipc.memory.arena import Arena
    from aioipc.memory.parcels import Packer
    from aioipc.memory.views import Views

__all__ = ["Exchange"]


class Exchange:
    """Loads what came from the pool, and pickles what goes to it.

    :param arguments: the memfd that has buffers of arguments
    :param results: the memfd for buffers of results
    :param limit: bytes of memory of the latter
    :param released: takes the slots of arguments that no one looks at any more
    """

    def __init__(
        self, arguments: int, results: int, limit: int, released: deque[int]
    ) -> None:
        self._arguments = File(arguments)
        self._results = File(results)
        self._limit = limit
        self._released = released
        self._views: Views | None = None
        self._arena: Arena | None = None
        self._packer: Packer | None = None
        self._new = leaving_out(self._leave_out)
        self._pickler = Pickler(self._new)

    def loads(self, pickled: bytes) -> Any:
        """Return what the pool has pickled."""
        if pickled[0] != MARK:
            return pickle.loads(pickled)
        from aioipc.memory import parcels, views  # noqa: PLC0415 - see above

        if self._views is None:
            self._views = views.Views(self._arguments, self._released)
        return parcels.unpack(pickled, self._views)

    def dumps(self, value: Any) -> bytes:
        """Return the pickle of a result."""
        try:
            try:
                pickled = self._pickler.dumps(value)
                if isinstance(pickled, list) and _is_bulky(value):
                    self._drop()
                    pickled = self._pickler.dumps(_wrapped(value))
            except TooLarge:
                self._drop()
                pickled = dumps_large(_wrapped(value), self._new)
        except BaseException:
            self._drop()
            raise
        if isinstance(pickled, list):
            pickled = b"".join(pickled)
        if self._packer is None or self._packer.is_empty:
            return pickled
        parcel = self._packer.parcel()
        parcel.write()
        return parcel.table + pickled

    def let_go(self, starts: tuple[int, ...]) -> None:
        """Note that the pool does not look at slots of ours any more."""
        if self._arena is not None:
            self._arena.let_go(starts)

    def limit(self, size: int) -> None:
        """Have so many bytes of memory for results, at most."""
        self._limit = size
        if self._arena is not None:
            self._arena.limit = size

    def trim(self) -> None:
        """Give back the memory of results that no one looks at."""
        if self._arena is not None:
            self._arena.trim()

    def _leave_out(self, buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < BULKY:
            return True
        if self._packer is None:
            from aioipc.memory import arena, parcels  # noqa: PLC0415

            self._arena = arena.Arena(self._results, self._limit)
            self._packer = parcels.Packer(self._arena)
        return self._packer.leave_out(buffer)

    def _drop(self) -> None:
        if self._packer is not None:
            self._packer.drop()


def _is_bulky(value: Any) -> bool:
    return value.is_bulky if isinstance(value, ChunkResult) else is_bulky(value)


def _wrapped(value: Any) -> Any:
    return value.wrapped() if isinstance(value, ChunkResult) else wrapper()(value)
