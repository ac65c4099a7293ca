"""What a worker tells its broker without a system call: messages in memory of both.

To write 100 bytes to a socket takes longer than all else that a `put` does. So there is
a ring besides it, which the worker writes and the broker reads. It is memory that has
no name, and stays as it is when the worker dies: what was written whole is read.

All that a worker says is in one order. A message in the ring tells how many were sent
through the socket before it, and the broker takes it after these, and before the next
of them (see `inbox.py`). So any message may go either way:

- through the socket while the broker is asleep, which that wakes; if there is no room
  in the ring; or if it is large;
- by the ring if the broker is awake, and will look into it before it falls asleep.

That the broker falls asleep just while something is written can't be missed by both:
it says so and looks once more, and the worker writes and looks whether it has said so.
Between the two each of them lets go of a lock, which no CPU does before its stores are
seen. That, and that a message is seen before the number that tells of it, is so on
x86-64; elsewhere all messages go through the socket.

The memory is three numbers, each on a cache line of its own, and the ring. A message is
there once the number of bytes written has been raised, by one store: a worker that is
killed or interrupted before that has said nothing. An entry begins at a multiple of the
size of its header, and is in one piece: what is left over at the end is skipped.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import sys
from typing import TYPE_CHECKING, Any

from aioipc.memory.file import open_memory

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from aioipc.wire.messages import Message

__all__ = ["RingReader", "RingWriter", "map_ring", "open_ring"]

_ENTRY = struct.Struct("=QQQII")  # socket messages before, number, tag, kind, size
_HEADER = _ENTRY.size
_SKIP = 0xFFFFFFFF  # the kind of what is left over

_WRITTEN, _READ, _AWAKE = 0, 8, 16  # which of the 8-byte numbers
_START = 4096
_ORDERED = {"x86_64", "amd64"}  # CPUs that show each other their stores in order
_NO_DESCRIPTOR: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}
SIZE = 1 << 17
"""Bytes of a ring: as large as the buffer of a Unix socket, about."""


def open_ring() -> int:
    """Return a descriptor of the memory for a ring; it leads nowhere if there is none.

    :raises OSError: if no descriptor is left
    """
    fd = open_memory("aioipc ring")
    with contextlib.suppress(OSError):  # no memory: `map_ring` will tell
        os.ftruncate(fd, _START + SIZE)
    return fd


def map_ring(fd: int) -> mmap.mmap | None:
    """Return a ring's memory, of which the other process can't take away anything.

    None if it is none, or can't be had: all messages go through the socket then.
    """
    if os.uname().machine not in _ORDERED:
        return None
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if not seals & fcntl.F_SEAL_SHRINK or os.fstat(fd).st_size < _START + SIZE:
            return None
        return mmap.mmap(fd, _START + SIZE, **_NO_DESCRIPTOR)
    except (AttributeError, OSError):
        return None


class _Ring:
    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._numbers = memoryview(memory)[:_START].cast("Q")


class RingWriter(_Ring):
    """The worker's side; for one thread at a time.

    :ivar is_read: in its only item, whether the broker is awake and will look
    """

    def __init__(self, memory: mmap.mmap) -> None:
        super().__init__(memory)
        self.is_read: Sequence[int] = self._numbers[_AWAKE : _AWAKE + 1]
        self._limit = SIZE  # up to which may be written in one piece

    def write(self, before: int, kind: int, number: int, tag: int, body: bytes) -> bool:
        """Add a message; False if there is no room.

        :param before: how many messages have been sent through the socket
        """
        size = len(body)
        step = (size + 2 * _HEADER - 1) & -_HEADER
        numbers, memory = self._numbers, self._memory
        written = numbers[_WRITTEN]
        if written + step > self._limit:
            written = self._find_room(written, step)
            if written < 0:
                return False
        start = _START + written % SIZE
        _ENTRY.pack_into(memory, start, before, number, tag, kind, size)
        start += _HEADER
        memory[start : start + size] = body
        numbers[_WRITTEN] = written + step
        return True

    def _find_room(self, written: int, step: int) -> int:
        """Return after how many bytes the next entry goes; -1 if nowhere yet."""
        full = self._numbers[_READ] + SIZE
        turn = written - written % SIZE + SIZE
        if written + step <= turn:
            self._limit = min(full, turn)
            return written if written + step <= full else -1
        if turn + step > full:
            return -1
        # The limit stays as it is, for this may be interrupted.
        _ENTRY.pack_into(self._memory, _START + written % SIZE, 0, 0, 0, _SKIP, 0)
        return turn


class RingReader(_Ring):
    """The broker's side."""

    def __init__(self, memory: mmap.mmap) -> None:
        super().__init__(memory)
        self._read = 0

    def sleep(self) -> None:
        """Have the worker send its next message through the socket."""
        self._numbers[_AWAKE] = 0

    def wake(self) -> None:
        """Promise to look into the ring before falling asleep."""
        self._numbers[_AWAKE] = 1

    def take(self, seen: int, messages: "deque[Message]") -> None:
        """Append what there is that comes before the next message of the socket.

        :param seen: how many have come through the socket
        :raises ValueError: if it is garbage
        """
        numbers, memory, read = self._numbers, self._memory, self._read
        written = numbers[_WRITTEN]
        if written == read:
            return
        unpack = _ENTRY.unpack_from
        if written - read > SIZE:
            raise ValueError("its ring says nonsense")
        while read < written:
            start = read % SIZE
            before, number, tag, kind, size = unpack(memory, _START + start)
            if kind == _SKIP:
                read += SIZE - start
                continue
            end = start + _HEADER + size
            if end > SIZE or before < seen:
                raise ValueError("its ring says nonsense")
            if before > seen:
                break
            body = memory[_START + start + _HEADER : _START + end]
            read += (size + 2 * _HEADER - 1) & -_HEADER
            messages.append((kind, number, tag, body))
            self._read = read  # at once, for an interrupt may end this
        numbers[_READ] = self._read = read
