"""Pickles that an ordinary `Connection.recv` can load, made faster and interruptible.

`ForkingPickler.dumps` builds a pickler, a buffer and a dispatch table for every object.
Here one pickler is reused, and hands each finished piece to a `write` written in
Python. That brings two more things: a `bytes` of any size is passed on uncopied, and a
large graph comes up for air every 64 KB, so that another thread can run (by itself the
C pickler holds the GIL for the whole graph).
"""

import copyreg
import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

from aioipc.wire.parts import LARGE

__all__ = [
    "NewPickler",
    "Pickler",
    "TooLarge",
    "dumps_large",
    "dumps_small",
    "loads",
    "loads_large",
    "new_pickler",
]

_PIECES = LARGE >> 16  # the C pickler ends a piece at 64 KB, and around large bytes
_COPY_STEP = 1 << 18

loads = pickle.loads


class TooLarge(Exception):
    """The object takes too long to be pickled here; use `dumps_large` in a thread."""


class _Pieces(list[bytes]):
    """What a pickler writes to, refusing more than `limit` pieces."""

    __slots__ = ("limit",)

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def write(self, piece: bytes) -> None:
        self.append(piece)
        if len(self) > self.limit:
            raise TooLarge


# What a ForkingPickler copies together for each object; more may be registered later.
_registered: Any = ForkingPickler._extra_reducers  # type: ignore # noqa: PGH003, SLF001
_by_copyreg = copyreg.dispatch_table

NO_REDUCERS: Mapping[type, Callable[[Any], Any]] = {}


NewPickler = Callable[..., pickle.Pickler]
"""Makes a pickler that writes to a file, as `pickle.Pickler` does."""


def new_pickler(
    file: Any,
    reducers: Mapping[type, Callable[[Any], Any]] = NO_REDUCERS,
    *,
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> pickle.Pickler:
    """Return a pickler that knows what `multiprocessing` can pickle, and `reducers`."""
    pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = {**_by_copyreg, **_registered, **reducers}
    return pickler


class Pickler:
    """Pickles one object after another.

    :param new: makes a pickler that can be used again
    """

    __slots__ = ("_new", "_pieces", "_reducers", "_spare")

    def __init__(self, new: NewPickler = new_pickler) -> None:
        self._new = new
        self._pieces = _Pieces(_PIECES)
        self._reducers = len(_registered) + len(_by_copyreg)
        self._spare: pickle.Pickler | None = new(self._pieces)

    def dumps(self, obj: object) -> bytes | list[bytes]:
        """Return the pickle of `obj`, in one piece if it is small.

        :raises TooLarge: if it would keep the caller for longer than about 1 ms
        """
        pickler, self._spare = self._spare, None
        if pickler is None:  # we're inside a __reduce__ that pickles by itself
            return Pickler(self._new).dumps(obj)
        if len(_registered) + len(_by_copyreg) != self._reducers:
            self._reducers = len(_registered) + len(_by_copyreg)
            pickler = self._new(self._pieces)
        pieces = self._pieces
        try:
            pickler.dump(obj)
            return pieces[0] if len(pieces) == 1 else pieces.copy()
        finally:
            pieces.clear()
            pickler.clear_memo()
            self._spare = pickler


def dumps_small(obj: object, new: NewPickler) -> list[bytes]:
    """Return the pickle of `obj` in pieces, by a pickler that is not reused.

    :param new: makes a pickler that writes to a file
    :raises TooLarge: if it would keep the caller for longer than about 1 ms
    """
    return _dumps(obj, new, _PIECES)


def dumps_large(obj: object, new: NewPickler = new_pickler) -> list[bytes]:
    """Return the pickle of `obj` in pieces; for a thread."""
    return _dumps(obj, new, float("inf"))


def _dumps(obj: object, new: NewPickler, limit: float) -> list[bytes]:
    pieces = _Pieces(limit)
    new(pieces).dump(obj)
    return list(pieces)


class _Reader:
    """The file that an unpickler reads, in Python so that the GIL can change hands."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._file = io.BytesIO(data)  # shares the bytes

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline()

    def readinto(self, target: memoryview) -> int:
        start = self._file.tell()
        source = self._data[start : start + len(target)]
        for offset in range(0, len(source), _COPY_STEP):
            step = source[offset : offset + _COPY_STEP]
            target[offset : offset + len(step)] = step
        self._file.seek(start + len(source))
        return len(source)


def loads_large(data: bytes, buffers: Iterable[Any] = ()) -> Any:
    """Unpickle what may be large; for a thread.

    :param buffers: which the pickle leaves out
    """
    return pickle.Unpickler(_Reader(data), buffers=buffers).load()
