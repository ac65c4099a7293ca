"""aioipc itself, on every loop.

Imported whole before the first fork, so that a run measures one state of the source.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aioipc import wrap
from benchmarks.contestants import LinkContestant
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
async def _queues(outgoing: Any, incoming: Any) -> AsyncIterator[Link]:
    async with wrap(outgoing) as requests, wrap(incoming) as replies:
        yield Link(requests.put, replies.get)


AIOIPC = {loop: LinkContestant("aioipc", loop, _pipe, _queues) for loop in LOOPS}
