"""How a worker comes by its connection to a broker: made on first use, one for all.

A forked child has no part in its parent's connection: it makes its own.
"""

import os
import socket
import threading
from multiprocessing import AuthenticationError

from aioipc.broker.descriptors import Descriptors
from aioipc.broker.link import Link
from aioipc.transport.forks import forget_in_forks
from aioipc.wire.broker import SLOTS
from aioipc.wire.handshake import FramedHandshake

__all__ = ["Address", "find_link"]

Address = str | tuple[str, int]
"""Of a Unix socket, or of a host and its port."""

_Key = tuple[Address, bytes]

_links: dict[_Key, Link] = {}


class _Connecting:
    """What keeps two threads from connecting to the same broker at a time.

    :ivar locks: one for each broker, held meanwhile: another one may not answer
    """

    def __init__(self) -> None:
        self.locks: dict[_Key, threading.Lock] = {}
        forget_in_forks(self)

    def forget(self) -> None:
        """Have no connections, and no thread that makes one; in a forked child."""
        self.locks = {}
        for link in _links.values():
            link.forget()
        _links.clear()


_connecting = _Connecting()


def find_link(address: Address, authkey: bytes, timeout: float) -> Link:
    """Return this process's connection to a broker, made if there is none.

    :raises multiprocessing.AuthenticationError: if the broker has another key
    :raises TimeoutError: if it does not answer in time
    :raises OSError: if it is not there
    """
    key = address, authkey
    link = _links.get(key)
    if link is not None and link.is_open:
        return link
    with _connecting.locks.setdefault(key, threading.Lock()):
        link = _links.get(key)
        if link is None or not link.is_open:
            link = _links[key] = connect(address, authkey, timeout)
        return link


def connect(address: Address, authkey: bytes, timeout: float) -> Link:
    """Connect to a broker: see `find_link`."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        _authenticate(sock, authkey)
        sock.settimeout(None)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptors = Descriptors(sock.detach())
    try:
        if family == socket.AF_UNIX and hasattr(os, "eventfd"):
            flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
            for _ in range(SLOTS):
                descriptors.tokens.append(os.eventfd(0, flags))
        link = Link(descriptors)
        link.greet()
    except BaseException:
        descriptors.close()
        raise
    return link


def _authenticate(sock: socket.socket, authkey: bytes) -> None:
    framed = FramedHandshake(authkey, "client")
    while framed.missing:
        data = sock.recv(framed.missing)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        reply = framed.feed(data)
        if reply:
            sock.sendall(reply)
    if framed.handshake.refusal is not None:
        raise AuthenticationError(f"no entry to the broker: {framed.handshake.refusal}")
