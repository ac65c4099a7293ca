"""Giving back what a worker holds: never left halfway.

A task that the pool interrupts leaves its `with lock:` by the way of `release`. It is
not interrupted there once more (see `worker/interrupts.py`), or the lock would stay
with a worker that lives on.

When a connection breaks, the broker takes back what was acquired by it. Whoever has not
heard of that will release it nevertheless, and must not release what is someone else's
by then.
"""

import threading
from typing import NamedTuple

from aioipc.broker.link import Link
from aioipc.broker.remote import RemoteObject

__all__ = ["Releasable"]


class _Holder(NamedTuple):
    """Who has acquired something, and by which connection."""

    thread: int
    link: Link


_held: "set[Releasable]" = set()


class Releasable(RemoteObject):
    """Something that is acquired and released.

    :cvar _most: how often it can be held at a time
    """

    _most = 1

    def forget(self) -> None:
        """Have no connection, and hold nothing; in a forked child.

        What its parent holds it may release, as anyone may.
        """
        super().forget()
        self._counting = threading.Lock()
        self._held: dict[_Holder, int] = {}  # how often
        self._without: set[int] = set()  # threads that have lost it while they waited
        self._stay()

    def _acquired(self, link: Link) -> None:
        """Note that it is held."""
        me = _Holder(threading.get_ident(), link)
        with self._counting:
            self._without.discard(me.thread)
            if self._most == 1:  # so another process has released what was held
                for holder in [one for one in self._held if one.link is link]:
                    del self._held[holder]
            self._held[me] = self._held.get(me, 0) + 1
        self._stay()

    def _lost(self, link: Link) -> None:
        """Note that this thread holds it no more, though it is about to release it."""
        me = threading.get_ident()
        with self._counting:
            self._without.add(me)
            holders = [holder for holder in self._held if holder.link is link]
            if holders:  # this thread, if it is the one that has acquired it
                self._take_from(min(holders, key=lambda one: one.thread != me), 1)
        self._stay()

    def _stay(self) -> None:
        """Be found again by `rebuild` as long as someone is to release this.

        Though its connection has broken and no one has the object: a task that another
        one has left it to is to hear that it is lost.
        """
        if self._held or self._without:
            _held.add(self)
        else:
            _held.discard(self)

    def _release(self, count: int = 1) -> None:
        try:
            self._release_what_is_held(count)
        finally:
            self._stay()

    def _release_what_is_held(self, count: int) -> None:
        me = threading.get_ident()
        if me in self._without:
            self._without.discard(me)
            return
        lost = self._forget_held(count)
        if lost < count or not lost:
            self._call("release", *([] if count - lost == 1 else [count - lost]))
        if lost:
            raise BrokenPipeError(
                "what was acquired is not held any more: the connection was broken"
            )

    def _forget_held(self, count: int) -> int:
        """Note that some are released; return how many of them are lost.

        A thread releases what it has acquired itself, and what it still has before what
        it has lost: so what it leaves to others to release, for ever perhaps, is not
        in its way. Of what others have acquired, the lost ones come first: then nothing
        is released that another thread holds.
        """
        me = threading.get_ident()

        def turn(holder: _Holder) -> tuple[bool, bool]:
            is_mine = holder.thread == me
            return not is_mine, holder.link.is_open != is_mine

        with self._counting:
            lost, left = 0, count
            for holder in sorted(self._held, key=turn):
                taken = self._take_from(holder, left)
                left -= taken
                if not holder.link.is_open:
                    lost += taken
            return lost

    def _take_from(self, holder: _Holder, most: int) -> int:
        held = self._held[holder]
        taken = min(held, most)
        if taken == held:
            del self._held[holder]
        else:
            self._held[holder] = held - taken
        return taken

    def __exit__(self, *exc_info: object) -> None:
        self._release()
