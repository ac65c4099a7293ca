"""aioprocessing: stdlib objects whose ``coro_`` methods run in an executor."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import LinkContestant
from benchmarks.exchanges import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.connection import Connection


@asynccontextmanager
async def _pipe(connection: Connection) -> AsyncIterator[Link]:
    from aioprocessing.connection import AioConnection

    wrapped = AioConnection(connection)
    yield Link(wrapped.coro_send, wrapped.coro_recv)


@asynccontextmanager
async def _queues(outgoing: Any, incoming: Any) -> AsyncIterator[Link]:
    yield Link(_queue(outgoing).coro_put, _queue(incoming).coro_get)


def _queue(plain: Any) -> Any:
    """An AioQueue around a queue that exists; its own would start empty."""
    from aioprocessing import AioQueue

    wrapped = AioQueue()
    wrapped._obj = plain
    return wrapped


AIOPROCESSING = {
    loop: LinkContestant(
        "aioprocessing", loop, _pipe, _queues, slowness=8, module="aioprocessing"
    )
    for loop in ("asyncio", "uvloop")
}
