"""Large arguments and results beside others, and beside bare copies: cases and targets.

Two workers each, numpy's float64. Times are for each call, when it has been made twice.
What arrives is read to its end, in the worker and here, and the bare copies are, too:
else whoever passes on memory that no one has touched yet would seem to have passed on
its contents.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sniffio

from benchmarks.calls import in_group
from benchmarks.contestants import Reference
from benchmarks.contestants.aioipc import AIOIPC_POOL
from benchmarks.contestants.limits import copies, memcpy, shared_memory, warm
from benchmarks.contestants.roster import DASK, EVERYONE, EXECUTOR, JOBLIB
from benchmarks.harness import Case, Claim
from benchmarks.lags import TransferLag
from benchmarks.loops import run_on
from benchmarks.tasks import add_one, make, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contestants import Calls, PoolContestant
    from benchmarks.effort import Effort

MB = 1_000_000
LARGE = 100 * MB
REPEATS = 7


@dataclass(frozen=True)
class ArrayTrial:
    """The median time of a workload, or the reference's own."""

    workload: Callable[[Calls], Any]
    repeats: int = REPEATS

    def __call__(self, contestant: Any) -> float:
        if isinstance(contestant, Reference):
            return contestant.measure()
        return run_on(contestant.loop, self._run, contestant)

    async def _run(self, contestant: PoolContestant) -> float:
        async with contestant.open() as calls:
            repeats = max(1, self.repeats // contestant.slowness)
            for _ in range(min(2, self.repeats)):
                await self.workload(calls)
            return statistics.median(
                [await _timed(self.workload, calls) for _ in range(repeats)]
            )


async def _timed(workload: Callable[[Calls], Any], calls: Calls) -> float:
    started = time.perf_counter()
    await workload(calls)
    return time.perf_counter() - started


# Made by who is measured, and once.


@functools.cache
def _values() -> Any:
    return warm(LARGE)


@functools.cache
def _many() -> list[Any]:
    return [warm(MB) for _ in range(1_000)]


async def _in(calls: Calls) -> None:
    assert await calls.run(total, _values()) == LARGE // 8


async def _out(calls: Calls) -> None:
    assert total(await calls.run(make, LARGE // 8)) == LARGE // 8


async def _in_and_out(calls: Calls) -> None:
    assert total(await calls.run(add_one, _values())) == LARGE // 4


async def _thousand(calls: Calls) -> None:
    if calls.run_many:
        await calls.run_many(total, [(values,) for values in _many()])
    elif sniffio.current_async_library() == "asyncio":
        await asyncio.gather(*(calls.begin(total, values) for values in _many()))
    elif calls.begin is calls.run:  # a coroutine, that does nothing by itself
        await in_group(calls.run, [(total, values) for values in _many()])
    else:
        for call in [calls.begin(total, values) for values in _many()]:
            await call


def _bare_out(_there: Any, back: Any) -> None:
    np.copyto(back, warm(LARGE))
    total(back)


def _bare_in_and_out(there: Any, back: Any) -> None:
    np.copyto(there, _values())
    np.copyto(back, there + 1)
    total(back)


def _dicts() -> list[dict[str, object]]:
    """About 200 MB of pickle."""
    return [{"number": n, "name": f"item {n}", "value": n / 7} for n in range(4 * MB)]


def cases(effort: Effort) -> Iterator[Case]:
    """Everything, in the order of the report."""
    ours = AIOIPC_POOL["asyncio"]
    slow = [replace(peer, slowness=4) for peer in (*EVERYONE, JOBLIB)]
    executor, *peers = slow
    repeats = effort.of(REPEATS)
    for name, workload, bare, limit, of_executor, of_peers in (
        ("array, 100 MB in", _in, memcpy(_values, repeats), 1.5, None, None),
        (
            "array, 100 MB out",
            _out,
            shared_memory(_bare_out, LARGE, repeats),
            None,
            None,
            None,
        ),
        (
            "array, 100 MB in and 100 MB out",
            _in_and_out,
            shared_memory(_bare_in_and_out, LARGE, repeats),
            2.0,
            1 / 15,
            1 / 5,
        ),
        (
            "arrays, 1,000 of 1 MB in",
            _thousand,
            copies(_many, repeats),
            2.0,
            None,
            1 / 7,
        ),
    ):
        yield Case(
            name,
            ArrayTrial(workload, repeats),
            (
                *(Claim(pool, bare, limit) for pool in AIOIPC_POOL.values()),
                Claim(ours, executor, of_executor),
                *(Claim(ours, peer, of_peers) for peer in peers),
            ),
            most_rounds=2 if workload is _thousand else 4,
            in_sketch=workload is _in_and_out,  # the slow ones take long enough
        )
    yield Case(
        "loop lag, 200 MB array there and back",
        TransferLag(lambda: warm(200 * MB)),
        (
            *(Claim(pool, None, 20.0) for pool in AIOIPC_POOL.values()),
            Claim(EXECUTOR, None),
            Claim(DASK, None),
        ),
        unit="ms",
        most_rounds=4,
    )
    yield Case(
        "loop lag, 200 MB list of dicts there and back",
        TransferLag(_dicts),
        (
            *(Claim(pool, None) for pool in AIOIPC_POOL.values()),
            Claim(EXECUTOR, None),
        ),
        unit="ms",
        most_rounds=2,
        in_sketch=False,
    )
