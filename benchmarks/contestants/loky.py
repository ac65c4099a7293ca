"""loky: a `ProcessPoolExecutor` that survives crashes, by `run_in_executor`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.contestants import WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import in_executor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def _loky() -> AsyncIterator[Calls]:
    import loky

    executor = loky.ProcessPoolExecutor(WORKERS)
    try:
        yield in_executor(executor)
    finally:
        executor.shutdown(kill_workers=True)


LOKY = PoolContestant("loky", "asyncio", _loky, slowness=4, module="loky")
