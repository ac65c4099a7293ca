"""Dask distributed: a scheduler and two workers of one thread, awaited."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import WORKERS, Calls, PoolContestant
from benchmarks.contestants.futures import awaiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@contextlib.asynccontextmanager
async def _dask() -> AsyncIterator[Calls]:
    from distributed import Client, LocalCluster

    async with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            dashboard_address=None,
            asynchronous=True,
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):

        def begin(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
            return client.submit(function, *args, pure=False).result()

        yield Calls(awaiting(begin), begin)


DASK = PoolContestant("Dask", "asyncio", _dask, slowness=16, module="distributed")
