"""Large arguments and results beside others, and beside bare copies: cases and targets.

Two workers each, numpy's float64. Times are for each call, when it has been made twice.
"""

from __future__ import annotations

import asyncio
import mmap
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import sniffio

from benchmarks.contestants.pools import (
    AIOIPC_POOL,
    DASK,
    EXECUTOR,
    JOBLIB,
    PEERS,
    TRIO_PARALLEL,
    PoolContestant,
)
from benchmarks.harness import Case, Claim
from benchmarks.loops import run_on
from benchmarks.pool import Reference, longest_standstill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contestants.pools import Calls

MB = 1_000_000
LARGE = 100 * MB
REPEATS = 7


def ends(values: Any) -> float:
    return float(values[0] + values[-1])


def add_one(values: Any) -> Any:
    return values + 1


def echo(values: Any) -> Any:
    return values


def zeros(size: int) -> Any:
    return np.zeros(size // 8)


def warm(size: int) -> Any:
    """An array whose pages are all there."""
    return np.ones(size // 8)


@dataclass(frozen=True)
class ArrayTrial:
    """The median time of a workload, or the reference's own."""

    workload: Callable[[Calls], Any]

    def __call__(self, contestant: Any) -> float:
        if isinstance(contestant, Reference):
            return contestant.measure()
        return run_on(contestant.loop, self._run, contestant)

    async def _run(self, contestant: PoolContestant) -> float:
        async with contestant.open() as calls:
            repeats = max(1, REPEATS // contestant.slowness)
            for _ in range(2):
                await self.workload(calls)
            return statistics.median(
                [await _timed(self.workload, calls) for _ in range(repeats)]
            )


async def _timed(workload: Callable[[Calls], Any], calls: Calls) -> float:
    started = time.perf_counter()
    await workload(calls)
    return time.perf_counter() - started


_values = warm(LARGE)
_many = [warm(MB) for _ in range(1_000)]


async def _in(calls: Calls) -> None:
    assert await calls.run(ends, _values) == 2


async def _out(calls: Calls) -> None:
    assert len(await calls.run(zeros, LARGE)) == LARGE // 8


async def _in_and_out(calls: Calls) -> None:
    assert (await calls.run(add_one, _values))[-1] == 2


async def _thousand(calls: Calls) -> None:
    if sniffio.current_async_library() == "asyncio":
        await asyncio.gather(*(calls.begin(ends, values) for values in _many))
    elif calls.begin is calls.run:  # a coroutine, that does nothing by itself
        async with anyio.create_task_group() as group:
            for values in _many:
                group.start_soon(calls.run, ends, values)
    else:
        for call in [calls.begin(ends, values) for values in _many]:
            await call


def _median_time(function: Callable[[], Any]) -> float:
    def timed() -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    function()
    return statistics.median(timed() for _ in range(REPEATS))


def _memcpy() -> float:
    target = warm(LARGE)
    return _median_time(lambda: np.copyto(target, _values))


def _through_shared_memory() -> float:
    there, back = (np.frombuffer(mmap.mmap(-1, LARGE)) for _ in range(2))

    def go() -> None:
        np.copyto(there, _values)
        np.copyto(back, there + 1)

    return _median_time(go)


def _thousand_copies() -> float:
    targets = [warm(MB) for _ in range(20)]

    def go() -> None:
        for n, values in enumerate(_many):
            np.copyto(targets[n % 20], values)

    return _median_time(go)


@dataclass(frozen=True)
class TransferLag:
    """The longest that the loop stood still while a value went there and back."""

    make: Callable[[], Any]

    def __call__(self, contestant: PoolContestant) -> float:
        return run_on(contestant.loop, self._watch, contestant)

    async def _watch(self, contestant: PoolContestant) -> float:
        value = self.make()
        async with contestant.open() as calls:
            await calls.run(ends, _many[0])
            async with longest_standstill() as watch:
                await calls.run(echo, value)
            return watch.worst * 1000


def _dicts() -> list[dict[str, object]]:
    """About 200 MB of pickle."""
    return [{"number": n, "name": f"item {n}", "value": n / 7} for n in range(4 * MB)]


MEMCPY = Reference("memcpy", _memcpy)
BARE = Reference("bare shared memory", _through_shared_memory)
COPIES = Reference("1,000 copies", _thousand_copies)


def cases() -> Iterator[Case]:
    """Everything, in the order of the report."""
    ours = AIOIPC_POOL["asyncio"]
    slow = [replace(peer, slowness=4) for peer in (EXECUTOR, *PEERS)]
    slow += [JOBLIB, DASK, TRIO_PARALLEL]
    executor, *peers = slow
    yield Case(
        "array, 100 MB in",
        ArrayTrial(_in),
        (
            *(Claim(pool, MEMCPY, 1.5) for pool in AIOIPC_POOL.values()),
            Claim(ours, executor),
            *(Claim(ours, peer) for peer in peers),
        ),
        most_rounds=4,
    )
    yield Case(
        "array, 100 MB in and 100 MB out",
        ArrayTrial(_in_and_out),
        (
            *(Claim(pool, BARE, 2.0) for pool in AIOIPC_POOL.values()),
            Claim(ours, executor, 1 / 15),
            *(Claim(ours, peer, 1 / 5) for peer in peers),
        ),
        most_rounds=4,
    )
    yield Case(
        "arrays, 1,000 of 1 MB in",
        ArrayTrial(_thousand),
        (
            *(Claim(pool, COPIES, 2.0) for pool in AIOIPC_POOL.values()),
            Claim(ours, executor),
            *(Claim(ours, peer, 1 / 7) for peer in peers),
        ),
        most_rounds=4,
    )
    yield Case(
        "loop lag, 200 MB array there and back",
        TransferLag(lambda: warm(200 * MB)),
        tuple(Claim(pool, None, 20.0) for pool in AIOIPC_POOL.values()),
        unit="ms",
        most_rounds=4,
    )
    yield Case(
        "loop lag, 200 MB list of dicts there and back",
        TransferLag(_dicts),
        tuple(Claim(pool, None) for pool in AIOIPC_POOL.values()),
        unit="ms",
        most_rounds=2,
    )
