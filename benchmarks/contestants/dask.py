"""Dask distributed: a scheduler and two workers of one thread, awaited."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import awaiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


SLOWNESS = 16


def cluster() -> Any:
    """Two workers of one thread, to be entered."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        # None is the fixed port of a dashboard, even where there is none.
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        asynchronous=True,
    )


@contextlib.asynccontextmanager
async def _dask() -> AsyncIterator[Calls]:
    from distributed import Client

    async with cluster() as home, Client(home, asynchronous=True) as client:

        def begin(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
            return client.submit(function, *args, pure=False).result()

        yield Calls(awaiting(begin), begin)


DASK = PoolContestant("Dask", "asyncio", _dask, slowness=SLOWNESS, module="distributed")
