"""Parts of a file in this process's memory, by the C library's own calls.

Not by `mmap.mmap`: each one holds a descriptor of its own, and it keeps the GIL while
the kernel copies or frees gigabytes.
"""

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Mapping", "punch"]

_PAGE = mmap.PAGESIZE
_MAP_NORESERVE = 0x4000  # or where memory must be backed, looking would count
_MADV_POPULATE_WRITE = 23  # since Linux 5.14
_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_FAILED = ctypes.c_void_p(-1).value
_STEP = 1 << 22  # meanwhile no other thread can map memory
_LOCKED = 1 << 16  # bytes that anyone may have locked

# Of a page's entry in pagemap(5), and of that the last byte: bits 63, 62 and 61.
_ENTRY = 8
_LAST = 7 if sys.byteorder == "little" else 0
_IS_THERE = 1 << 7 | 1 << 6  # in memory, or swapped out
_IS_OF_FILE = 1 << 5
_COPIES = bytes(it for it in range(256) if it & _IS_THERE and not it & _IS_OF_FILE)

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
_munmap, _mlock, _munlock = _libc.munmap, _libc.mlock, _libc.munlock
for _function in (_munmap, _mlock, _munlock):
    _function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Mapping:
    """A part of a file, until the last reference to this has gone.

    :param start: a multiple of the page size
    :param private: what is written to it is this process's own, and not the file's
    :ivar address: where it begins in memory
    :ivar size: bytes, a multiple of the page size
    :raises OSError: if there is no memory, or there are too many mappings
    """

    __slots__ = ("address", "size", "start")

    def __init__(self, fd: int, start: int, size: int, *, private: bool) -> None:
        self.start = start
        self.size = 0
        whole = -(-size // _PAGE) * _PAGE
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE if private else mmap.MAP_SHARED
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self.address = _mmap(None, whole, access, flags, fd, start)
        if self.address == _FAILED:
            raise _error()
        self.size = whole

    def copy(self, size: int) -> None:
        """Give this process its own copy of the first pages; for a private mapping.

        :raises OSError: if there is no memory
        """
        try:
            for address, step in self._steps(size, _STEP):
                if _madvise(address, step, _MADV_POPULATE_WRITE):
                    raise _error()
        except OSError as error:
            if error.errno != errno.EINVAL:  # or the kernel does not know how
                raise
            self._copy_by_locking(size)

    def _copy_by_locking(self, size: int) -> None:
        """Do the same by a side effect, which is as safe beside threads that write."""
        for address, step in self._steps(size, _LOCKED):
            if _mlock(address, step):
                raise _error()
            _munlock(address, step)

    @property
    def has_copies(self) -> bool:
        """Whether it may not show all of the file: for a private one, as written to."""
        wanted = self.size // _PAGE * _ENTRY
        try:
            fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            try:
                entries = os.pread(fd, wanted, self.address // _PAGE * _ENTRY)
            finally:
                os.close(fd)
        except OSError:
            return True
        kinds = entries[_LAST::_ENTRY]
        return len(entries) < wanted or len(kinds.translate(None, _COPIES)) < len(kinds)

    def _steps(self, size: int, step: int) -> Iterator[tuple[int, int]]:
        end = self.address + min(self.size, -(-size // _PAGE) * _PAGE)
        for address in range(self.address, end, step):
            yield address, min(step, end - address)

    def __del__(self, _munmap: Any = _munmap) -> None:
        if self.size:
            _munmap(self.address, self.size)


def punch(fd: int, start: int, size: int) -> None:
    """Let a file have no memory for a part of it, which is zeros from then on.

    :raises OSError: if it is no such file
    """
    if size > 0 and _fallocate(fd, _PUNCH_HOLE, start, size):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
