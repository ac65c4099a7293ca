"""The pool beside others whose calls are awaited: cases and targets.

Two workers each. Times are for each call, unless the unit says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

import aioipc
from aioipc.worker.isolation import resident
from benchmarks import cold
from benchmarks.contestants.pools import (
    AIOIPC_POOL,
    EXECUTOR,
    METHOD,
    PEERS,
    WORKERS,
    Calls,
    PoolContestant,
)
from benchmarks.harness import Case, Claim
from benchmarks.isolation import fork
from benchmarks.loops import run_on
from benchmarks.trial import TICK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

MILLION = 1_000_000


def nothing(item: int) -> int:
    return item


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def durations() -> list[float]:
    """200 tasks of 10 to 20 ms."""
    return [0.010 + 0.010 * (n * 37 % 200) / 200 for n in range(200)]


def mixed() -> list[float]:
    """4,000 tasks of 0.2 ms, with one of 200 ms in every 400."""
    return [0.2 if n % 400 == 200 else 0.0002 for n in range(4_000)]


@dataclass(frozen=True)
class Reference:
    """What a pool is compared with that is none: measured by its own trial."""

    name: str
    measure: Callable[[], float]


@dataclass(frozen=True)
class Trial:
    """A workload for pools, or the reference's own."""

    workload: Callable[[Any, PoolContestant], Any]
    pinned: bool = False

    def __call__(self, contestant: Any) -> float:
        if self.pinned:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        if isinstance(contestant, Reference):
            return contestant.measure()
        return run_on(contestant.loop, self._run, contestant)

    async def _run(self, contestant: PoolContestant) -> float:
        async with contestant.open() as calls:
            await _warm_up(calls)
            return await self.workload(calls, contestant)


async def _warm_up(calls: Calls) -> None:
    await _all(calls.run, [(spin, 0.02)] * (2 * WORKERS))
    for n in range(20):
        await calls.run(nothing, n)


async def _all(run: Any, calls: list[tuple[Any, ...]]) -> None:
    async with anyio.create_task_group() as group:
        for function, *args in calls:
            group.start_soon(run, function, *args)


async def _gathered(calls: Calls, contestant: PoolContestant) -> float:
    count = 10_000 // contestant.slowness
    started = time.perf_counter()
    begun = (calls.begin(nothing, n) for n in range(count))
    if contestant.loop == "trio":
        for call in list(begun):
            await call
    else:
        await asyncio.gather(*begun)
    return (time.perf_counter() - started) / count


async def _in_tasks(calls: Calls, contestant: PoolContestant) -> float:
    count = 10_000 // contestant.slowness
    started = time.perf_counter()
    if contestant.loop == "trio":
        await _all(calls.run, [(nothing, n) for n in range(count)])
    else:
        await asyncio.gather(*(calls.run(nothing, n) for n in range(count)))
    return (time.perf_counter() - started) / count


async def _one_by_one(calls: Calls, contestant: PoolContestant) -> float:
    count, run = 4_000 // contestant.slowness, calls.run
    for n in range(count // 10):
        await run(nothing, n)
    started = time.perf_counter()
    for n in range(count):
        await run(nothing, n)
    return (time.perf_counter() - started) / count


async def _cpu_bound(calls: Calls, _: PoolContestant) -> float:
    started = time.perf_counter()
    await _all(calls.run, [(spin, seconds) for seconds in durations()])
    return time.perf_counter() - started


async def _mixed(calls: Calls, _: PoolContestant) -> float:
    started = time.perf_counter()
    await _all(calls.run, [(spin, seconds) for seconds in mixed()])
    return (time.perf_counter() - started) / (sum(mixed()) / WORKERS)


async def _gather_futures() -> float:
    loop, count = asyncio.get_running_loop(), 10_000
    started = time.perf_counter()
    futures = [loop.create_future() for _ in range(count)]
    gathered = asyncio.gather(*futures)
    await asyncio.sleep(0)
    for n, future in enumerate(futures):
        future.set_result(n)
    await gathered
    return (time.perf_counter() - started) / count


async def _gather_tasks() -> float:
    loop, count = asyncio.get_running_loop(), 10_000
    futures: list[asyncio.Future[int]] = []

    async def one() -> int:
        future = loop.create_future()
        futures.append(future)
        return await future

    started = time.perf_counter()
    gathered = asyncio.gather(*(one() for _ in range(count)))
    await asyncio.sleep(0)
    for n, future in enumerate(futures):
        future.set_result(n)
    await gathered
    return (time.perf_counter() - started) / count


def _ping_pong() -> float:
    """A blocking round trip of a call's pickle on a Connection."""
    ours, theirs = multiprocessing.Pipe()

    def answer() -> None:
        while True:
            _, n = theirs.recv()
            theirs.send(n)

    peer = fork.Process(target=answer)
    peer.start()
    count = 4_000
    for n in range(count // 10):
        ours.send((nothing, n))
        ours.recv()
    started = time.perf_counter()
    for n in range(count):
        ours.send((nothing, n))
        ours.recv()
    seconds = time.perf_counter() - started
    peer.kill()
    return seconds / count


@dataclass(frozen=True)
class Map:
    """A map of a million cheap items, in seconds."""

    def __call__(self, contestant: Any) -> float:
        if isinstance(contestant, Reference):
            return contestant.measure()
        return run_on(contestant.loop, self._run)

    @staticmethod
    async def _run() -> float:
        async with aioipc.WorkerPool(WORKERS, mp_context=METHOD) as pool:
            await _all(pool.run, [(spin, 0.02)] * (2 * WORKERS))  # import this module
            started = time.perf_counter()
            async for _ in pool.map(nothing, range(MILLION)):
                pass
            return time.perf_counter() - started


def _stdlib_map() -> float:
    with multiprocessing.get_context(METHOD).Pool(WORKERS) as pool:
        pool.map(nothing, range(1_000))
        started = time.perf_counter()
        for _ in pool.map(nothing, range(MILLION)):
            pass
        return time.perf_counter() - started


class MapMemory(Map):
    """MB by which the coordinator grows during a map of a million items."""

    @staticmethod
    async def _run() -> float:
        async with aioipc.WorkerPool(WORKERS, mp_context=METHOD) as pool:
            async for _ in pool.map(nothing, range(MILLION // 10)):
                pass
            before = resident()
            async for _ in pool.map(nothing, (n for n in range(MILLION))):
                pass
            return (resident() - before) / 1e6


@dataclass(frozen=True)
class FirstResult:
    """Seconds from nothing to the first result, in a program of its own.

    :param with_imports: from the program's start, else from the opening of the pool
    """

    with_imports: bool

    def __call__(self, contestant: PoolContestant) -> float:
        kind = "aioipc" if contestant in AIOIPC_POOL.values() else "executor"
        with tempfile.TemporaryDirectory() as bytecode:
            # As installed packages have it; this environment may not write it down.
            env = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
            env.pop("PYTHONDONTWRITEBYTECODE", None)
            self._run(kind, env)
            return self._run(kind, env)

    def _run(self, kind: str, env: dict[str, str]) -> float:
        call = [sys.executable, cold.__file__, kind, str(time.perf_counter())]
        done = subprocess.run(call, env=env, check=True, stdout=subprocess.PIPE)
        return float(done.stdout.split()[self.with_imports])


@dataclass(frozen=True)
class PoolLag:
    """The longest that the loop stood still, in milliseconds."""

    workload: str

    def __call__(self, contestant: Any) -> float:
        return run_on(contestant.loop, self._watch, contestant)

    async def _watch(self, contestant: Any) -> float:
        if isinstance(contestant, Reference):
            async with longest_standstill() as watch:
                await _gather_tasks()
        elif self.workload == "start":
            async with (
                aioipc.WorkerPool(8, mp_context=METHOD) as pool,
                longest_standstill() as watch,
            ):
                await pool.warm_up()
        else:
            how = _gathered if self.workload == "gather" else _in_tasks
            async with contestant.open() as calls:
                await _warm_up(calls)
                async with longest_standstill() as watch:
                    await how(calls, replace(contestant, slowness=1))
        return watch.worst * 1000


@dataclass
class Watch:
    """What `longest_standstill` has seen.

    :ivar worst: seconds
    """

    worst: float = 0.0


@contextlib.asynccontextmanager
async def longest_standstill() -> AsyncIterator[Watch]:
    """Watch how late a task is that wakes up in every tick."""
    watch = Watch()

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await anyio.sleep(TICK)
            watch.worst = max(watch.worst, time.perf_counter() - due)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await anyio.sleep(10 * TICK)
        yield watch
        await anyio.sleep(10 * TICK)
        group.cancel_scope.cancel()


@dataclass(frozen=True)
class AsyncioFutures(Reference):
    """As many futures, with no process at all."""

    loop: str = "asyncio"


FUTURES = AsyncioFutures("asyncio's futures", lambda: asyncio.run(_gather_futures()))
TASKS = AsyncioFutures("asyncio's tasks", lambda: asyncio.run(_gather_tasks()))
PING_PONG = Reference("blocking ping-pong", _ping_pong)
STDLIB_MAP = Reference("multiprocessing.Pool.map", _stdlib_map)


def cases() -> Iterator[Case]:
    """Everything, in the order of the report."""
    asyncio_pool, uvloop_pool = AIOIPC_POOL["asyncio"], AIOIPC_POOL["uvloop"]
    everyone = [EXECUTOR, *PEERS]
    yield Case(
        "pool, 10,000 calls at once",
        Trial(_gathered),
        (
            Claim(asyncio_pool, FUTURES, 2.0),
            Claim(asyncio_pool, TASKS),
            Claim(asyncio_pool, EXECUTOR, 1 / 25),
            *(Claim(asyncio_pool, peer, 1 / 6) for peer in PEERS),
            *(Claim(uvloop_pool, peer) for peer in everyone),
            Claim(AIOIPC_POOL["trio"], EXECUTOR),
        ),
    )
    yield Case(
        "pool, 10,000 calls at once, a task for each",
        Trial(_in_tasks),
        (
            Claim(asyncio_pool, TASKS, 2.0),
            *(Claim(asyncio_pool, peer) for peer in everyone),
            Claim(uvloop_pool, TASKS),
        ),
    )
    yield Case(
        "pool, one call at a time, one CPU",
        Trial(_one_by_one, pinned=True),
        (
            Claim(uvloop_pool, PING_PONG, 1.0),
            Claim(asyncio_pool, PING_PONG, 1.2),
            Claim(AIOIPC_POOL["trio"], PING_PONG),
            *(Claim(asyncio_pool, peer) for peer in everyone),
        ),
    )
    yield Case(
        "pool, one call at a time",
        Trial(_one_by_one),
        (
            *(Claim(asyncio_pool, peer, 0.5) for peer in everyone),
            *(Claim(uvloop_pool, peer, 0.5) for peer in everyone),
            Claim(asyncio_pool, PING_PONG),
        ),
    )
    yield Case(
        "pool, map of 1,000,000 cheap items",
        Map(),
        tuple(Claim(pool, STDLIB_MAP, 1.2) for pool in AIOIPC_POOL.values()),
    )
    yield Case(
        "pool, memory of such a map",
        MapMemory(),
        (Claim(asyncio_pool, None, 10.0),),
        unit="MB",
        most_rounds=3,
    )
    yield Case(
        "pool, 200 tasks of 10 to 20 ms",
        Trial(_cpu_bound),
        tuple(Claim(asyncio_pool, peer, 1.03) for peer in everyone),
        most_rounds=5,
    )
    yield Case(
        "pool, 4,000 short tasks among long ones, of the ideal time",
        Trial(_mixed),
        (
            *(Claim(pool, None, 1.15) for pool in AIOIPC_POOL.values()),
            Claim(EXECUTOR, None),
        ),
        unit="x",
        most_rounds=5,
    )
    yield Case(
        "pool, first result",
        FirstResult(with_imports=False),
        (Claim(asyncio_pool, EXECUTOR, 1.0),),
    )
    yield Case(
        "pool, first result, from the program's start",
        FirstResult(with_imports=True),
        (Claim(asyncio_pool, EXECUTOR),),
    )
    yield Case(
        "loop lag, starting 8 workers",
        PoolLag("start"),
        tuple(Claim(pool, None, 20.0) for pool in AIOIPC_POOL.values()),
        unit="ms",
        most_rounds=5,
    )
    yield Case(
        "loop lag, 10,000 calls at once",
        PoolLag("gather"),
        (
            *(Claim(pool, None, 25.0) for pool in AIOIPC_POOL.values()),
            Claim(EXECUTOR, None),
        ),
        unit="ms",
        most_rounds=5,
    )
    yield Case(
        "loop lag, 10,000 calls at once, a task for each",
        PoolLag("tasks"),
        (
            *(Claim(pool, None) for pool in AIOIPC_POOL.values()),
            Claim(asyncio_pool, TASKS),
        ),
        unit="ms",
        most_rounds=5,
    )
