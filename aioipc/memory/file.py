"""A file that has no name, in memory: its descriptor, which has one small owner."""

import fcntl
import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioipc.memory.mapping import Mapping
    from aioipc.memory.slots import Segment

__all__ = ["File", "open_memory"]

_SPARE = 64
"""Mappings of a file that are kept, at most."""


def open_memory(name: str) -> int:
    """Return the descriptor of a file that has no name, and can't be made shorter.

    Where there is none, it leads nowhere: an arena there takes nothing.
    """
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Whoever looked at what is cut off would be killed.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except (AttributeError, OSError):  # e.g. a sandbox does not allow it
        if fd >= 0:
            os.close(fd)
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return fd


_files: "weakref.WeakSet[File]" = weakref.WeakSet()


class File:
    """Owns a descriptor until `close` has been called, and once for each `keep_open`.

    Only who keeps it open may use it. A forked child has it closed, and nothing mapped
    that it could write to.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        _files.add(self)
        self._lock = threading.Lock()
        self._users = 1
        self._end = 0  # when last seen: it only grows
        self._shared: dict[Segment, Mapping] = {}
        self._spare: dict[int, Mapping] = {}  # private, that no one looks at; by start

    @property
    def is_closed(self) -> bool:
        """Whether it has no descriptor any more."""
        return self.fd < 0

    @property
    def memory(self) -> int:
        """Bytes of memory that it has; 0 if it is closed."""
        try:
            return os.fstat(self.fd).st_blocks * 512
        except OSError:
            return 0

    def reaches(self, end: int) -> bool:
        """Whether it is so large."""
        if end > self._end and not self.is_closed:
            self._end = os.fstat(self.fd).st_size
        return end <= self._end

    def grow(self, end: int) -> None:
        """Make it that large, if it is not."""
        if not self.reaches(end):
            os.ftruncate(self.fd, end)

    def map(self, start: int, size: int, *, private: bool) -> "Mapping":
        """Return a part of it as memory."""
        from aioipc.memory.mapping import Mapping  # noqa: PLC0415 - brings ctypes

        if self.is_closed:  # mmap would take it for memory of no file
            raise BufferError("closed")
        spare = self._spare.pop(start, None) if private else None
        if spare is not None and spare.size == size:
            return spare
        return Mapping(self.fd, start, size, private=private)

    def spare(self, mapping: "Mapping") -> None:
        """Have a private mapping that no one looks at any more, for `map` to return.

        To map the same part anew would take a fault for every few pages. One that was
        written to would take those, too.
        """
        if len(self._spare) < _SPARE and not mapping.has_copies:
            self._spare[mapping.start] = mapping
        if self.is_closed:  # by another thread meanwhile
            self.drop_spare()

    def drop_spare(self) -> None:
        """Have no mapping that no one looks at."""
        self._spare = {}

    def segment(self, segment: "Segment") -> "Mapping":
        """Return memory that is the file's own; the same one each time."""
        mapping = self._shared.get(segment)
        if mapping is None:
            mapping = self._shared[segment] = self.map(*segment, private=False)
        return mapping

    def give_back(self, start: int, size: int) -> None:
        """Have no memory for a part of it; it can take long.

        :raises OSError: if that can't be
        """
        from aioipc.memory.mapping import punch  # noqa: PLC0415

        punch(self.fd, start, size)

    def give_back_but(self, kept: dict[int, int]) -> None:
        """Have no memory but for the parts that start there and have that size."""
        end = 0
        for start in sorted(kept):
            self.give_back(end, start - end)
            end = start + kept[start]
        self.give_back(end, os.fstat(self.fd).st_size - end)

    def keep_open(self) -> bool:
        """Put off `close` until it has been called once more; False if it was."""
        with self._lock:
            self._users += self._users > 0
            return self._users > 0

    def close(self) -> None:
        """Close it when all who keep it open have done so."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self.forget()

    def forget(self) -> None:
        """Close it now, and take no lock."""
        self._shared = {}
        self.drop_spare()
        fd, self.fd = self.fd, -1  # first, for another thread may fork meanwhile
        if fd >= 0:
            os.close(fd)


def _forget_all() -> None:
    # A child that is left behind would keep the memory of all.
    for file in list(_files):
        file.forget()


os.register_at_fork(after_in_child=_forget_all)
