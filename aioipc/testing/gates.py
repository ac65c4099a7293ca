"""A gate: tasks tell that they have begun, and wait there, wherever they run.

It is a socket of this machine's, so it serves threads, processes and other programs
alike, and a task that is killed is seen to be gone. Nothing is waited for by sleeping.
"""

import os
import socket
from typing import TYPE_CHECKING, Any, Self

import anyio

if TYPE_CHECKING:
    from anyio.abc import SocketStream

__all__ = ["Address", "Gate", "Visit", "wait_at"]

Address = tuple[str, int]

_DIE = "die"


def wait_at(address: Address, name: str = "") -> str:
    """Tell the gate that a task has begun; return what it says; for a task."""
    with socket.create_connection(address) as connection:
        connection.sendall(f"{name}\n".encode())
        answer = connection.recv(64).decode()
    if answer == _DIE:
        os._exit(3)
    return answer


class Visit:
    """A task at the gate.

    :ivar name: that it gave
    """

    def __init__(self, name: str, stream: "SocketStream") -> None:
        self.name = name
        self._stream = stream

    async def let_go(self, answer: str = "go") -> None:
        """Have the task return `answer`."""
        await self._stream.send(answer.encode())

    async def let_die(self) -> None:
        """Have the task end its process."""
        await self._stream.send(_DIE.encode())

    async def end(self) -> None:
        """Wait until the task has left, by itself or because it was stopped."""
        try:
            while True:
                await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            await self._stream.aclose()


class Gate:
    """Where tasks that call `wait_at` wait, until they are let go.

    Those that wait when the gate is left are let go.

    :ivar address: for them
    """

    async def __aenter__(self) -> Self:
        both: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
        (self._listener,) = both.listeners
        self._streams: list[SocketStream] = []
        where = anyio.abc.SocketAttribute.local_address
        self.address: Address = self._listener.extra(where)  # noqa: S610 - no Django
        return self

    async def visit(self) -> Visit:
        """Wait for the next task that begins."""
        stream = await self._listener.accept()
        self._streams.append(stream)
        name = b""
        while not name.endswith(b"\n"):
            name += await stream.receive()
        return Visit(name.decode().strip(), stream)

    async def __aexit__(self, *exc_info: object) -> None:
        with anyio.CancelScope(shield=True):  # to close takes no time
            await self._listener.aclose()
            for stream in self._streams:
                await stream.aclose()
