"""joblib's executor, which writes large arrays to files that the workers map."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING

from benchmarks.contestants import WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import in_executor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def _joblib() -> AsyncIterator[Calls]:
    from joblib.executor import get_memmapping_executor

    executor = get_memmapping_executor(WORKERS, temp_folder=tempfile.mkdtemp())
    try:
        yield in_executor(executor)
    finally:
        executor.shutdown(kill_workers=True)


JOBLIB = PoolContestant(
    "joblib's memmapping", "asyncio", _joblib, slowness=4, module="joblib"
)
