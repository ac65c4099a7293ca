"""pebble: a pool whose calls have timeouts; its futures are those of threads."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import METHOD, WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import awaiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@contextlib.asynccontextmanager
async def _pebble() -> AsyncIterator[Calls]:
    import pebble

    context = multiprocessing.get_context(METHOD)
    pool = pebble.ProcessPool(WORKERS, context=context)

    def begin(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.wrap_future(pool.schedule(function, args))

    try:
        yield Calls(awaiting(begin), begin)
    finally:
        pool.stop()
        pool.join()


PEBBLE = PoolContestant("pebble", "asyncio", _pebble, slowness=4, module="pebble")
