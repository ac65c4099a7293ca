"""`DaskPool` beside the client that it has inside, and what leaving one process costs.

Each has a cluster of two workers of its own, on this machine. The client is called as
Dask's manual advises: a future for each call, one graph for a map. Times are for each
call, unless the unit says otherwise.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import capacity
from benchmarks.calls import Gathered, OneByOne, Trial, warm_up
from benchmarks.contestants import WORKERS, Calls, PoolContestant
from benchmarks.contestants.aioipc import AIOIPC_POOL
from benchmarks.contestants.dask import DASK, SLOWNESS, cluster
from benchmarks.harness import Case, Claim
from benchmarks.loops import run_on
from benchmarks.tasks import nothing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from benchmarks.effort import Effort


@asynccontextmanager
async def _pool() -> AsyncIterator[Calls]:
    from aioipc.dask import DaskPool  # noqa: PLC0415 - Dask need not be installed

    async with cluster() as home, DaskPool(home) as pool:
        yield Calls(pool.run, pool.submit)


OURS = PoolContestant("DaskPool", "asyncio", _pool, SLOWNESS, module="distributed")
PROCESSES = AIOIPC_POOL["asyncio"]


@dataclass(frozen=True)
class Map:
    """Seconds for each item of a map of so many cheap ones."""

    count: int

    def __call__(self, contestant: Mapping) -> float:
        return run_on("asyncio", contestant.run, self.count)


@dataclass(frozen=True)
class Mapping:
    name: str
    run: Callable[[int], Any]
    module: str | None = "distributed"


async def _our_map(count: int) -> float:
    from aioipc.dask import DaskPool  # noqa: PLC0415

    async with cluster() as home, DaskPool(home) as pool:
        await warm_up(Calls(pool.run, pool.submit))
        started = time.perf_counter()
        async for _ in pool.map(nothing, range(count)):
            pass
        return (time.perf_counter() - started) / count


async def _their_map(count: int) -> float:
    from distributed import Client  # noqa: PLC0415

    async with cluster() as home, Client(home, asynchronous=True) as client:
        await client.gather(client.map(nothing, range(10 * WORKERS), pure=False))
        started = time.perf_counter()
        await client.gather(client.map(nothing, range(count), pure=False))
        return (time.perf_counter() - started) / count


@dataclass(frozen=True)
class Array:
    """Seconds for a call with an array of so many bytes, which are summed up there."""

    size: int

    async def __call__(self, calls: Calls, _: PoolContestant) -> float:
        array = np.ones(self.size // 8)
        await calls.run(np.sum, array)
        started = time.perf_counter()
        for _again in range(3):
            await calls.run(np.sum, array)
        return (time.perf_counter() - started) / 3


def cases(effort: Effort) -> Iterator[Case]:
    """Everything, in the order of the report."""
    count = effort.of(2_000) * SLOWNESS
    beside = (Claim(OURS, DASK, 1.1), Claim(OURS, PROCESSES))
    yield Case("cluster, 2,000 calls at once", Trial(Gathered(count)), beside)
    yield Case("cluster, one call at a time", Trial(OneByOne(effort.of(3_200))), beside)
    yield Case(
        "cluster, map of 2,000 cheap items",
        Map(effort.of(2_000)),
        (
            Claim(
                Mapping("DaskPool.map", _our_map),
                Mapping("Client.map", _their_map),
                1.1,
            ),
        ),
    )
    yield Case(
        "cluster, 100 MB array in",
        Trial(Array(effort.of(100_000_000))),
        (Claim(OURS, PROCESSES),),
        most_rounds=3,
    )
    yield from capacity.cases(effort)
