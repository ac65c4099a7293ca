"""Pickles that an ordinary `Connection.recv` can load, made faster and interruptible.

`ForkingPickler.dumps` builds a pickler, a buffer and a dispatch table for every object.
Here one pickler is reused, and hands each finished piece to a `write` written in
Python. That brings two more things: a `bytes` of any size is passed on uncopied, and a
large graph comes up for air every 64 KB, so that another thread can run (by itself the
C pickler holds the GIL for the whole graph).
"""

import copyreg
import io
import math
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
    "is_plain",
    "loads",
    "loads_from",
    "loads_large",
    "new_pickler",
]

_PIECES = LARGE >> 16  # the C pickler ends a piece at 64 KB, and around large bytes
_COPY_STEP = 1 << 18

loads = pickle.loads


def loads_from(data: bytes, start: int, buffers: Iterable[Any]) -> Any:
    """Unpickle what is small.

    :param start: where the pickle starts
    :param buffers: which it leaves out
    """
    return pickle.loads(memoryview(data)[start:], buffers=buffers)


class TooLarge(Exception):
    """The object takes too long to be pickled here; use `dumps_large` in a thread."""


class _Pieces(list[Any]):
    """What a pickler writes to: bytes, and with protocol 5 whatever has a buffer."""

    __slots__ = ()

    def write(self, piece: Any) -> None:
        # In Python, or the pickler would not let go of the GIL until it is done.
        self.append(piece)


class _FewPieces(_Pieces):
    """The same, for a loop: it refuses what takes long.

    :param most: bytes that may be copied, when the pieces are put together
    """

    __slots__ = ("most",)

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def write(self, piece: Any) -> None:
        self.append(piece)
        if len(self) > 1 and (len(self) > _PIECES or self.size >= self.most):
            raise TooLarge

    @property
    def size(self) -> int:
        return sum(memoryview(piece).nbytes for piece in self)


# What a ForkingPickler copies together for each object; more may be registered later.
_registered: Any = ForkingPickler._extra_reducers  # type: ignore # noqa: PGH003, SLF001
_by_copyreg = copyreg.dispatch_table

_PLAIN = frozenset({bytes, str})  # which no one can have pickled in another way
_COPIED = 1 << 14  # bytes that are rather copied than passed on by themselves

NO_REDUCERS: Mapping[type, Callable[[Any], Any]] = {}


NewPickler = Callable[..., pickle.Pickler]
"""Makes a pickler, as `new_pickler` does."""


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


def is_plain(obj: Any) -> bool:
    """Whether `pickle.dumps` is as good as a `Pickler`, and quicker."""
    return type(obj) in _PLAIN and len(obj) < _COPIED


class Pickler:
    """Pickles one object after another.

    :param new: makes a pickler that can be used again
    :param most: bytes in several pieces, or TooLarge is raised; for who joins them
    """

    __slots__ = ("_new", "_pieces", "_reducers", "_spare")

    def __init__(self, new: NewPickler = new_pickler, most: float = math.inf) -> None:
        self._new = new
        self._pieces = _FewPieces(most)
        self._reducers = len(_registered) + len(_by_copyreg)
        self._spare: pickle.Pickler | None = new(self._pieces)

    def dumps(self, obj: object) -> bytes | list[bytes]:
        """Return the pickle of `obj`, in one piece if it is small.

        :raises TooLarge: if it would keep the caller for longer than about 1 ms
        """
        pickler, self._spare = self._spare, None
        if pickler is None:  # we're inside a __reduce__ that pickles by itself
            return Pickler(self._new, self._pieces.most).dumps(obj)
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


def dumps_small(obj: object, new: NewPickler, most: float) -> bytes | list[bytes]:
    """Return the pickle of `obj`, as `Pickler.dumps` does, by one that is not reused.

    :param new: makes a pickler that writes to a file
    :param most: bytes in several pieces
    :raises TooLarge: if it would keep the caller for longer than about 1 ms
    """
    pieces = _dumps(obj, new, _FewPieces(most))
    return pieces[0] if len(pieces) == 1 else pieces


def dumps_large(obj: object, new: NewPickler = new_pickler) -> list[bytes]:
    """Return the pickle of `obj` in pieces; for a thread."""
    return _dumps(obj, new, _Pieces())


def _dumps(obj: object, new: NewPickler, pieces: _Pieces) -> list[bytes]:
    new(pieces).dump(obj)
    return list(pieces)


class _Reader:
    """The file that an unpickler reads, in Python so that the GIL can change hands."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = memoryview(data)
        self._file = io.BytesIO(data)  # shares the bytes, but would copy a view
        self._file.seek(start)

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


def loads_large(data: bytes, start: int = 0, buffers: Iterable[Any] = ()) -> Any:
    """Unpickle what may be large; for a thread.

    :param start: where the pickle starts
    :param buffers: which it leaves out
    """
    return pickle.Unpickler(_Reader(data, start), buffers=buffers).load()
