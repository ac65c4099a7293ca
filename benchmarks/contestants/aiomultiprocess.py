"""aiomultiprocess: workers that run coroutines, each on an event loop of its own.

A plain function is a coroutine that awaits nothing. Many calls are awaited by
`starmap`, since every single await looks for its result in each 5 ms.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import METHOD, WORKERS, Calls, PoolContestant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@contextlib.asynccontextmanager
async def _aiomultiprocess() -> AsyncIterator[Calls]:
    import aiomultiprocess

    aiomultiprocess.set_start_method(METHOD)
    async with aiomultiprocess.Pool(WORKERS) as pool:

        async def run(function: Callable[..., Any], *args: Any) -> Any:
            return await pool.apply(_call, (function, *args))

        async def run_many(
            function: Callable[..., Any], calls: list[tuple[Any, ...]]
        ) -> Any:
            return await pool.starmap(_call, [(function, *args) for args in calls])

        yield Calls(run, run, run_many)


AIOMULTIPROCESS = PoolContestant(
    "aiomultiprocess",
    "asyncio",
    _aiomultiprocess,
    slowness=16,
    module="aiomultiprocess",
)
