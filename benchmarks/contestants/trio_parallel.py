"""trio-parallel: trio's worker processes, on trio only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import WORKERS, Calls, PoolContestant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def _trio_parallel() -> AsyncIterator[Calls]:
    import trio_parallel

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        return await context.run_sync(function, *args)

    async with trio_parallel.open_worker_context() as context:
        trio_parallel.current_default_worker_limiter().total_tokens = WORKERS
        yield Calls(run, run)


TRIO_PARALLEL = PoolContestant(
    "trio-parallel", "trio", _trio_parallel, slowness=4, module="trio_parallel"
)
