"""What is timed with a pool: its calls, one by one and many at once."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.contestants import WORKERS, Calls, PoolContestant, Reference
from benchmarks.figures import percentile
from benchmarks.loops import run_on
from benchmarks.tasks import compute, nothing, spin

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Trial:
    """A workload for pools, or the reference's own.

    :param pinned: keep everyone on one CPU, so that waking a worker costs the same
    """

    workload: Callable[[Calls, PoolContestant], Any]
    pinned: bool = False

    def __call__(self, contestant: Any) -> Any:
        if self.pinned:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        if isinstance(contestant, Reference):
            return contestant.measure()
        return run_on(contestant.loop, self._run, contestant)

    async def _run(self, contestant: PoolContestant) -> Any:
        async with contestant.open() as calls:
            await warm_up(calls)
            return await self.workload(calls, contestant)


async def warm_up(calls: Calls) -> None:
    """Start both workers, and let them import what tasks need."""
    await in_group(calls.run, [(spin, 0.02)] * (2 * WORKERS))
    for n in range(20):
        await calls.run(nothing, n)


async def in_group(run: Any, calls: list[tuple[Any, ...]]) -> None:
    """A task for each call."""
    async with anyio.create_task_group() as group:
        for function, *args in calls:
            group.start_soon(run, function, *args)


@dataclass(frozen=True)
class Gathered:
    """Seconds for each of so many calls at once, in the way that each likes best."""

    count: int

    async def __call__(self, calls: Calls, contestant: PoolContestant) -> float:
        count = max(1, self.count // contestant.slowness)
        started = time.perf_counter()
        if calls.run_many:
            await calls.run_many(nothing, [(n,) for n in range(count)])
        else:
            await _begun(calls, contestant, count)
        return (time.perf_counter() - started) / count


async def _begun(calls: Calls, contestant: PoolContestant, count: int) -> None:
    if contestant.loop != "trio":
        await asyncio.gather(*(calls.begin(nothing, n) for n in range(count)))
    elif calls.begin is calls.run:  # a coroutine, that does nothing by itself
        await in_group(calls.run, [(nothing, n) for n in range(count)])
    else:
        for call in [calls.begin(nothing, n) for n in range(count)]:
            await call


@dataclass(frozen=True)
class InTasks:
    """Seconds for each of so many calls, each of which has a task of the loop."""

    count: int

    async def __call__(self, calls: Calls, contestant: PoolContestant) -> float:
        count = max(1, self.count // contestant.slowness)
        started = time.perf_counter()
        if contestant.loop == "trio":
            await in_group(calls.run, [(nothing, n) for n in range(count)])
        else:
            await asyncio.gather(*(calls.run(nothing, n) for n in range(count)))
        return (time.perf_counter() - started) / count


@dataclass(frozen=True)
class OneByOne:
    """Seconds for each call, when each waits for the one before."""

    count: int

    async def __call__(self, calls: Calls, contestant: PoolContestant) -> float:
        count, run = max(1, self.count // contestant.slowness), calls.run
        for n in range(count // 10):
            await run(nothing, n)
        started = time.perf_counter()
        for n in range(count):
            await run(nothing, n)
        return (time.perf_counter() - started) / count


@dataclass(frozen=True)
class Latency:
    """The seconds within which each of these shares of such calls has its result."""

    count: int
    shares: tuple[float, ...]

    async def __call__(
        self, calls: Calls, contestant: PoolContestant
    ) -> tuple[float, ...]:
        count, run = max(1, self.count // contestant.slowness), calls.run
        for n in range(count // 10):
            await run(nothing, n)
        times = []
        for n in range(count):
            started = time.perf_counter()
            await run(nothing, n)
            times.append(time.perf_counter() - started)
        return tuple(percentile(times, share) for share in self.shares)


@dataclass(frozen=True)
class Spins:
    """Seconds until tasks of these lengths are done."""

    durations: list[float]

    async def __call__(self, calls: Calls, _: PoolContestant) -> float:
        started = time.perf_counter()
        await in_group(calls.run, [(spin, seconds) for seconds in self.durations])
        return time.perf_counter() - started


@dataclass(frozen=True)
class OfTheIdeal(Spins):
    """The same, as a multiple of what two workers need that are never idle."""

    async def __call__(self, calls: Calls, contestant: PoolContestant) -> float:
        seconds = await super().__call__(calls, contestant)
        return seconds / (sum(self.durations) / WORKERS)


@dataclass(frozen=True)
class Computations:
    """Seconds until so many computations in pure Python are done."""

    tasks: int
    steps: int

    async def __call__(self, calls: Calls, _: PoolContestant) -> float:
        started = time.perf_counter()
        await in_group(calls.run, [(compute, self.steps)] * self.tasks)
        return time.perf_counter() - started
