"""What a type checker makes of the pool. Checked by pyright, never run."""

# ruff: noqa: TC003 - as in a user's module, imports stand at the top

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import assert_type

from aioipc import (
    Capabilities,
    Pool,
    PoolStatistics,
    PoolTask,
    Results,
    ThreadPool,
    WorkerPool,
    open_pool,
)
from aioipc.testing import InlinePool, PoolReport, check_pool


def divide(dividend: int, divisor: int = 1) -> float:
    return dividend / divisor


async def count() -> AsyncIterator[int]:
    yield 1


async def calls(pool: WorkerPool) -> None:
    assert_type(await pool.run(divide, 1, divisor=2), float)
    assert_type(pool.submit(divide, 1), PoolTask[float])
    assert_type(await pool.submit(divide, 1), float)
    assert_type(pool.submit(divide, 1).exception(), BaseException | None)
    await pool.run(divide, "1")  # pyright: ignore[reportArgumentType]
    await pool.run(divide, 1, timeout=2)  # pyright: ignore[reportCallIssue]


async def maps(pool: WorkerPool) -> None:
    assert_type(pool.map(divide, [1, 2], [3, 4]), Results[float])
    assert_type(pool.map(str, range(3)), Results[str])
    async for quotient in pool.map(divide, count(), [1]):
        assert_type(quotient, float)
    async for quotient in pool.starmap(divide, [(1, 2)]):
        assert_type(quotient, float)
    async for outcome in pool.map(divide, [1], return_exceptions=True):
        assert_type(outcome, float | BaseException)
    async for quotient in pool.map_unordered(divide, [1]):
        assert_type(quotient, float)


async def the_rest(pool: WorkerPool) -> None:
    fast = pool.options(timeout=1, priority=2, on_cancel="kill")
    assert_type(fast, Pool)
    assert_type(await fast.run(divide, 1), float)
    pool.options(on_cancel="nonsense")  # pyright: ignore[reportArgumentType]
    executor: Executor = pool.as_executor()
    assert_type(executor.submit(divide, 1).result(), float)
    async with WorkerPool(2) as opened:
        assert_type(opened, WorkerPool)


async def any_pool() -> None:
    async with open_pool("thread", max_workers=2) as pool:
        assert_type(pool, Pool)
        assert_type(await pool.run(divide, 1), float)
        assert_type(pool.capabilities, Capabilities)
        assert_type(pool.statistics(), PoolStatistics)
    async with ThreadPool(2) as threads:
        assert_type(threads, ThreadPool)
    open_pool("thread", max_rss=1)  # pyright: ignore[reportCallIssue]
    assert_type(await check_pool(InlinePool), PoolReport)
    await check_pool(lambda: WorkerPool(2))
