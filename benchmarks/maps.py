"""What is timed with whole streams of items: maps, and how they grow.

Everyone gets chunks, chosen by itself or by what its manual advises, and the results
are looked at and dropped, as they come.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aioipc
from aioipc.worker.isolation import resident
from benchmarks.calls import in_group
from benchmarks.contestants import METHOD, WORKERS, Reference
from benchmarks.loops import run_on
from benchmarks.tasks import nothing, spin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1_000


@dataclass(frozen=True)
class Map:
    """Seconds of a map of so many cheap items."""

    count: int

    def __call__(self, contestant: Any) -> float:
        if isinstance(contestant, Reference):
            return contestant.measure()
        return run_on(contestant.loop, self._run)

    async def _run(self) -> float:
        async with aioipc.WorkerPool(WORKERS, mp_context=METHOD) as pool:
            await in_group(pool.run, [(spin, 0.02)] * (2 * WORKERS))  # both import it
            started = time.perf_counter()
            async for _ in pool.map(nothing, range(self.count)):
                pass
            return time.perf_counter() - started


class MapMemory(Map):
    """MB by which the coordinator is larger after such a map."""

    async def _run(self) -> float:
        async with aioipc.WorkerPool(WORKERS, mp_context=METHOD) as pool:
            async for _ in pool.map(nothing, range(self.count // 10)):
                pass
            before = resident()
            async for _ in pool.map(nothing, (n for n in range(self.count))):
                pass
            return (resident() - before) / 1e6


def stdlib_map(count: int) -> Reference:
    def measure() -> float:
        with multiprocessing.get_context(METHOD).Pool(WORKERS) as pool:
            pool.map(nothing, range(1_000))
            started = time.perf_counter()
            for _ in pool.map(nothing, range(count)):
                pass
            return time.perf_counter() - started

    return Reference("multiprocessing.Pool.map", measure)


def mpire_map(count: int) -> Reference:
    def measure() -> float:
        import mpire  # noqa: PLC0415 - it need not be installed

        with mpire.WorkerPool(WORKERS, start_method=METHOD, keep_alive=True) as pool:
            pool.map(nothing, range(1_000))
            started = time.perf_counter()
            for _ in pool.map(nothing, range(count)):
                pass
            return time.perf_counter() - started

    return Reference("mpire's map", measure, module="mpire")


@dataclass(frozen=True)
class Growth:
    """A stream of so many items, of which either time or memory is measured."""

    count: int
    measure: Callable[[Streamed], float]

    def __call__(self, contestant: Stream) -> float:
        return self.measure(contestant.run(self.count))


@dataclass(frozen=True)
class Streamed:
    """What became of a stream.

    :ivar seconds: for all items
    :ivar peak: bytes by which the coordinator was larger at most
    """

    count: int
    seconds: float
    peak: float

    @property
    def for_each(self) -> float:
        return self.seconds / self.count

    @property
    def megabytes(self) -> float:
        return self.peak / 1e6


@dataclass(frozen=True)
class Stream:
    """Who makes a stream of calls of an iterable, and how."""

    name: str
    run: Callable[[int], Streamed]
    module: str | None = None


class _Meter:
    """Measures from its making."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now, see proc(5)
        self._before = resident()
        self._started = time.perf_counter()

    def read(self, count: int) -> Streamed:
        seconds = time.perf_counter() - self._started
        return Streamed(count, seconds, max(0, _peak() - self._before))


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(it.split()[1]) * 1024 for it in lines if it.startswith("VmHWM"))


async def _ours(count: int) -> Streamed:
    async with aioipc.WorkerPool(WORKERS, mp_context=METHOD) as pool:
        async for _ in pool.map(nothing, range(1_000)):
            pass
        meter = _Meter()
        async for _ in pool.map(nothing, iter(range(count))):
            pass
        return meter.read(count)


def _imap(count: int) -> Streamed:
    with multiprocessing.get_context(METHOD).Pool(WORKERS) as pool:
        return _stream(pool.imap, count)


def _executor_map(count: int) -> Streamed:
    context = multiprocessing.get_context(METHOD)
    with concurrent.futures.ProcessPoolExecutor(WORKERS, context) as executor:
        return _stream(executor.map, count)


def _mpire(count: int) -> Streamed:
    import mpire  # noqa: PLC0415 - it need not be installed

    with mpire.WorkerPool(WORKERS, start_method=METHOD, keep_alive=True) as pool:

        def imap(function: Any, items: Iterator[int], chunksize: int) -> Any:
            return pool.imap(function, items, iterable_len=count, chunk_size=chunksize)

        pool.map(nothing, range(1_000))
        meter = _Meter()
        for _ in imap(nothing, iter(range(count)), _chunk(count)):
            pass
        return meter.read(count)


def _stream(imap: Callable[..., Any], count: int) -> Streamed:
    for _ in imap(nothing, range(1_000), chunksize=_chunk(1_000)):
        pass
    meter = _Meter()
    for _ in imap(nothing, iter(range(count)), chunksize=_chunk(count)):
        pass
    return meter.read(count)


def _chunk(count: int) -> int:
    """Four chunks for each worker, as `Pool.map` does; or more, so that some wait."""
    return min(CHUNK, count // (4 * WORKERS))


OURS = Stream("aioipc", lambda count: asyncio.run(_ours(count)))
STREAMS = [
    Stream("multiprocessing.Pool.imap", _imap),
    Stream("ProcessPoolExecutor.map", _executor_map),
    Stream("mpire's imap", _mpire, module="mpire"),
]
