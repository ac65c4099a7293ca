"""pyzmq: a PUSH and a PULL socket each way over ``ipc``, pickles as the messages.

Queues have no limit here, for a consumer that is passed over when its queue is full
would miss the sign that there is no more. Large messages are not copied.
"""

from __future__ import annotations

import itertools
import os
import pickle
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from benchmarks.contestants import LinkContestant
from benchmarks.exchanges import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LARGE = 65_536
CONNECTED = 0.2
"""Seconds in which every peer has connected."""


class _End(NamedTuple):
    outgoing: str
    incoming: str
    is_ours: bool


class _Sockets:
    """Addresses, until the process that uses an end makes sockets of them."""

    _numbers = itertools.count()

    def ends(self) -> tuple[_End, _End]:
        there, back = (
            f"ipc://@aioipc-{os.getpid()}-{next(self._numbers)}" for _ in range(2)
        )
        return _End(there, back, is_ours=True), _End(back, there, is_ours=False)

    def plain(self, end: _End) -> Link:
        import zmq

        push, pull = _sockets(zmq.Context(), end)

        def send(item: Any) -> None:
            message = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            push.send(message, copy=len(message) < LARGE)

        def recv() -> Any:
            return pickle.loads(pull.recv(copy=False).buffer)

        return Link(send, recv)

    @asynccontextmanager
    async def awaited(self, end: _End, _: LinkContestant) -> AsyncIterator[Link]:
        import zmq.asyncio

        context = zmq.asyncio.Context()
        push, pull = _sockets(context, end)
        await anyio.sleep(CONNECTED)

        async def send(item: Any) -> None:
            message = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            await push.send(message, copy=len(message) < LARGE)

        async def recv() -> Any:
            return pickle.loads((await pull.recv(copy=False)).buffer)

        yield Link(send, recv)
        await anyio.sleep(CONNECTED)  # the last message is on its way
        context.destroy(linger=0)

    def close(self, end: _End) -> None:
        """Do nothing: an end is an address."""


def _sockets(context: Any, end: _End) -> tuple[Any, Any]:
    import zmq

    push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    for socket, address in ((push, end.outgoing), (pull, end.incoming)):
        socket.sndhwm = socket.rcvhwm = 0
        socket.reconnect_ivl = 1
        (socket.bind if end.is_ours else socket.connect)(address)
    return push, pull


PYZMQ = {
    loop: LinkContestant("pyzmq", loop, brings=_Sockets(), slowness=2, module="zmq")
    for loop in ("asyncio", "uvloop")
}
