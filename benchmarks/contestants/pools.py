"""Pools of worker processes whose calls are awaited, each with two workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import multiprocessing
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_process
import loky
import pebble

import aioipc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

WORKERS = 2
METHOD = "forkserver"
SHARED = 2_000_000_000


class Calls(NamedTuple):
    """How calls are made.

    :ivar run: ``await run(function, *args)``
    :ivar begin: begins a call and returns what is awaited, in the form that
        `asyncio.gather` takes with the least effort
    """

    run: Callable[..., Awaitable[Any]]
    begin: Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class PoolContestant:
    """A pool.

    :param open: opens it
    :param slowness: it gets so many times fewer calls, and times are for each
    """

    library: str
    loop: str
    open: Callable[[], AbstractAsyncContextManager[Calls]]
    slowness: int = 1

    @property
    def name(self) -> str:
        return f"{self.library} on {self.loop}"


@contextlib.asynccontextmanager
async def _aioipc() -> AsyncIterator[Calls]:
    async with aioipc.WorkerPool(
        WORKERS, mp_context=METHOD, max_shared_memory=SHARED
    ) as pool:
        yield Calls(pool.run, pool.submit)


def _in_executor(executor: concurrent.futures.Executor) -> Calls:
    begin = functools.partial(asyncio.get_running_loop().run_in_executor, executor)
    return Calls(_awaiting(begin), begin)


def _awaiting(begin: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def run(*call: Any) -> Any:
        return await begin(*call)

    return run


@contextlib.asynccontextmanager
async def _executor() -> AsyncIterator[Calls]:
    context = multiprocessing.get_context(METHOD)
    with concurrent.futures.ProcessPoolExecutor(WORKERS, context) as executor:
        yield _in_executor(executor)


@contextlib.asynccontextmanager
async def _loky() -> AsyncIterator[Calls]:
    executor = loky.ProcessPoolExecutor(WORKERS)
    try:
        yield _in_executor(executor)
    finally:
        executor.shutdown(kill_workers=True)


@contextlib.asynccontextmanager
async def _pebble() -> AsyncIterator[Calls]:
    context = multiprocessing.get_context(METHOD)
    pool = pebble.ProcessPool(WORKERS, context=context)

    def begin(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.wrap_future(pool.schedule(function, args))

    try:
        yield Calls(_awaiting(begin), begin)
    finally:
        pool.stop()
        pool.join()


@contextlib.asynccontextmanager
async def _anyio() -> AsyncIterator[Calls]:
    anyio.to_process.current_default_process_limiter().total_tokens = WORKERS
    yield Calls(anyio.to_process.run_sync, anyio.to_process.run_sync)


@contextlib.asynccontextmanager
async def _trio_parallel() -> AsyncIterator[Calls]:
    import trio_parallel  # noqa: PLC0415 - of trio only

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        return await context.run_sync(function, *args)

    async with trio_parallel.open_worker_context() as context:
        trio_parallel.current_default_worker_limiter().total_tokens = WORKERS
        yield Calls(run, run)


@contextlib.asynccontextmanager
async def _joblib() -> AsyncIterator[Calls]:
    """Its executor, which writes large arrays to files that the workers map."""
    from joblib.executor import get_memmapping_executor  # noqa: PLC0415

    executor = get_memmapping_executor(WORKERS, temp_folder=tempfile.mkdtemp())
    try:
        yield _in_executor(executor)
    finally:
        executor.shutdown(kill_workers=True)


@contextlib.asynccontextmanager
async def _dask() -> AsyncIterator[Calls]:
    from distributed import Client, LocalCluster  # noqa: PLC0415 - slow to import

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

        yield Calls(_awaiting(begin), begin)


AIOIPC_POOL = {
    loop: PoolContestant("aioipc", loop, _aioipc)
    for loop in ("asyncio", "uvloop", "trio")
}
EXECUTOR = PoolContestant("ProcessPoolExecutor", "asyncio", _executor)
LOKY = PoolContestant("loky", "asyncio", _loky, slowness=4)
PEERS = [
    LOKY,
    PoolContestant("pebble", "asyncio", _pebble, slowness=4),
    PoolContestant("anyio.to_process", "asyncio", _anyio, slowness=4),
]
TRIO_PARALLEL = PoolContestant("trio-parallel", "trio", _trio_parallel, slowness=4)
JOBLIB = PoolContestant("joblib's memmapping", "asyncio", _joblib, slowness=4)
DASK = PoolContestant("Dask", "asyncio", _dask, slowness=4)
