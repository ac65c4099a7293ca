"""What a worker has sent, by its socket or its ring, in the order of that: `Inbox`.

The order is told in `ring.py`. Nothing here waits, nor calls what a message is for.
"""

import errno
import os
import socket
import threading
from array import array
from collections import deque

from aioipc.broker.ring import RingReader, map_ring
from aioipc.wire.broker import DESCRIPTORS, GREETING_SIZE, decode_greeting
from aioipc.wire.messages import Message, MessageDecoder

__all__ = ["Inbox"]


class Inbox:
    """Turns what arrives into messages.

    :ivar messages: those that have arrived whole, oldest first
    :ivar cookie: what the worker's messages begin with; empty before its greeting
    :ivar pid: of the worker, as it says; None before its greeting
    """

    def __init__(self, sock: socket.socket) -> None:
        self.messages: deque[Message] = deque()
        self.cookie = b""
        self.pid: int | None = None
        self._sock = sock
        self._fd = sock.fileno()
        self._greeting = b""
        self._fds: list[int] = []
        self._decoder = MessageDecoder(b"")
        self._seen = 0  # messages of the socket
        self._ring: RingReader | None = None
        self._fence = threading.Lock()

    def read(self) -> bool:
        """Take in what is there; False at the end of all.

        :raises OSError: if there are too few descriptors for it
        :raises ValueError: if it is garbage
        """
        try:
            if self.cookie:
                goes_on = self._decoder.read(self._fd) > 0
            else:
                goes_on = self._read_greeting()
        except BlockingIOError:
            goes_on = True
        except ConnectionError:
            goes_on = False
        self._merge()
        return goes_on

    def read_ring(self) -> bool:
        """Take in what is in the ring; True.

        :raises ValueError: if it is garbage
        """
        if self._ring is not None:
            self._ring.take(self._seen, self.messages)
        return True

    def read_some(self) -> bool:
        """Take in what is in the ring; or, if it is empty, all: see `read`."""
        return (self.read_ring() and bool(self.messages)) or self.read()

    def wake(self) -> bool:
        """Have the worker use the ring, if it has one; whether it has."""
        if self._ring is not None:
            self._ring.wake()
        return self._ring is not None

    def sleep(self) -> None:
        """Have the worker use the socket; what it has not seen of this is in the ring.

        So look once more.
        """
        if self._ring is not None:
            self._ring.sleep()
            with self._fence:  # see `ring.py`
                pass

    def take_descriptors(self) -> list[int]:
        """Return what came with the greeting, to be closed by the caller."""
        fds, self._fds = self._fds, []
        return fds

    def close(self) -> None:
        """Read no more; the worker hears of that by its socket."""
        if self._ring is not None:
            self._ring.sleep()
        self.forget()

    def forget(self) -> None:
        """Have no ring, and no descriptor that was not taken."""
        self._ring = None
        for fd in self.take_descriptors():
            os.close(fd)

    def _merge(self) -> None:
        """Bring what came by the socket and by the ring into one order."""
        arrived, ring = self._decoder.messages, self._ring
        if ring is None:
            self.messages += arrived
        else:
            messages, seen = self.messages, self._seen
            ring.take(seen, messages)
            for message in arrived:
                messages.append(message)
                seen += 1
                ring.take(seen, messages)
            self._seen = seen
        arrived.clear()

    def _read_greeting(self) -> bool:
        missing = GREETING_SIZE - len(self._greeting)
        data, fds, flags = _recv_fds(self._sock, missing)
        self._fds += fds
        if flags & socket.MSG_CTRUNC or len(self._fds) not in {0, DESCRIPTORS}:
            raise OSError(errno.EMFILE, "no descriptors are left for its tokens")
        self._greeting += data
        if len(self._greeting) == GREETING_SIZE:
            self.cookie, self.pid = decode_greeting(self._greeting)
            self._decoder = MessageDecoder(self.cookie)
            if self._fds:
                self._open_ring(self._fds.pop())
        return bool(data)

    def _open_ring(self, fd: int) -> None:
        memory = map_ring(fd)
        os.close(fd)
        if memory is not None:
            self._ring = RingReader(memory)


def _recv_fds(sock: socket.socket, size: int) -> tuple[bytes, "array[int]", int]:
    """Return some bytes, descriptors that no child inherits, and flags.

    `socket.recv_fds` ignores the flag that it is given for that.
    """
    fds = array("i")
    room = socket.CMSG_LEN(DESCRIPTORS * fds.itemsize)
    data, messages, flags, _ = sock.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, sent in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(sent[: len(sent) - len(sent) % fds.itemsize])
    return data, fds, flags
