"""When a worker takes tokens, which it does without a word: `Taking`.

The kernel knows. Whoever reads an eventfd makes room in it, and an epoll descriptor
hears of that each time, edge-triggered, though there was room before.
"""

import select
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from aioipc.transport.choice import open_watch
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import Loop, Timer

if TYPE_CHECKING:
    from aioipc.transport.watches import Watch

__all__ = ["Taking"]

AGAIN = 0.05
"""Seconds after which is looked once more for what the kernel can't tell."""


class Taking:
    """Tells of one worker's taking tokens, of which it is told where that matters.

    It has a descriptor from then on only.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._watch: Watch | None = None
        self._telling: dict[int, dict[Callable[[], object], None]] = {}
        self._timers: dict[Callable[[], object], Timer] = {}  # without a descriptor
        forget_in_forks(self)

    def tell(self, fd: int, taken: Callable[[], object]) -> None:
        """Have `taken` called once, after tokens of an eventfd were taken, or before.

        Without a descriptor left it is called after a while, to look and ask again.
        """
        try:
            epoll = self._epoll or self._open()
            if fd not in self._telling:
                epoll.register(fd, select.EPOLLOUT | select.EPOLLET)
        except OSError:
            if taken not in self._timers:
                call = partial(self._call, taken)
                self._timers[taken] = self._loop.call_later(AGAIN, call)
            return
        self._telling.setdefault(fd, {})[taken] = None

    def close(self) -> None:
        """Tell no more; before the eventfds are closed."""
        for timer in self._timers.values():
            timer.cancel()
        if self._watch is not None:
            self._watch.close()
        self.forget()

    def forget(self) -> None:
        """Leave it to the parent; in a forked child, where the watch does so, too."""
        self._telling.clear()
        self._timers.clear()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = self._watch = None

    def _open(self) -> select.epoll:
        epoll = select.epoll()
        try:
            watch = open_watch(self._loop, epoll.fileno(), "read", self._look, None)
            watch.finish()
        except BaseException:  # no one would read what is registered with it
            epoll.close()
            raise
        self._epoll, self._watch = epoll, watch
        return epoll

    def _call(self, taken: Callable[[], object]) -> None:
        del self._timers[taken]
        taken()

    def _look(self) -> bool:
        epoll = self._epoll
        assert epoll is not None
        for fd, _ in epoll.poll(0):
            told = self._telling.get(fd, {})
            self._telling[fd] = {}
            for taken in told:
                taken()
            if epoll.closed:  # by what that led to
                return True
            if not self._telling[fd]:  # it need not wake us any more
                del self._telling[fd]
                epoll.unregister(fd)
        return False
