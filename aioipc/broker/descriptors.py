"""The descriptors of a worker's connection, which several threads use at once.

Any of them may find that the connection has broken, while others are about to read,
write or poll. If it closed them, their numbers would soon be those of other files, and
the bytes of these would be read by who is late. So no one closes them: a thread has
the `Descriptors` in a variable while it uses a number, and when none has them any more,
they are closed.
"""

import contextlib
import os
import socket
from collections.abc import Generator

__all__ = ["Descriptors"]


class Descriptors:
    """A socket, and the eventfds of a worker's slots; closed with the last reference.

    :ivar fd: of the socket
    :ivar tokens: by slot
    """

    __slots__ = ("fd", "tokens")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.tokens: list[int] = []

    @contextlib.contextmanager
    def as_socket(self) -> Generator[socket.socket]:
        """Lend the socket as an object."""
        sock = socket.socket(fileno=self.fd)
        try:
            yield sock
        finally:
            sock.detach()

    def shut_down(self) -> None:
        """End the connection, and so whatever a thread waits for there."""
        with contextlib.suppress(OSError), self.as_socket() as sock:
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close them now: only where no other thread can use them, as after a fork."""
        fds, self.fd, self.tokens = [self.fd, *self.tokens], -1, []
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    __del__ = close
