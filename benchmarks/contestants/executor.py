"""`concurrent.futures.ProcessPoolExecutor`, by `run_in_executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
from typing import TYPE_CHECKING

from benchmarks.contestants import METHOD, WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import in_executor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def _executor() -> AsyncIterator[Calls]:
    context = multiprocessing.get_context(METHOD)
    with concurrent.futures.ProcessPoolExecutor(WORKERS, context) as executor:
        yield in_executor(executor)


EXECUTOR = PoolContestant("ProcessPoolExecutor", "asyncio", _executor)
