"""An object's large buffers by way of an arena, and the rest as a pickle.

::

    !B      MARK, with which no pickle begins
    !I      how many buffers there are
    !QQB    of each: where it starts, its size, and what it is to become (Form)
    pickle  in which pickle 5 has left them out

What pickle leaves out is what its type says; `bulky` adds to that.
"""

import array
import enum
import pickle
import struct
from collections.abc import Callable
from typing import Any

from aioipc.memory.arena import Arena
from aioipc.memory.bulky import BULKY, MARK
from aioipc.memory.views import Views
from aioipc.wire.parts import BULK
from aioipc.wire.pickles import loads_from

__all__ = [
    "Packer",
    "Parcel",
    "is_slow_to_unpack",
    "size_of_parcel",
    "starts_of",
    "unpack",
]

_COUNT = struct.Struct("!BI")
_ENTRY = struct.Struct("!QQB")
_MANY = 64  # to look at that many buffers takes about 1 ms


class Form(enum.IntEnum):
    """What a buffer becomes on the other side."""

    WRITABLE = 0
    READONLY = 1
    BYTES = 2
    BYTEARRAY = 3
    ARRAY = 4


class Parcel:
    """Buffers that have slots in an arena, until `let_go`.

    :ivar starts: of the slots
    :ivar size: bytes of the buffers
    :ivar table: what goes before the pickle
    """

    __slots__ = ("_arena", "_entries", "size", "starts", "table")

    def __init__(
        self, arena: Arena, entries: "list[tuple[int, memoryview, Form]]"
    ) -> None:
        self._arena = arena
        self._entries = entries
        self.starts = [start for start, _, _ in entries]
        self.size = sum(data.nbytes for _, data, _ in entries)
        rows = [_ENTRY.pack(start, data.nbytes, form) for start, data, form in entries]
        self.table = _COUNT.pack(MARK, len(rows)) + b"".join(rows)

    def write(self) -> None:
        """Write the buffers; releases the GIL, so a thread may do it."""
        entries, self._entries = self._entries, []  # and with it the buffers
        try:
            for start, data, _ in entries:
                self._arena.write(start, data, data.nbytes)
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Own the slots no more."""
        starts, self.starts = self.starts, []
        self._arena.let_go(starts)


class Packer:
    """Collects the buffers that a pickler leaves out.

    Give `leave_out` to the pickler as its `buffer_callback`, and call `parcel` when it
    has finished, or `drop` when it has failed.
    """

    __slots__ = ("_arena", "_entries")

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._entries: list[tuple[int, memoryview, Form]] = []

    def leave_out(self, buffer: pickle.PickleBuffer) -> bool:
        """Return False for a buffer that goes by way of the arena."""
        data = buffer.raw()
        start = self._arena.take(data.nbytes) if data.nbytes >= BULKY else None
        if start is None:  # it is small, or the arena is full
            return True
        self._entries.append((start, data, _form_of(data)))
        return False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was left out."""
        return not self._entries

    def parcel(self) -> Parcel:
        """Return the buffers that were left out since the last time."""
        entries, self._entries = self._entries, []
        return Parcel(self._arena, entries)

    def drop(self) -> None:
        """Forget them."""
        if self._entries:
            self.parcel().let_go()


def _form_of(data: memoryview) -> Form:
    if type(data.obj) is bytes:
        return Form.BYTES
    if data.readonly:
        return Form.READONLY
    if type(data.obj) is bytearray:
        return Form.BYTEARRAY
    if type(data.obj) is array.array:
        return Form.ARRAY  # seldom itself the value: that copies what it is made of
    return Form.WRITABLE


def starts_of(message: bytes) -> list[int]:
    """Return where the slots of a parcel start."""
    return [start for start, _, _ in _entries_of(message)]


def _entries_of(message: bytes) -> "list[tuple[int, int, int]]":
    _, count = _COUNT.unpack_from(message)
    end = _COUNT.size + count * _ENTRY.size
    return list(_ENTRY.iter_unpack(message[_COUNT.size : end]))


def size_of_parcel(message: bytes) -> int:
    """Return how many bytes it has, in itself and in buffers."""
    return len(message) + sum(size for _, size, _ in _entries_of(message))


def is_slow_to_unpack(message: bytes) -> bool:
    """Whether that may take 1 ms: there is much to copy, or many buffers to look at."""
    entries = _entries_of(message)
    if len(entries) >= _MANY:
        return True
    return sum(size for _, size, form in entries if form >= Form.BYTES) >= BULK


def unpack(
    message: bytes,
    views: Views,
    load: Callable[[bytes, int, list[Any]], Any] = loads_from,
) -> Any:
    """Load an object whose buffers lie on the other side.

    :param load: what it is given is not copied: the message, and where the pickle is
    """
    entries = _entries_of(message)
    buffers: list[Any] = []
    try:
        # What was appended before an error stays.
        buffers.extend(_buffer(views, *entry) for entry in entries)
    except BaseException:  # e.g. no memory for the mapping
        views.released.extend(start for start, _, _ in entries[len(buffers) :])
        raise
    start = _COUNT.size + len(entries) * _ENTRY.size
    return load(message, start, buffers)


def _buffer(views: Views, start: int, size: int, form: int) -> Any:
    if form == Form.BYTES:
        return views.read(start, size)
    if form == Form.BYTEARRAY:
        return views.read_array(start, size)
    return views.look(start, size, readonly=form == Form.READONLY)
