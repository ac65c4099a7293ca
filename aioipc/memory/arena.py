"""A file without a name that holds buffers for the other side: its writer's end.

It is a sparse memfd, so it takes memory only where it has been written to, and goes
when the last descriptor and the last mapping of it have gone, whoever dies.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from aioipc.memory.file import File
from aioipc.memory.slots import Slots, segment_of

__all__ = ["Arena", "ArenaStatistics"]


class ArenaStatistics(NamedTuple):
    """What an arena holds.

    :ivar buffers: that someone uses
    :ivar used: bytes that they take
    :ivar held: bytes of memory, also those that are kept for the next ones
    """

    buffers: int
    used: int
    held: int


class Arena:
    """Slots in a file; from any thread.

    A slot has as many owners as have taken or kept it, and is free when all have let it
    go. The other side must not look at it any more then.

    :param file: which it closes
    :param limit: bytes of memory
    """

    def __init__(self, file: File, limit: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._slots = Slots(limit)
        self._owners: dict[int, int] = {}
        self._unowned: deque[int] = deque()  # once for each owner that let go
        self._opened = [file]  # until we have closed it

    def take(self, size: int) -> int | None:
        """Return where a new slot starts, for `write`; None if there is no room."""
        if not self._opened or not self._file.keep_open():
            return None
        try:
            return self._take(size)
        finally:
            self._file.close()

    def _take(self, size: int) -> int | None:
        with self._lock:
            self._free_unowned()
            start = self._slots.take(size)
            if start is None:
                return None
            segment = segment_of(start, size)
            try:
                self._file.grow(segment.start + segment.size)
                self._file.segment(segment)
            except OSError:  # a limit of this process, or no memory
                self._slots.untake(start)
                return None
            self._owners[start] = 1
            return start

    def write(self, start: int, data: Any, size: int) -> None:
        """Write a buffer to a slot that was taken for it.

        It releases the GIL, and first makes room, where `take` counts on that.
        """
        from aioipc.memory.copying import copy  # noqa: PLC0415 - a pool begins without

        self._give_back()
        segment = segment_of(start, size)
        with self._lock:
            mapping = self._file.segment(segment)
        copy(data, mapping.address + start - segment.start, size)

    @property
    def debt(self) -> int:
        """Bytes of memory that the next `write` has to give back before."""
        return sum(size for _, size in self._slots.to_give_back)

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
        unowned, owners = self._unowned, self._owners
        while unowned:
            start = unowned.popleft()
            if start not in owners:
                continue
            owners[start] -= 1
            if not owners[start]:
                del owners[start]
                self._slots.free(start)

    def trim(self) -> None:
        """Give back the memory that is not in use; it can take long."""
        with self._lock:
            self._free_unowned()
            self._slots.give_back_all()
        self._give_back()

    def _give_back(self) -> None:
        slots = self._slots
        while slots.to_give_back and self._file.keep_open():
            try:
                with self._lock:
                    if not slots.to_give_back:
                        return
                    start, size = slots.to_give_back.pop()
                left = size
                with contextlib.suppress(OSError):
                    self._file.give_back(start, size)
                    left = 0
                with self._lock:
                    slots.gave_back(start, left)
                if left:  # and so will the others
                    return
            finally:
                self._file.close()

    def close(self) -> None:
        """Take no more buffers; those that are there stay while someone looks.

        Without the lock, too: a pool that is garbage ends so, whoever collects it.
        """
        with contextlib.suppress(IndexError):  # it was closed before
            self._opened.pop().close()

    @property
    def limit(self) -> int:
        """Bytes of memory that it may have."""
        return self._slots.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._slots.limit = limit

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
        return self._file.memory
