"""faster-fifo: a queue in shared memory, with many items for each lock.

It brings its own queues and it blocks. What is awaited takes whatever is there in one
call, and hands only the wait for more to a thread.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import LinkContestant
from benchmarks.exchanges import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOM = 4_000_000
"""Bytes that a queue holds, which is about what a pipe and its feeder thread may."""

FOR_EVER = 1e6


class _FasterFifo:
    """A queue each way. An end is a pair: the queue to put in, the one to get from."""

    def ends(self) -> tuple[Any, Any]:
        from faster_fifo import Queue

        there, back = Queue(ROOM), Queue(ROOM)
        return (there, back), (back, there)

    def plain(self, end: Any) -> Link:
        outgoing, incoming = end
        arrived: deque[Any] = deque()

        def recv() -> Any:
            if not arrived:
                arrived.extend(incoming.get_many(timeout=FOR_EVER))
            return arrived.popleft()

        return Link(lambda item: outgoing.put(item, timeout=FOR_EVER), recv)

    @asynccontextmanager
    async def awaited(self, end: Any, _: LinkContestant) -> AsyncIterator[Link]:
        outgoing, incoming = end
        arrived: deque[Any] = deque()

        async def recv() -> Any:
            if not arrived:
                try:
                    arrived.extend(incoming.get_many_nowait())
                except queue.Empty:
                    arrived.extend(
                        await asyncio.to_thread(incoming.get_many, timeout=FOR_EVER)
                    )
            return arrived.popleft()

        async def send(item: Any) -> None:
            try:
                outgoing.put_nowait(item)
            except queue.Full:
                await asyncio.to_thread(outgoing.put, item, timeout=FOR_EVER)

        yield Link(send, recv)

    def close(self, end: Any) -> None:
        """Do nothing: both processes hold both sides of a queue."""


FASTER_FIFO = LinkContestant(
    "faster-fifo", None, brings=_FasterFifo(), module="faster_fifo"
)
FASTER_FIFO_IN_THREAD = LinkContestant(
    "faster-fifo", "asyncio", brings=_FasterFifo(), module="faster_fifo"
)
