"""`anyio.to_process`: a worker process for each call that runs at the same time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio.to_process

from benchmarks.contestants import WORKERS, Calls, PoolContestant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def _anyio() -> AsyncIterator[Calls]:
    anyio.to_process.current_default_process_limiter().total_tokens = WORKERS
    yield Calls(anyio.to_process.run_sync, anyio.to_process.run_sync)


ANYIO_TO_PROCESS = PoolContestant("anyio.to_process", "asyncio", _anyio, slowness=4)
