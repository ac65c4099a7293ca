"""Connecting to a listener without blocking the loop."""

import contextlib
import errno
import ipaddress
import os
import socket

import anyio

from aioipc.transport.choice import Transport, open_watch
from aioipc.transport.listening import Address
from aioipc.transport.loops import current_loop

__all__ = ["connect"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds


async def connect(
    address: Address, family: str, transport: Transport | None
) -> socket.socket:
    """Return a connected socket, not blocking; a cancel leaves none.

    :raises OSError: as `socket.connect`
    """
    addresses = await _resolve(address, family)
    for candidate in addresses[:-1]:
        with contextlib.suppress(OSError):
            return await _connect(candidate, family, transport)
    return await _connect(addresses[-1], family, transport)


async def _connect(
    address: Address, family: str, transport: Transport | None
) -> socket.socket:
    sock = socket.socket(getattr(socket, family))
    try:
        sock.setblocking(False)
        await _finish(sock, address, transport)
    except BaseException:
        sock.close()
        raise
    return sock


async def _finish(
    sock: socket.socket, address: Address, transport: Transport | None
) -> None:
    code, pause = sock.connect_ex(address), _FIRST_PAUSE
    while code == errno.EAGAIN:
        # AF_UNIX: the listener's backlog is full, and no one tells when it is not.
        await anyio.sleep(pause)
        code, pause = sock.connect_ex(address), min(2 * pause, _LONGEST_PAUSE)
    if code == errno.EINPROGRESS:
        await _writable(sock, transport)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, f"{os.strerror(code)}: {address!r}")


async def _writable(sock: socket.socket, transport: Transport | None) -> None:
    watch = open_watch(current_loop(), sock.fileno(), "write", lambda: True, transport)
    try:
        await watch.wait()
    finally:
        watch.close()


async def _resolve(address: Address, family: str) -> list[Address]:
    """Look up a host's name, which `connect` would do too, but blocking."""
    if not isinstance(address, tuple) or _is_numeric(address[0]):
        return [address]
    host, port = address[:2]
    found = await anyio.getaddrinfo(
        host, port, family=getattr(socket, family), type=socket.SOCK_STREAM
    )
    return [entry[4] for entry in found]


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not host  # "" is this machine
    return True
