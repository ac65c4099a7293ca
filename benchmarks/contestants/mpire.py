"""mpire: a faster `multiprocessing.Pool`.

It can't be awaited either: single calls go through the callbacks of `apply_async`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.contestants import METHOD, WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import with_callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def _mpire() -> AsyncIterator[Calls]:
    import mpire

    pool = mpire.WorkerPool(WORKERS, start_method=METHOD)
    try:
        yield with_callbacks(pool.apply_async)
    finally:
        pool.terminate()


MPIRE = PoolContestant("mpire", "asyncio", _mpire, slowness=4, module="mpire")
