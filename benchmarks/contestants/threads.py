"""The usual advice: a thread for each blocking call."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.contestants import Calls, LinkContestant, PoolContestant
from benchmarks.exchanges import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from multiprocessing.connection import Connection


@dataclass(frozen=True)
class _Offloaded:
    """Links whose calls each go through ``to_thread``."""

    to_thread: Callable[..., Any]

    @asynccontextmanager
    async def pipe(self, connection: Connection) -> AsyncIterator[Link]:
        yield self._link(connection.send, connection.recv)

    @asynccontextmanager
    async def queues(self, outgoing: Any, incoming: Any) -> AsyncIterator[Link]:
        yield self._link(outgoing.put, incoming.get)

    def _link(self, *calls: Callable[..., Any]) -> Link:
        return Link(*(partial(self.to_thread, call) for call in calls))


def _contestant(name: str, loop: str, to_thread: Callable[..., Any]) -> LinkContestant:
    offloaded = _Offloaded(to_thread)
    return LinkContestant(name, loop, offloaded.pipe, offloaded.queues, slowness=8)


@asynccontextmanager
async def _no_pool() -> AsyncIterator[Calls]:
    """Threads of this process instead of workers: they share one GIL."""
    yield Calls(asyncio.to_thread, asyncio.to_thread)


ASYNCIO_TO_THREAD = {
    loop: _contestant("asyncio.to_thread", loop, asyncio.to_thread)
    for loop in ("asyncio", "uvloop")
}
ANYIO_TO_THREAD = {
    loop: _contestant("anyio.to_thread", loop, anyio.to_thread.run_sync)
    for loop in ("asyncio", "uvloop", "trio")
}
THREADS = PoolContestant("asyncio.to_thread", "asyncio", _no_pool)
