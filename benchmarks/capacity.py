"""What one Dask scheduler can do, for a plan: the CPU and memory that it takes.

CPU is what the kernel has counted for the process, so it does not depend on how many
CPUs the workers share here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import psutil

from benchmarks.crowd import Crowd, cluster
from benchmarks.harness import Case, Claim
from benchmarks.loops import run_on
from benchmarks.tasks import nothing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aioipc.dask import DaskPool
    from benchmarks.effort import Effort

FEW, MANY = Crowd(10), Crowd(200)


@contextlib.asynccontextmanager
async def _pool(crowd: Crowd) -> AsyncIterator[tuple[DaskPool, psutil.Process]]:
    """A pool that has made some calls, and its scheduler's process."""
    from aioipc.dask import DaskPool  # noqa: PLC0415 - Dask need not be installed

    async with cluster(crowd) as (address, scheduler), DaskPool(address) as pool:
        await asyncio.gather(*(pool.submit(nothing, n) for n in range(200)))
        yield pool, scheduler


@dataclass(frozen=True)
class Calls:
    """CPU seconds for each call, of the scheduler and of who submits and awaits it."""

    count: int

    def __call__(self, crowd: Crowd) -> tuple[float, float]:
        return run_on("asyncio", self._run, crowd)

    async def _run(self, crowd: Crowd) -> tuple[float, float]:
        async with _pool(crowd) as (pool, scheduler):
            both = scheduler, psutil.Process(os.getpid())
            before = [cpu_of(it) for it in both]
            for _ in range(10):
                calls = [pool.submit(nothing, n) for n in range(self.count // 10)]
                await asyncio.gather(*calls)
            theirs, ours = (
                (cpu_of(it) - then) / self.count
                for it, then in zip(both, before, strict=True)
            )
            return theirs, ours


@dataclass(frozen=True)
class Idle:
    """CPU seconds of the scheduler for each second and worker that has no work."""

    seconds: float

    def __call__(self, crowd: Crowd) -> float:
        return run_on("asyncio", self._run, crowd)

    async def _run(self, crowd: Crowd) -> float:
        async with cluster(crowd) as (_, scheduler):
            await asyncio.sleep(5)  # what the start has left to do
            before = cpu_of(scheduler)
            await asyncio.sleep(self.seconds)
            return (cpu_of(scheduler) - before) / self.seconds / crowd.count


@dataclass(frozen=True)
class Waiting:
    """Megabytes of the scheduler for so many calls that wait for a worker."""

    count: int

    def __call__(self, crowd: Crowd) -> float:
        return run_on("asyncio", self._run, crowd)

    async def _run(self, crowd: Crowd) -> float:
        async with _pool(crowd) as (pool, scheduler):
            before = scheduler.memory_info().rss
            calls = [pool.submit(_last, 60.0) for _ in range(self.count)]
            client = pool._engine._connection.client
            with anyio.fail_after(60):
                while await client.run_on_scheduler(_tasks, "_last-") < self.count:
                    pass
            size = scheduler.memory_info().rss - before
            for call in calls:
                call.cancel()
            return size / 1e6


def _tasks(kind: str, dask_scheduler: Any) -> int:
    return sum(key.startswith(kind) for key in dask_scheduler.tasks)


def _last(seconds: float) -> None:
    time.sleep(seconds)


def cpu_of(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def cases(effort: Effort) -> Iterator[Case]:
    """Everything, in the order of the report."""
    yield Case(
        "cluster, a call",
        Calls(effort.of(3_000)),
        (Claim(MANY, FEW), Claim(FEW, None)),
        parts=("CPU of the scheduler", "CPU of the coordinator"),
        most_rounds=3,
        in_sketch=False,
    )
    yield Case(
        "cluster, an idle worker, CPU of the scheduler",
        Idle(effort.of(20)),
        (Claim(MANY, None),),
        most_rounds=3,
        in_sketch=False,
    )
    yield Case(
        "cluster, 10,000 waiting calls, memory of the scheduler",
        Waiting(effort.of(10_000)),
        (Claim(FEW, None),),
        unit="MB",
        most_rounds=2,
        in_sketch=False,
    )
