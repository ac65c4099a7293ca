"""What carries the messages: a pipe, or a queue each way."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.exchanges import Link
from benchmarks.isolation import fork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.connection import Connection

    from benchmarks.contestants import LinkContestant


class Medium(Protocol):
    """How to make the two ends of a link, and how to use one."""

    def ends(self) -> tuple[Any, Any]:
        """Two new ends, both in this process."""
        ...

    def plain(self, end: Any) -> Link:
        """The blocking calls of an end."""
        ...

    def awaited(
        self, end: Any, contestant: LinkContestant
    ) -> AbstractAsyncContextManager[Link]:
        """The same end, made awaitable by a contestant."""
        ...

    def close(self, end: Any) -> None:
        """Drop this process's copy of an end that is the other process's."""
        ...


class _Pipe:
    """A duplex `multiprocessing.Pipe`."""

    def ends(self) -> tuple[Connection, Connection]:
        return fork.Pipe()

    def plain(self, end: Connection) -> Link:
        return Link(end.send, end.recv)

    def awaited(
        self, end: Connection, contestant: LinkContestant
    ) -> AbstractAsyncContextManager[Link]:
        return contestant.pipe(end)

    def close(self, end: Connection) -> None:
        end.close()


class _OneWayPipes:
    """A one-way pipe each way. An end is a pair: the one to send on, the other."""

    def ends(self) -> tuple[Any, Any]:
        from_there, to_here = fork.Pipe(duplex=False)
        from_here, to_there = fork.Pipe(duplex=False)
        return (to_there, from_there), (to_here, from_here)

    def plain(self, end: Any) -> Link:
        outgoing, incoming = end
        return Link(outgoing.send, incoming.recv)

    @asynccontextmanager
    async def awaited(
        self, end: Any, contestant: LinkContestant
    ) -> AsyncIterator[Link]:
        outgoing, incoming = end
        async with contestant.pipe(outgoing) as to, contestant.pipe(incoming) as back:
            yield Link(to.send, back.recv)

    def close(self, end: Any) -> None:
        for connection in end:
            connection.close()


class _SlowPipe(_Pipe):
    """A pipe on which the plain end takes a second to write a message."""

    def plain(self, end: Connection) -> Link:
        return Link(lambda message: _dribble(end, message), end.recv)


def _dribble(connection: Connection, message: object) -> None:
    pickled = bytes(ForkingPickler.dumps(message))
    frame = memoryview(len(pickled).to_bytes(4, "big") + pickled)
    step = len(frame) // 100
    for start in range(0, len(frame), step):
        piece = frame[start : start + step]
        while piece:
            piece = piece[os.write(connection.fileno(), piece) :]
        time.sleep(0.01)


@dataclass(frozen=True)
class Queues:
    """A queue each way. An end is a pair: the queue to put in, the one to get from."""

    make: Callable[[], Any]

    def ends(self) -> tuple[Any, Any]:
        there, back = self.make(), self.make()
        return (there, back), (back, there)

    def plain(self, end: Any) -> Link:
        outgoing, incoming = end
        return Link(outgoing.put, incoming.get)

    def awaited(
        self, end: Any, contestant: LinkContestant
    ) -> AbstractAsyncContextManager[Link]:
        return contestant.queues(*end)

    def close(self, end: Any) -> None:
        """Do nothing: both processes hold both sides of a queue."""


PIPE = _Pipe()
ONE_WAY_PIPES = _OneWayPipes()
SLOW_PIPE = _SlowPipe()
QUEUE = Queues(fork.Queue)
SIMPLE_QUEUE = Queues(fork.SimpleQueue)
