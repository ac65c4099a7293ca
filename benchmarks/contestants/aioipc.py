"""aioipc itself, on every loop.

Imported whole before the first fork, so that a run measures one state of the source.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aioipc import WorkerPool, wrap
from benchmarks.contestants import (
    METHOD,
    WORKERS,
    Calls,
    LinkContestant,
    PoolContestant,
)
from benchmarks.exchanges import Link
from benchmarks.loops import LOOPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.connection import Connection


@asynccontextmanager
async def _pipe(connection: Connection) -> AsyncIterator[Link]:
    async with wrap(connection) as wrapped:
        yield Link(wrapped.send, wrapped.recv)


@asynccontextmanager
async def queues(outgoing: Any, incoming: Any) -> AsyncIterator[Link]:
    async with wrap(outgoing) as requests, wrap(incoming) as replies:
        yield Link(requests.put, replies.get)


@asynccontextmanager
async def _pool() -> AsyncIterator[Calls]:
    async with WorkerPool(WORKERS, mp_context=METHOD) as pool:
        yield Calls(pool.run, pool.submit)


AIOIPC = {loop: LinkContestant("aioipc", loop, _pipe, queues) for loop in LOOPS}
AIOIPC_POOL = {loop: PoolContestant("aioipc", loop, _pool) for loop in LOOPS}
