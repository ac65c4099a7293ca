"""Pools of worker processes whose calls are awaited, each with two workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_process
import loky
import pebble

import aioipc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

WORKERS = 2
METHOD = "forkserver"

Run = "Callable[..., Awaitable[Any]]"


@dataclass(frozen=True)
class PoolContestant:
    """A pool.

    :param open: opens it, as what calls a function: ``await run(function, *args)``
    :param slowness: it gets so many times fewer calls, and times are for each
    """

    library: str
    loop: str
    open: Callable[[], AbstractAsyncContextManager[Run]]
    slowness: int = 1

    @property
    def name(self) -> str:
        return f"{self.library} on {self.loop}"


@contextlib.asynccontextmanager
async def _aioipc() -> AsyncIterator[Run]:
    async with aioipc.WorkerPool(WORKERS, mp_context=METHOD) as pool:
        yield pool.run


def _awaiting(executor: concurrent.futures.Executor) -> Run:
    run_in_executor = asyncio.get_running_loop().run_in_executor

    async def run(*call: Any) -> Any:
        return await run_in_executor(executor, *call)

    return run


@contextlib.asynccontextmanager
async def _executor() -> AsyncIterator[Run]:
    context = multiprocessing.get_context(METHOD)
    with concurrent.futures.ProcessPoolExecutor(WORKERS, context) as executor:
        yield _awaiting(executor)


@contextlib.asynccontextmanager
async def _loky() -> AsyncIterator[Run]:
    executor = loky.ProcessPoolExecutor(WORKERS)
    try:
        yield _awaiting(executor)
    finally:
        executor.shutdown(kill_workers=True)


@contextlib.asynccontextmanager
async def _pebble() -> AsyncIterator[Run]:
    context = multiprocessing.get_context(METHOD)
    pool = pebble.ProcessPool(WORKERS, context=context)

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.schedule(function, args))

    try:
        yield run
    finally:
        pool.stop()
        pool.join()


@contextlib.asynccontextmanager
async def _anyio() -> AsyncIterator[Run]:
    anyio.to_process.current_default_process_limiter().total_tokens = WORKERS
    yield anyio.to_process.run_sync


AIOIPC_POOL = {
    loop: PoolContestant("aioipc", loop, _aioipc)
    for loop in ("asyncio", "uvloop", "trio")
}
EXECUTOR = PoolContestant("ProcessPoolExecutor", "asyncio", _executor)
PEERS = [
    PoolContestant("loky", "asyncio", _loky, slowness=4),
    PoolContestant("pebble", "asyncio", _pebble, slowness=4),
    PoolContestant("anyio.to_process", "asyncio", _anyio, slowness=4),
]
