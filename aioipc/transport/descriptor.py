"""A descriptor of one's own, and its state, which it gets back at the end."""

import contextlib
import fcntl
import os
import socket
import stat

__all__ = ["ROOM", "Descriptor", "open_socket"]

ROOM = 1 << 20
"""Bytes of a large message that the kernel is asked to hold for the peer.

With the 208 KB that a socket has by default, loop and peer wake each other five times
for each MB, and the one sleeps while the other works. The kernel may grant less
(`/proc/sys/net/core/wmem_max`, `/proc/sys/fs/pipe-max-size`).
"""


class Descriptor:
    """A descriptor of one's own, for a receiver and a sender.

    :ivar burst: messages sent since the loop had its turn
    :ivar asked: whether one has been sent since the last was received
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
        """Make it as it was; but room that is in use stays."""
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
    """Return the bytes that the kernel holds; `ROOM` where they are its own affair."""
    sock = open_socket(fd)
    if sock is None:
        return _pipe_room(fd)
    with sock:
        if sock.family != socket.AF_UNIX:
            return ROOM  # TCP finds out by itself what it needs
        # socket(7): the kernel doubles what it is told, for its own needs
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2


def _set_room(fd: int, size: int) -> None:
    sock = open_socket(fd)
    if sock is None:
        with contextlib.suppress(OSError):  # over a limit, or less than it holds
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
    else:
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def _pipe_room(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:  # not even a pipe
        return ROOM
