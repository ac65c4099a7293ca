"""Plain blocking `multiprocessing`: what everyone else is compared with.

Its Pool can't be awaited. It takes part in single calls through the callbacks of
`apply_async`; maps call it as it is.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import (
    METHOD,
    WORKERS,
    Calls,
    LinkContestant,
    PoolContestant,
)
from benchmarks.contestants.futures import with_callbacks
from benchmarks.exchanges import Link
from benchmarks.isolation import fork
from benchmarks.media import Queues

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BLOCKING = LinkContestant("blocking", loop=None)


class _ManagerQueues:
    """A manager's queue each way. The end that is ours keeps the manager."""

    def ends(self) -> tuple[Any, Any]:
        manager = fork.Manager()
        there, back = manager.Queue(), manager.Queue()
        return (there, back, manager), (back, there)

    def plain(self, end: Any) -> Link:
        outgoing, incoming, *_ = end
        return Link(outgoing.put, incoming.get)

    def close(self, end: Any) -> None:
        """Do nothing: both processes hold both sides of a queue."""


QUEUE = LinkContestant("multiprocessing.Queue", loop=None)
BOUNDED_QUEUE = LinkContestant(
    "multiprocessing.Queue, room for 100", None, brings=Queues(partial(fork.Queue, 100))
)
MANAGER = LinkContestant(
    "Manager().Queue()", loop=None, slowness=10, brings=_ManagerQueues()
)


@contextlib.asynccontextmanager
async def _pool() -> AsyncIterator[Calls]:
    with multiprocessing.get_context(METHOD).Pool(WORKERS) as pool:
        yield with_callbacks(pool.apply_async)


MULTIPROCESSING = PoolContestant("multiprocessing.Pool", "asyncio", _pool, slowness=2)
