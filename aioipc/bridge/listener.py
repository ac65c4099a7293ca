"""`AsyncListener` and `Client`: multiprocessing's connections between programs.

The other end may be a plain `Client` or `Listener` of any Python: the handshake and the
bytes on the wire are the standard library's.
"""

import contextlib
import socket
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn, Self

import anyio
import anyio.lowlevel

from aioipc.bridge.connection import AsyncConnection
from aioipc.bridge.handover import Bridged
from aioipc.bridge.insides.listeners import ListenerInsides, new_listener
from aioipc.errors import ClosedResourceError
from aioipc.transport.acceptor import Acceptor, ListenerStatistics
from aioipc.transport.choice import Transport, check_transport
from aioipc.transport.connecting import connect
from aioipc.transport.greeting import Greeting
from aioipc.transport.handshakes import HANDSHAKE_TIMEOUT
from aioipc.transport.listening import Address, check_authkey, family_of, listen
from aioipc.wire.frames import MAX_FRAME_SIZE

if TYPE_CHECKING:
    from multiprocessing.connection import Listener as PlainListener

__all__ = ["AsyncListener", "Client", "Listener"]


class AsyncListener(Bridged):
    """A `multiprocessing.connection.Listener`, awaited.

    Each client has a handshake of its own, within a deadline. One that stalls, sends
    garbage or has a wrong key is refused, logged (logger `aioipc`) and counted in
    `statistics`; the others are served meanwhile, and `accept` never tells of it.

    It serves one event loop at a time, and others after it. In a forked worker it is
    closed.

    Get one from `Listener` or `wrap`; it owns the plain one until `detach`.

    :param listener: open, and not used by anyone else meanwhile
    :param handshake_timeout: seconds that a client has for the handshake; None for ever
    :param transport: how to wait: ``"readiness"``, ``"threads"``, or None for the best
    :param max_message_size: bytes; the connections refuse a longer message
    :raises ValueError: if it has no authkey and is open to others than this user
    """

    def __init__(
        self,
        listener: "PlainListener",
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        transport: Transport | None = None,
        max_message_size: int = MAX_FRAME_SIZE,
    ) -> None:
        self._insides = insides = ListenerInsides(listener)
        if insides.socket is None:
            raise ClosedResourceError("the listener is closed")
        self._acceptor = Acceptor(
            insides.socket,
            insides.authkey,
            handshake_timeout=handshake_timeout,
            transport=transport,
        )
        self._transport: Transport | None = transport
        self._max_message_size = max_message_size
        self._listener: PlainListener | None = listener

    async def accept(self) -> AsyncConnection[Any]:
        """Wait for a client that knows the key, and return the connection with it.

        The tasks that wait are served in the order in which they came. A cancel loses
        no client: the next accept gets it.

        :raises ClosedResourceError: if the listener is closed, now or meanwhile
        :raises BrokenResourceError: if its socket no longer works
        """
        sock, address = await self._acceptor.accept()
        self._insides.note_accepted(address)
        return _connection(sock, self._transport, self._max_message_size)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncConnection[Any]:
        return await self.accept()

    @property
    def address(self) -> Address:
        """Where it listens: with the port or the file that it was given."""
        return self._acceptor.address

    @property
    def last_accepted(self) -> Address | None:
        """The address of the client that was accepted last; empty for AF_UNIX."""
        return self._acceptor.last_accepted

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._listener is None

    def fileno(self) -> int:
        """Return the descriptor of the listening socket.

        :raises ClosedResourceError: if it is closed
        """
        return self._acceptor.fileno()

    def is_ready(self) -> bool:
        """Whether an accept would end at once, with a client or with an error.

        If not, there may still be clients, with the handshake before them.
        """
        return self._acceptor.ready

    @property
    def on_ready(self) -> "set[Callable[[], None]]":
        """What is called, within the loop, when `is_ready` may have become true."""
        return self._acceptor.on_ready

    def statistics(self) -> ListenerStatistics:
        """Return who waits for whom, and how many were served and refused."""
        return self._acceptor.statistics()

    def close(self) -> None:
        """Close it and remove its file.

        Clients that have not been accepted are dropped; tasks that wait get
        ClosedResourceError. Connections that have been accepted live on.
        """
        listener, self._listener = self._listener, None
        self._acceptor.close()
        if listener is not None:
            listener.close()

    async def aclose(self) -> None:
        """Close it: see `close`."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def detach(self) -> "PlainListener":
        """Give the `Listener` back as it was, and close this object without it.

        :raises UndeliveredError: if there are clients that no one has accepted, or in
            the middle of the handshake; nothing is changed then
        """
        listener = self._require_open()
        self._acceptor.detach()
        self._listener = None
        return listener

    @property
    def sync(self) -> "PlainListener":
        """The `Listener` itself, in the blocking mode that it had.

        For a worker that is forked; it can't be pickled. Don't use it in turns with
        this object.

        :raises BusyResourceError: if tasks are accepting, or there are clients that no
            one has accepted
        """
        listener = self._require_open()
        self._acceptor.lend()
        return listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a listener can't be pickled: only a forked worker can get it")

    def __repr__(self) -> str:
        if self._acceptor.closed:
            return "<AsyncListener closed>"
        state = self.statistics()
        return (
            f"<AsyncListener {self.address!r} ready={state.ready} "
            f"handshakes={state.handshakes}>"
        )

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "_listener", None) is None:
            return
        if not self._acceptor.closed:  # as it is in a fork
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self.close()

    def _require_open(self) -> "PlainListener":
        if self._listener is None:
            raise ClosedResourceError("the listener is closed")
        return self._listener


def Listener(  # noqa: N802 - multiprocessing's name
    address: Address | None = None,
    family: str | None = None,
    backlog: int = 1,
    authkey: bytes | None = None,
    *,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> AsyncListener:
    """Listen for connections from other programs.

    :param address: a path, or a host and a port (0 for any that is free); None for a
        file in a private directory
    :param family: ``"AF_UNIX"``, ``"AF_INET"`` or ``"AF_INET6"``; by the address if
        None. The file of an AF_UNIX socket is for this user only.
    :param backlog: how many clients the kernel keeps waiting; at least 1024
    :param authkey: what clients must know; None only for AF_UNIX
    :param handshake_timeout: seconds that a client has for the handshake; None for ever
    :param max_message_size: bytes; the connections refuse a longer message
    :raises ValueError: if there is no authkey where others than this user can connect
    """
    check_transport(transport)
    check_authkey(authkey, family_of(address, family), address)
    return AsyncListener(
        new_listener(listen(address, family, backlog), authkey),
        handshake_timeout=handshake_timeout,
        transport=transport,
        max_message_size=max_message_size,
    )


async def Client(  # noqa: N802 - multiprocessing's name
    address: Address,
    family: str | None = None,
    authkey: bytes | None = None,
    *,
    timeout: float | None = HANDSHAKE_TIMEOUT,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> AsyncConnection[Any]:
    """Connect to a listener, here or in another program.

    A cancel leaves nothing behind.

    :param authkey: what the listener must know, too; None only for AF_UNIX
    :param timeout: seconds for the connection and the handshake; None for ever
    :param max_message_size: bytes; the connection refuses a longer message
    :raises AuthenticationError: if the listener has another key, or sends garbage
    :raises TimeoutError: if it is not done in time; perhaps the listener has no key
    :raises BrokenResourceError: if the listener hung up
    :raises OSError: as `socket.connect`: there is no listener, or no such file
    :raises ValueError: if there is no authkey where anyone may listen
    """
    check_transport(transport)
    family = family_of(address, family)
    check_authkey(authkey, family, address)
    await anyio.lowlevel.checkpoint()
    at, hint = "connecting", ""
    with anyio.move_on_after(timeout):
        sock = await connect(address, family, transport)
        at = "the handshake"
        if authkey is not None:
            hint = " (which may have no authkey)"
            await _greet(sock, authkey, f"the listener at {address!r}", transport)
        return _connection(sock, transport, max_message_size)
    msg = f"{at} took longer than {timeout} s: the listener at {address!r}{hint}"
    raise TimeoutError(msg)


async def _greet(
    sock: socket.socket, authkey: bytes, what: str, transport: Transport | None
) -> None:
    """Do the client's part of the handshake, or close the socket."""
    greeting = Greeting(sock, authkey, "client", what=what, transport=transport)
    try:
        await greeting.run()
    except BaseException:
        greeting.close()
        raise


def _connection(
    sock: socket.socket, transport: Transport | None, max_message_size: int
) -> AsyncConnection[Any]:
    """Return the connection over a socket, which is as `multiprocessing` has it."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # the peer is gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(True)
    return AsyncConnection[Any](
        Connection(sock.detach()),
        transport=transport,
        max_message_size=max_message_size,
    )
