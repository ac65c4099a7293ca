"""`AsyncConnection`: one end of a `multiprocessing.Pipe`, awaited.

The other end may be a plain `Connection` in a process that has never heard of aioipc:
the bytes on the wire are the standard library's.
"""

import contextlib
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import BufferTooShort, get_context
from multiprocessing.context import BaseContext
from multiprocessing.util import register_after_fork
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import ObjectStream

from aioipc.bridge.handover import Bridged
from aioipc.bridge.pickling import dumps_off_loop
from aioipc.errors import BusyResourceError, ClosedResourceError, UndeliveredError
from aioipc.transport.choice import Transport, check_transport
from aioipc.transport.descriptor import Descriptor, open_socket
from aioipc.transport.stream import StreamReceiver, StreamSender
from aioipc.wire.frames import MAX_FRAME_SIZE
from aioipc.wire.pickles import Pickler, TooLarge

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from typing_extensions import Buffer

__all__ = ["AsyncConnection", "ConnectionStatistics", "Pipe"]

T = TypeVar("T")

FLUSH_TIMEOUT = 1.0
"""Seconds that `aclose` gives the rest of a message whose sender was cancelled."""


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """The state of an `AsyncConnection`.

    :ivar buffered_messages: have arrived and have not been received
    :ivar unsent_bytes: are still to go of a message that has been begun
    :ivar tasks_receiving: are in `recv` or one of its like
    :ivar tasks_sending: are in `send` or one of its like
    """

    buffered_messages: int
    unsent_bytes: int
    tasks_receiving: int
    tasks_sending: int


class AsyncConnection(Bridged, ObjectStream[T], Generic[T]):
    """A `multiprocessing.connection.Connection`, awaited; also an anyio object stream.

    Any number of tasks may receive and send at the same time: they are served in the
    order in which they came. It serves one event loop at a time, and others after it.

    A cancelled receive has taken nothing: the message goes to the next. A cancelled
    send has sent the whole message or nothing: what has been begun goes on by itself.

    Get one from `Pipe` or `wrap`; it owns the `Connection` until `detach`.

    :param connection: open, and not used by anyone else meanwhile
    :param transport: how to wait: ``"readiness"``, ``"threads"``, or None for the best
    :param max_message_size: bytes; a longer message is refused as its length arrives
    """

    def __init__(
        self,
        connection: "Connection[Any, Any]",
        *,
        transport: Transport | None = None,
        max_message_size: int = MAX_FRAME_SIZE,
    ) -> None:
        check_transport(transport)
        fd = connection.fileno()
        name = f"<connection fd={fd}>"
        self._connection: Connection[Any, Any] | None = connection
        self._fd = fd
        self._readable = connection.readable
        self._writable = connection.writable
        self._descriptor = Descriptor(fd)
        self._shared = False  # whether workers may have been given the connection
        self._pickler = Pickler()
        self._receiver = StreamReceiver(
            self._descriptor,
            transport=transport,
            max_size=max_message_size,
            what=name,
        )
        self._sender = StreamSender(self._descriptor, transport=transport, what=name)
        register_after_fork(self, _close_in_fork)

    async def send(self, item: T) -> None:
        """Pickle an object and send it.

        :raises BrokenResourceError: if the peer is gone
        :raises ClosedResourceError: if this end is closed, now or meanwhile
        :raises Exception: what pickling raised; nothing is sent then
        """
        if not self._writable:
            self._refuse("read-only")
        try:
            pickled = self._pickler.dumps(item)
        except TooLarge:
            pickled = await dumps_off_loop(item)
        if not isinstance(pickled, bytes):
            await self._sender.send(pickled)
        elif not self._sender.send_nowait(pickled):
            await self._sender.send((pickled,))

    async def recv(self) -> T:
        """Receive an object.

        :raises EndOfStream: if the peer has closed its end, and all is received
        :raises BrokenResourceError: if the peer is gone without reading all
        :raises FrameError: if what arrived is no message
        :raises DecodeError: if the message can't be unpickled; the next one can
        :raises ClosedResourceError: if this end is closed, now or meanwhile
        """
        if not self._readable:
            self._refuse("write-only")
        return await self._receiver.receive_object()

    async def receive(self) -> T:
        """Receive an object: `recv`, by anyio's name for it."""
        return await self.recv()

    async def send_bytes(
        self, buf: "Buffer", offset: int = 0, size: int | None = None
    ) -> None:
        """Send bytes as one message, without pickling.

        :param buf: not to be changed until this returns
        :param size: bytes; to the end of `buf` if None
        """
        if not self._writable:
            self._refuse("read-only")
        view = memoryview(buf).cast("B")
        if offset < 0:
            raise ValueError("offset is negative")
        if len(view) < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = len(view) - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > len(view):
            raise ValueError("buffer length < offset + size")
        await self._sender.send((view[offset : offset + size],))

    async def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message as it was sent, without unpickling.

        :raises OSError: if it is longer than `maxlength` bytes; as with the standard
            library's, no more can be received then
        """
        if not self._readable:
            self._refuse("write-only")
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = await self._receiver.receive_bytes()
        if maxlength is not None and len(message) > maxlength:
            self._readable = False
            if not self._writable:
                self.close()
            raise OSError("bad message length")
        return message

    async def recv_bytes_into(self, buf: "Buffer", offset: int = 0) -> int:
        """Receive one message into a writable buffer, return its length in bytes.

        :raises multiprocessing.BufferTooShort: if it does not fit; the message is the
            exception's argument
        """
        if not self._readable:
            self._refuse("write-only")
        with memoryview(buf).cast("B") as view:
            if offset < 0:
                raise ValueError("negative offset")
            if offset > len(view):
                raise ValueError("offset too large")
            message = await self._receiver.receive_bytes()
            if len(view) < offset + len(message):
                raise BufferTooShort(message)
            view[offset : offset + len(message)] = message
            return len(message)

    async def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether a `recv` would end at once: a whole message, or the end.

        :param timeout: seconds to wait for that, for ever if None
        """
        if not self._readable:
            self._refuse("write-only")
        if self._receiver.is_ready():
            return True
        if timeout is not None and timeout <= 0:
            await anyio.lowlevel.checkpoint()
            return self._receiver.is_ready()
        with anyio.move_on_after(timeout):
            await self._receiver.wait()
            return True
        return False

    def is_ready(self) -> bool:
        """Return whether a `recv` would end at once, as `poll()` does.

        :raises ClosedResourceError: if this end is closed
        """
        if not self._readable:
            self._refuse("write-only")
        return self._receiver.is_ready()

    async def send_eof(self) -> None:
        """Tell the peer that no more will come; receiving goes on.

        On a one-way connection this closes it.
        """
        if self._connection is None or not self._writable:
            return
        await self._sender.flush()
        sock = open_socket(self._fd)
        if sock is None:
            self.close()
            return
        with sock:
            sock.shutdown(socket.SHUT_WR)
        self._writable = False

    async def aclose(self) -> None:
        """Close this end, after a message that has been begun, within a second."""
        if self._sender.unsent:
            try:
                with anyio.move_on_after(FLUSH_TIMEOUT), contextlib.suppress(OSError):
                    await self._sender.flush()
            finally:
                self.close()
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close this end at once; tasks that wait get ClosedResourceError."""
        if self._connection is not None:
            self._let_go().close()

    def detach(self) -> "Connection[Any, Any]":
        """Give the `Connection` back as it was, and close this object without it.

        :raises UndeliveredError: if messages have arrived that no one has received, or
            one has been begun and is not yet out; nothing is changed then
        """
        self._require_open()
        receiver, unsent = self._receiver, self._sender.unsent
        messages = len(receiver.frames)
        if messages or unsent or receiver.decoder.in_frame:
            part = " and a part of one" if receiver.decoder.in_frame else ""
            raise UndeliveredError(
                f"{self!r} holds {messages} messages{part} that no one has received, "
                f"and {unsent} bytes that are not yet sent"
            )
        return self._let_go()

    @property
    def sync(self) -> "Connection[Any, Any]":
        """The `Connection` itself, in the blocking mode that it had.

        To be handed to a worker. Don't use it in turns with this object: messages that
        this object has already taken in would be missing.

        :raises BusyResourceError: if tasks are receiving or sending, or a message of a
            cancelled one is still going out
        """
        connection = self._require_open()
        if self._receiver.tasks or self._sender.tasks or self._sender.unsent:
            raise BusyResourceError(f"{self!r} is in use here: {self.statistics()}")
        self._shared = True
        self._receiver.release()
        self._sender.release()
        self._descriptor.restore()
        return connection

    def fileno(self) -> int:
        """Return the file descriptor.

        :raises ClosedResourceError: if this end is closed
        """
        return self._require_open().fileno()

    @property
    def closed(self) -> bool:
        """Whether this end is closed."""
        return self._connection is None

    @property
    def readable(self) -> bool:
        """Whether messages can be received."""
        return self._readable

    @property
    def writable(self) -> bool:
        """Whether messages can be sent."""
        return self._writable

    def statistics(self) -> ConnectionStatistics:
        """Return how much is buffered and who is waiting."""
        return ConnectionStatistics(
            buffered_messages=len(self._receiver.frames),
            unsent_bytes=self._sender.unsent,
            tasks_receiving=self._receiver.tasks,
            tasks_sending=self._sender.tasks,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._connection is None:
            return "<AsyncConnection closed>"
        ends = ("readable" * self._readable, "writable" * self._writable)
        state = f"fd={self._fd} {' '.join(filter(None, ends))}"
        messages = len(self._receiver.frames)
        return f"<AsyncConnection {state} buffered={messages}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "_connection", None) is not None:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self.close()

    def close_in_fork(self) -> None:
        """Give up an end that is not this worker's; in a forked worker.

        As long as it is open there, this end is never closed for the peer: not if the
        worker is the peer, waiting for our end of stream; not if it is its sibling.
        """
        connection, self._connection = self._connection, None
        if connection is not None and not self._shared:
            connection.close()

    def _require_open(self) -> "Connection[Any, Any]":
        if self._connection is None:
            raise ClosedResourceError("the connection is closed")
        return self._connection

    def _refuse(self, able_to: str) -> NoReturn:
        self._require_open()
        raise OSError(f"connection is {able_to}")

    def _let_go(self) -> "Connection[Any, Any]":
        """Part from the connection, which stays open."""
        connection = self._require_open()
        self._connection = None
        self._receiver.close()
        self._sender.close()
        self._descriptor.restore()
        return connection


def _close_in_fork(connection: AsyncConnection[Any]) -> None:
    connection.close_in_fork()


def Pipe(  # noqa: N802 - multiprocessing's name
    duplex: bool = True,
    *,
    context: BaseContext | None = None,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> "tuple[AsyncConnection[Any], Connection[Any, Any]]":
    """Return an end to await and a plain `Connection` for a worker.

    If not `duplex`, the end to await can only receive, as with `multiprocessing.Pipe`.

    Close the plain end here once the worker has it: only then is the worker's end the
    last one, and its death an end of stream.
    """
    first, second = (context or get_context()).Pipe(duplex)
    mine = AsyncConnection[Any](
        first, transport=transport, max_message_size=max_message_size
    )
    return mine, second
