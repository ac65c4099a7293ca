"""One handshake over a new connection, awaited."""

import socket
from typing import TYPE_CHECKING

from aioipc.errors import (
    AuthenticationError,
    BrokenResourceError,
    ClosedResourceError,
)
from aioipc.transport.choice import Transport, open_watch
from aioipc.transport.loops import current_loop
from aioipc.wire.handshake import FramedHandshake, Side

if TYPE_CHECKING:
    from aioipc.transport.watches import Watch

__all__ = ["Greeting"]


class Greeting:
    """A handshake with the peer of a connected socket.

    It reads no byte more than the handshake has.

    :param sock: not blocking; stays open until `close`
    :param what: the peer, as errors call it
    """

    def __init__(
        self,
        sock: socket.socket,
        authkey: bytes,
        side: Side,
        *,
        what: str,
        transport: Transport | None,
    ) -> None:
        self.sock = sock
        self._what = what
        self._framed = FramedHandshake(authkey, side)
        self._transport: Transport | None = transport
        self._watch: Watch | None = None
        self._error: BrokenResourceError | None = None
        self._closed = False

    async def run(self) -> None:
        """Have the handshake done; a cancel leaves it undone, and nothing registered.

        :raises AuthenticationError: if the peer does not know the key, or sends garbage
        :raises BrokenResourceError: if it is gone
        :raises ClosedResourceError: if `close` was called
        """
        if self._closed:
            raise ClosedResourceError("closed before the handshake")
        self._send(self._framed.start())
        self._watch = open_watch(
            current_loop(), self.sock.fileno(), "read", self._step, self._transport
        )
        try:
            if not self._is_over():
                await self._watch.wait()
        finally:
            self._watch.close()
        if self._error is not None:
            raise self._error
        refusal = self._framed.handshake.refusal
        if refusal is not None:
            raise AuthenticationError(f"{self._what}: {refusal}")

    def close(self) -> None:
        """Stop, and close the socket."""
        self._closed = True
        if self._watch is not None:
            self._watch.close()
        self.sock.close()

    def _is_over(self) -> bool:
        return not self._framed.missing or self._error is not None

    def _step(self) -> bool:
        while not self._is_over():
            try:
                data = self.sock.recv(self._framed.missing)
            except BlockingIOError:
                return False
            except OSError as error:
                self._fail(error)
            else:
                if data:
                    self._send(self._framed.feed(data))
                else:
                    self._fail(None)
        return True

    def _send(self, data: bytes) -> None:
        # A new connection has room for a whole handshake: if not, something is odd.
        try:
            sent = self.sock.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(error)
            return
        if sent < len(data):
            self._framed.refuse("it does not read")

    def _fail(self, cause: OSError | None) -> None:
        if self._framed.handshake.refusal is not None:
            return  # gone after it was refused: that is what matters
        msg = f"{self._what}: it hung up in the middle of the handshake"
        self._error = BrokenResourceError(msg)
        self._error.__cause__ = cause
