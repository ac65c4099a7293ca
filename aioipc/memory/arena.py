"""A file without a name that holds buffers for the other side: its writer's end.

It is a sparse memfd, so it takes memory only where it has been written to, and goes
when the last descriptor and the last mapping of it have gone, whoever dies.
"""

import mmap
import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from aioipc.memory.copying import Buffer, copy
from aioipc.memory.slots import Segment, Slots, segment_of

__all__ = ["Arena", "ArenaStatistics", "memory_of"]


class ArenaStatistics(NamedTuple):
    """What an arena holds.

    :ivar buffers: that someone uses
    :ivar used: bytes that they take
    :ivar held: bytes of memory, also those that are kept for the next ones
    """

    buffers: int
    used: int
    held: int


def memory_of(fd: int) -> int:
    """Return how many bytes of memory a memfd has; 0 if it is closed."""
    return os.fstat(fd).st_blocks * 512 if fd >= 0 else 0


class Arena:
    """Slots in a memfd; from any thread.

    A slot has as many owners as have taken or kept it, and is free when all have let it
    go. The other side must not look at it any more then.

    :param fd: of the memfd; `close` closes it
    :param limit: bytes of memory
    """

    def __init__(self, fd: int, limit: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._slots = Slots(limit)
        self._owners: dict[int, int] = {}
        self._unowned: deque[int] = deque()  # once for each owner that let go
        self._mappings: dict[Segment, mmap.mmap] = {}
        self._size = 0

    def take(self, size: int) -> int | None:
        """Return where a new slot starts, for `write`; None if there is no room."""
        with self._lock:
            self._free_unowned()
            taken = self._slots.take(size) if self._fd >= 0 else None
            if taken is None:
                return None
            start, given_back = taken
            try:
                if self._slots.end > self._size:
                    os.ftruncate(self._fd, self._slots.end)
                    self._size = self._slots.end
                for slot, written in given_back:
                    self._give_back(slot, written)
                self._map(segment_of(start, size))
            except (OSError, ValueError):  # a limit of this process, or no memory
                self._slots.free(start)
                return None
            self._owners[start] = 1
            return start

    def write(self, start: int, data: Buffer, size: int) -> None:
        """Write a buffer to a slot that was taken for it; releases the GIL."""
        segment = segment_of(start, size)
        with self._lock:
            mapping = self._map(segment)
        offset = start - segment.start
        with memoryview(mapping) as whole, whole[offset : offset + size] as target:
            copy(data, target)

    def keep(self, starts: Iterable[int]) -> None:
        """Become one more owner of each slot."""
        with self._lock:
            for start in starts:
                self._owners[start] += 1

    def let_go(self, starts: Iterable[int]) -> None:
        """Own each slot no more.

        Without the lock: a collector that runs in `take` may call what calls this.
        """
        self._unowned.extend(starts)

    def _free_unowned(self) -> None:
        unowned = self._unowned
        while unowned:
            start = unowned.popleft()
            self._owners[start] -= 1
            if not self._owners[start]:
                del self._owners[start]
                self._slots.free(start)

    def trim(self) -> None:
        """Give all memory back, if nothing is in use."""
        with self._lock:
            self._free_unowned()
            if self._slots.count or not self._slots.held or self._fd < 0:
                return
            self._slots.clear()
            self._mappings.clear()
            self._size = 0
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Take no more buffers; those that are there stay while someone looks."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                self._mappings.clear()

    def forget(self) -> None:
        """Close the descriptor, and take no lock; in a fork."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def statistics(self) -> ArenaStatistics:
        """What it holds now."""
        slots = self._slots
        with self._lock:
            self._free_unowned()
            return ArenaStatistics(slots.count, slots.used, slots.held)

    @property
    def memory(self) -> int:
        """Bytes of memory that it has, as the kernel says."""
        return memory_of(self._fd)

    def _map(self, segment: Segment) -> mmap.mmap:
        mapping = self._mappings.get(segment)
        if mapping is None:
            if self._fd < 0:
                raise BufferError("the arena is closed")
            mapping = mmap.mmap(self._fd, segment.size, offset=segment.start)
            self._mappings[segment] = mapping
        return mapping

    def _give_back(self, start: int, written: int) -> None:
        segment = segment_of(start, written)
        mapping = self._map(segment)
        mapping.madvise(mmap.MADV_REMOVE, start - segment.start, written)
