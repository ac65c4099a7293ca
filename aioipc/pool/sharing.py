"""The memory that a pool and its workers share for large buffers, within one bound.

Half is for arguments: they lie in an arena of the pool's. Half is for results, which
lie in an arena of each worker; it may have a share. Results that are kept when their
worker has ended take from what is left for others.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from aioipc.memory.arena import Arena
from aioipc.memory.file import File, open_memory
from aioipc.memory.views import Views
from aioipc.transport.threads import run_in_thread

if TYPE_CHECKING:
    from aioipc.pool._states import Worker
    from aioipc.pool.member import Member

__all__ = ["SharedMemory", "close_views", "import_all"]

_MUCH = 1 << 24
"""Bytes that the kernel takes more than about 1 ms to free."""


class SharedMemory:
    """Memory for large buffers.

    :param limit: bytes
    :ivar arena: for arguments
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._file = File(open_memory("aioipc arguments"))
        self.arena = Arena(self._file, self._half)
        self._shares: dict[Worker, int] = {}
        self._outlived: list[Views] = []

    def open_arguments(self) -> int:
        """Return a descriptor for a worker, by which it can't write to the arena.

        :raises OSError: if there are too many
        """
        return os.open(f"/proc/self/fd/{self._file.fd}", os.O_RDONLY)

    def share_for(
        self, worker: "Worker", members: "Mapping[Worker, Member]", workers: int
    ) -> int:
        """Return how many bytes the results of a worker may have.

        :param members: whose results may have more than their shares by now
        :param workers: that there are to be
        """
        left = self._half - self._memory_outlived
        for other, share in self._shares.items():
            if other is not worker:
                member = members.get(other)
                left -= max(share, 0 if member is None else member.views.memory)
        most = self._half // max(1, workers)
        share = self._shares[worker] = max(0, min(most, left))
        return share

    def share_anew(self, members: "Mapping[Worker, Member]", workers: int) -> None:
        """Have workers know their shares, when something has changed."""
        before = self._shares.copy()
        self._shares.update(dict.fromkeys(members, 0))
        workers = max(workers, len(self._shares))
        for worker, member in members.items():
            share = self.share_for(worker, members, workers)
            if share != before[worker]:
                member.limit(share)

    def gone(self, worker: "Worker", member: "Member | None") -> None:
        """Note that a worker has ended, and its member is closed."""
        self._shares.pop(worker, None)
        if member is not None:
            self._outlived.append(member.views)

    def trim(self, members: "Iterable[Member]") -> None:
        """Give back what is not in use."""
        _free(self.arena.memory, self.arena.trim)
        for member in members:
            if member.shares_memory:
                member.trim()

    def close(self, *, idle: bool) -> None:
        """Let go of it; what is in view stays.

        :param idle: whether all workers have ended, and only children that they have
            left may still look: at copies
        """

        def close() -> None:
            if idle:
                self.arena.trim()
            self.arena.close()

        _free(self.arena.memory, close)

    def held(self, views: Iterable[Views]) -> int:
        """Return the bytes of memory that are in use, or kept for the next buffers.

        :param views: of results of the workers that there are
        """
        return (
            self.arena.memory + self._memory_outlived + sum(one.memory for one in views)
        )

    @property
    def _memory_outlived(self) -> int:
        self._outlived = [views for views in self._outlived if views.memory]
        return sum(views.memory for views in self._outlived)


def import_all() -> None:
    """Import what a pool begins without, because it brings ctypes.

    Also before a fork: the child never can import what another thread is at then.
    """
    for name in ("copying", "looks", "mapping"):
        import_module(f"aioipc.memory.{name}")


def _free(memory: int, function: Callable[[], None]) -> None:
    """Call what frees memory, in a thread if that takes the kernel long."""
    if memory < _MUCH or sys.is_finalizing():
        function()
    else:
        run_in_thread(function, "free")


def close_views(views: Views) -> None:
    """Look at nothing more; if no one else does, give back the rest."""
    if views.close():
        _free(views.memory, views.finish)
