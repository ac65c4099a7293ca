"""A file without a name that holds buffers from the other side: its reader's end.

A buffer is looked at where it lies. The mapping is private: what is written to it here
is copied by the kernel, page by page, and the other side and its other readers never
see it. When the last view of a buffer has gone, its slot is `released`, and the other
side, once it is told, may use it again.

A fork shares the pages but not the knowledge of who looks at them. So what is in view
at the moment of a fork is never released: the child may look at it for ever.
"""

import ctypes
import mmap
import os
import threading
import weakref
from collections import deque
from typing import Any

from aioipc.memory.arena import memory_of
from aioipc.memory.slots import Segment, segment_of, size_of_slot

__all__ = ["Views"]

_MOST = 0x7FFF_F000
"""Bytes that Linux reads at once."""


class Views:
    """Buffers in a memfd that another process writes to.

    :param fd: of the memfd; `close` closes it
    :param released: instead of a new one
    :ivar released: where slots start that no one looks at any more; from any thread
    """

    def __init__(self, fd: int, released: deque[int] | None = None) -> None:
        self.released: deque[int] = deque() if released is None else released
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 1
        self._mappings: dict[Segment, mmap.mmap] = {}
        self._lent: dict[int, weakref.ref[Any]] = {}
        self._seen: set[int] = set()
        _all.add(self)

    def look(self, start: int, size: int, *, readonly: bool) -> memoryview:
        """Return a buffer of the other side's, to be kept for as long as wanted."""
        segment = segment_of(start, size)
        mapping = self._mappings.get(segment)
        if mapping is None:
            if self._fd < 0:  # mmap would take it for memory of no file
                raise BufferError("closed")
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            mapping = self._mappings[segment] = mmap.mmap(
                self._fd,
                segment.size,
                mmap.MAP_PRIVATE,
                protection,
                offset=segment.start,
            )
        offset = start - segment.start
        if start in self._seen:  # what was written here the last time would cover it
            mapping.madvise(mmap.MADV_DONTNEED, offset, size)
        self._seen.add(start)
        # Not a memoryview: what is sliced from one lives on without it.
        slot = (ctypes.c_ubyte * size_of_slot(size)).from_buffer(mapping, offset)
        self._lent[start] = weakref.ref(slot, lambda _: self._release(start))
        view = memoryview(slot).cast("B")[:size]
        return view.toreadonly() if readonly else view

    def read(self, start: int, size: int) -> bytes:
        """Return a copy; releases the GIL."""
        if size <= _MOST:
            data = os.pread(self._fd, size, start)
        else:
            data = bytes(self._read(start, size))
        self.released.append(start)
        return data

    def read_array(self, start: int, size: int) -> bytearray:
        """Return a copy that can be written to; releases the GIL."""
        data = self._read(start, size)
        self.released.append(start)
        return data

    def _read(self, start: int, size: int) -> bytearray:
        data = bytearray(size)
        done = 0
        with memoryview(data) as whole:
            while done < size:
                count = os.preadv(self._fd, [whole[done:]], start + done)
                if not count:
                    raise BufferError("the buffer is not there")
                done += count
        return data

    def keep_open(self) -> None:
        """Put off `close` until it has been called once more."""
        with self._lock:
            self._users += 1

    def close(self) -> None:
        """Look at nothing more; what is in view stays there."""
        with self._lock:
            self._users -= 1
            if not self._users and self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                self._mappings.clear()

    @property
    def memory(self) -> int:
        """Bytes of memory that the other side's arena has."""
        return memory_of(self._fd)

    def forget(self) -> None:
        """Close the descriptor, and take no lock; in a fork."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def pin(self) -> None:
        """Never release what is in view now."""
        self._lent.clear()

    def _release(self, start: int) -> None:
        if self._lent.pop(start, None) is not None:
            self.released.append(start)


_all: "weakref.WeakSet[Views]" = weakref.WeakSet()


def _pin_all() -> None:
    for views in list(_all):
        views.pin()


os.register_at_fork(before=_pin_all)
