"""What `multiprocessing` hides of a `Listener`."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import socket
from multiprocessing import util
from multiprocessing.connection import (
    Listener,
    SocketListener,  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
)
from typing import Any

from aioipc.transport.listening import is_abstract, remove_file

__all__ = ["ListenerInsides", "new_listener"]


class ListenerInsides:
    """The socket and the key of a `multiprocessing` Listener.

    :ivar socket: None if it is closed
    :ivar authkey: None if it lets everyone in
    """

    __slots__ = ("_listener", "authkey", "socket")

    def __init__(self, listener: Listener) -> None:
        self._listener: Any = listener._listener  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
        self.socket: socket.socket | None = getattr(self._listener, "_socket", None)
        self.authkey: bytes | None = listener._authkey or None  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]

    def note_accepted(self, address: Any) -> None:
        """Have it tell whom it has accepted last."""
        self._listener._last_accepted = address


def new_listener(sock: socket.socket, authkey: bytes | None) -> Listener:
    """Return a Listener on a listening socket; the file is removed as it closes."""
    inner: Any = SocketListener.__new__(SocketListener)
    inner._socket = sock
    inner._family = socket.AddressFamily(sock.family).name
    inner._address = address = sock.getsockname()
    inner._last_accepted = inner._unlink = None
    if sock.family == socket.AF_UNIX and not is_abstract(address):
        inner._unlink = util.Finalize(inner, remove_file, (address,), exitpriority=0)
    listener: Any = Listener.__new__(Listener)
    listener._listener = inner
    listener._authkey = authkey
    return listener
