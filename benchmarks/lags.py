"""How long the event loop stands still while a pool is at work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aioipc
from benchmarks.calls import Gathered, InTasks, warm_up
from benchmarks.contestants import METHOD, Calls, PoolContestant, Reference
from benchmarks.contestants.limits import gather_tasks, warm
from benchmarks.loops import run_on
from benchmarks.standstill import longest_standstill
from benchmarks.tasks import echo, total

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000


@dataclass(frozen=True)
class CallLag:
    """Milliseconds, during many calls at once."""

    how: Gathered | InTasks

    def __call__(self, contestant: Any) -> float:
        if isinstance(contestant, Reference):
            return asyncio.run(_lag_of_tasks(self.how.count))
        return run_on(contestant.loop, self._watch, contestant)

    async def _watch(self, contestant: PoolContestant) -> float:
        async with contestant.open() as calls:
            await warm_up(calls)
            async with longest_standstill() as watch:
                await self.how(calls, replace(contestant, slowness=1))
        return watch.worst * 1000


async def _lag_of_tasks(count: int) -> float:
    async with longest_standstill() as watch:
        await gather_tasks(count)
    return watch.worst * 1000


class StartLag:
    """Milliseconds, while a pool starts eight workers."""

    def __call__(self, contestant: PoolContestant) -> float:
        return run_on(contestant.loop, self._watch)

    @staticmethod
    async def _watch() -> float:
        async with (
            aioipc.WorkerPool(8, mp_context=METHOD) as pool,
            longest_standstill() as watch,
        ):
            await pool.warm_up()
        return watch.worst * 1000


@dataclass(frozen=True)
class TransferLag:
    """Milliseconds, while a value goes to a worker and back."""

    make: Callable[[], Any]

    def __call__(self, contestant: PoolContestant) -> float:
        return run_on(contestant.loop, self._watch, contestant)

    async def _watch(self, contestant: PoolContestant) -> float:
        value = self.make()
        async with contestant.open() as calls:
            await self._first_call(calls)
            async with longest_standstill() as watch:
                kept = await calls.run(echo, value)
            del kept  # only here: to free it takes the loop's time, but is not ours
        return watch.worst * 1000

    @staticmethod
    async def _first_call(calls: Calls) -> None:
        await calls.run(total, warm(MB))
