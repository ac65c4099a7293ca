"""A descriptor of one's own, and its state, which it gets back at the end."""

import contextlib
import os
import socket
import stat

__all__ = ["ROOM", "Descriptor", "open_socket"]

ROOM = 1 << 20
"""Bytes of a large message that the kernel is asked to hold for the peer.

With the 208 KB that a socket has by default, loop and peer wake each other five times
for each MB, and the one sleeps while the other works. The kernel may grant less
(`/proc/sys/net/core/wmem_max`).
"""


class Descriptor:
    """A descriptor of one's own, for a receiver and a sender.

    :ivar burst: messages sent since the loop had its turn
    :ivar asked: whether one has been sent since a receive last had to wait
    """

    __slots__ = ("_blocking", "_room", "asked", "burst", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.burst = 0
        self.asked = False
        self._blocking: bool | None = None  # what it was, once that is changed
        self._room = 0  # likewise

    def unblock(self) -> None:
        """Make it non-blocking."""
        if self._blocking is None:
            self._blocking = os.get_blocking(self.fd)
            os.set_blocking(self.fd, False)

    def widen(self) -> None:
        """Have the kernel hold `ROOM` bytes for the peer, or as many as it will."""
        if not self._room:
            self._room = _room(self.fd)
            if self._room < ROOM:
                _set_room(self.fd, ROOM)

    def restore(self) -> None:
        """Make it as it was."""
        if 0 < self._room < ROOM:
            _set_room(self.fd, self._room)
        self._room = 0
        if self._blocking is not None:
            os.set_blocking(self.fd, self._blocking)
            self._blocking = None


def open_socket(fd: int) -> socket.socket | None:
    """Return a socket object on a duplicate of `fd`, to be closed; None for a pipe."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    return socket.socket(fileno=os.dup(fd))


def _room(fd: int) -> int:
    """Return the bytes that the kernel holds; `ROOM` where that is its own affair.

    Pipes are left alone: a user has 64 MB for all of them, by default. TCP finds out by
    itself what it needs.
    """
    with contextlib.suppress(OSError):  # no descriptor is left
        sock = open_socket(fd)
        if sock is not None:
            with sock:
                if sock.family == socket.AF_UNIX:
                    # socket(7): the kernel doubles what it is told, for its own needs
                    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    return ROOM


def _set_room(fd: int, size: int) -> None:
    with contextlib.suppress(OSError):
        sock = open_socket(fd)
        if sock is not None:
            with sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
