"""A file without a name that holds buffers from the other side: its reader's end.

A buffer is looked at where it lies, by a mapping of its own. That is private: what is
written to it here is copied by the kernel, page by page, and the other side and its
other readers never see it. When the last view of a buffer has gone, so has its mapping,
and its slot is `released`: the other side, once it is told, may use it again.
"""

import contextlib
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from aioipc.memory.file import File

if TYPE_CHECKING:
    from aioipc.memory.mapping import Mapping

__all__ = ["Views"]

_MOST = 0x7FFF_F000
"""Bytes that Linux reads at once."""

_LITTLE = 1 << 21
"""Bytes for which a file is not kept open, once its other side has gone."""


class Views:
    """Buffers in a file that another process writes to.

    :param file: which it closes
    :param released: instead of a new one
    :ivar released: where slots start that no one looks at any more; from any thread
    """

    def __init__(self, file: File, released: deque[int] | None = None) -> None:
        self.released: deque[int] = deque() if released is None else released
        self._file = file
        self._users = 1
        self._is_closed = False
        self._kept: dict[int, int] | None = None  # when closed: sizes, by start
        self._late: deque[int] = deque()  # released after that
        self._opened = [file]  # until we have closed it

    def look(self, start: int, size: int, *, readonly: bool) -> memoryview:
        """Return a buffer of the other side's, to be kept for as long as wanted.

        :raises BufferError: if there is none
        """
        from aioipc.memory import looks  # noqa: PLC0415 - a pool begins without ctypes

        self._check(start, size)
        try:
            view = looks.look(self, self._file, start, size)
        except OSError:  # the number of mappings is limited
            view = memoryview(self.read_array(start, size))
        return view.toreadonly() if readonly else view

    @property
    def is_slow(self) -> bool:
        """Whether `look` may take long now, as a copy does."""
        looks: Any = sys.modules.get("aioipc.memory.looks")
        return looks is not None and (looks.is_forking() or looks.are_too_many())

    def read(self, start: int, size: int) -> bytes:
        """Return a copy; releases the GIL."""
        self._check(start, size)
        if size <= _MOST:
            data = os.pread(self._file.fd, size, start)
        else:
            data = bytes(self._read(start, size))
        self.released.append(start)
        return data

    def read_array(self, start: int, size: int) -> bytearray:
        """Return a copy that can be written to; releases the GIL."""
        self._check(start, size)
        data = self._read(start, size)
        self.released.append(start)
        return data

    def _read(self, start: int, size: int) -> bytearray:
        from aioipc.memory.copying import new_bytearray  # noqa: PLC0415

        data = new_bytearray(size)
        done = 0
        with memoryview(data) as whole:
            while done < size:
                done += os.preadv(self._file.fd, [whole[done:]], start + done)
        return data

    def _check(self, start: int, size: int) -> None:
        """Raise if the file does not have that; a worker may say what it wants."""
        if self._is_closed or self._file.is_closed:
            raise BufferError("closed")
        if not self._file.reaches(start + size):
            raise BufferError("there is no such buffer")

    def spare(self, mapping: "Mapping") -> None:
        """Have a mapping that no one looks at any more, for the next look."""
        if not self._is_closed:
            self._file.spare(mapping)

    def release(self, start: int) -> None:
        """Note that no one looks at a slot any more."""
        if self._is_closed:
            self._late.append(start)
            self._give_back_late()
        else:
            self.released.append(start)

    def keep_open(self) -> None:
        """Put off `close` until it has been called once more; from the loop."""
        self._users += 1

    def close(self) -> bool:
        """Look at nothing more, when the other side has gone; from the loop.

        What is in view stays.

        :returns: False if it is put off; else `finish` is to be called
        """
        self._users -= 1
        self._is_closed = self._users <= 0
        return self._is_closed

    def finish(self) -> None:
        """Give back the memory of all that is not in view; it can take long."""
        self._file.drop_spare()
        looks: Any = sys.modules.get("aioipc.memory.looks")
        kept: dict[int, int] = {}
        if looks is not None:
            looks.copy_what_is_left(self, _LITTLE)
            kept = looks.sizes_of(self)
        # Where it fails, the file keeps its memory until the last view has gone.
        with contextlib.suppress(OSError):
            if self.memory:
                self._file.give_back_but(kept)
        self._kept = kept
        self._give_back_late()

    def _give_back_late(self) -> None:
        if self._kept is None:  # `finish` is under way, and comes here
            return
        while self._late:
            with contextlib.suppress(OSError, IndexError):
                start = self._late.popleft()
                size = self._kept.pop(start, 0)
                if self._file.keep_open():
                    try:
                        self._file.give_back(start, size)
                    finally:
                        self._file.close()
        if len(self._kept) < 2:  # whose memory goes with its mapping
            with contextlib.suppress(IndexError):  # another thread has just been here
                self._opened.pop().close()

    @property
    def memory(self) -> int:
        """Bytes of memory that the other side's arena has."""
        if self._kept is not None:
            return sum(self._kept.copy().values())
        return self._file.memory
