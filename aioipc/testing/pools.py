"""What every `Pool` must do: a battery of tests, to be inherited from.

::

    class TestMyPool(PoolContract):
        @pytest.fixture
        async def pool(self):
            async with MyPool() as pool:
                yield pool

The tests are coroutines: run them with anyio's pytest plugin, or another one. Workers
must be able to import this module.
"""

import contextlib
import functools
import math
import operator
import time
from collections.abc import AsyncIterator, Generator

import anyio
import anyio.lowlevel

from aioipc.abc import Pool
from aioipc.errors import ClosedResourceError, EncodeError, TaskCancelled

__all__ = ["PoolContract"]

PATIENCE = 20.0
"""Seconds after which something is taken to hang."""


class PoolContract:
    """Tests of what a pool promises.

    :cvar stops_tasks: whether the pool can stop a task that has begun
    """

    stops_tasks = True

    async def test_run_returns_the_result(self, pool: Pool) -> None:
        assert await pool.run(math.factorial, 20) == math.factorial(20)
        assert await pool.run(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
        assert await pool.run(functools.partial(pow, 2), 5) == 32

    async def test_run_raises_what_the_function_raises(self, pool: Pool) -> None:
        with _raises(ZeroDivisionError) as caught:
            await pool.run(_divide, 1, 0)
        assert caught[0].__cause__ is not None
        assert await pool.run(abs, -1) == 1

    async def test_what_would_steer_the_caller_comes_wrapped(self, pool: Pool) -> None:
        with _raises(RuntimeError):
            await pool.run(next, iter([]))  # StopIteration

    async def test_what_cannot_be_pickled_fails_one_call(self, pool: Pool) -> None:
        with _raises(EncodeError):
            await pool.run(abs, (n for n in range(3)))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        assert await pool.run(abs, -1) == 1

    async def test_many_calls_at_once(self, pool: Pool) -> None:
        got: dict[int, int] = {}

        async def call(n: int) -> None:
            got[n] = await pool.run(operator.neg, n)

        async with anyio.create_task_group() as group:
            for n in range(300):
                group.start_soon(call, n)
        assert got == {n: -n for n in range(300)}

    async def test_a_handle_is_awaited_often_and_late(self, pool: Pool) -> None:
        task = pool.submit(math.factorial, 5)
        assert [await task, await task] == [120, 120]
        assert (task.done(), task.cancelled(), task.exception()) == (True, False, None)
        failing = pool.submit(_divide, 1, 0)
        for _ in range(2):
            with _raises(ZeroDivisionError):
                await failing
        assert isinstance(failing.exception(), ZeroDivisionError)

    async def test_a_cancelled_handle_raises_task_cancelled(self, pool: Pool) -> None:
        task = pool.submit(_sleep, 0.5)
        if task.cancel():
            with _raises(TaskCancelled):
                await task
            assert task.cancelled()

    async def test_a_cancelled_run_stops_the_work(self, pool: Pool) -> None:
        if not self.stops_tasks:
            return
        for _ in range(5):  # more than there are workers
            with anyio.move_on_after(0.05) as scope:
                await pool.run(_sleep, 1000)
            assert scope.cancelled_caught
        with anyio.fail_after(PATIENCE):
            assert await pool.run(abs, -1) == 1

    async def test_a_timeout_stops_the_work(self, pool: Pool) -> None:
        if not self.stops_tasks:
            return
        with anyio.fail_after(PATIENCE), _raises(TimeoutError):
            await pool.options(timeout=0.05).run(_sleep, 1000)
        assert await pool.run(abs, -1) == 1

    async def test_a_map_keeps_the_order(self, pool: Pool) -> None:
        got = [result async for result in pool.map(operator.neg, range(500))]
        assert got == [-n for n in range(500)]
        got = [result async for result in pool.map(pow, [2, 3, 4, 5], _count(3))]
        assert got == [1, 3, 16]
        assert [n async for n in pool.starmap(pow, [(2, 3), (4, 2)])] == [8, 16]

    async def test_an_unordered_map_yields_all(self, pool: Pool) -> None:
        got = [result async for result in pool.map_unordered(operator.neg, range(500))]
        assert sorted(got) == sorted(-n for n in range(500))

    async def test_a_failing_item_raises_at_its_place(self, pool: Pool) -> None:
        divisors = [1, 2, 0, 4]
        got: list[float] = []
        with _raises(ZeroDivisionError):
            async for quotient in pool.map(_divide, [4] * 4, divisors):
                got.append(quotient)  # noqa: PERF401 - it raises
        assert got == [4, 2]
        outcomes = pool.map(_divide, [4] * 4, divisors, return_exceptions=True)
        kinds = [type(outcome) async for outcome in outcomes]
        assert kinds == [float, float, ZeroDivisionError, float]

    async def test_a_map_that_is_left_stops(self, pool: Pool) -> None:
        async with pool.map(operator.neg, range(10**12)) as results:
            async for result in results:
                if result == -100:
                    break
        with anyio.fail_after(PATIENCE):
            assert await pool.run(abs, -1) == 1

    async def test_a_closed_pool_refuses(self, pool: Pool) -> None:
        await pool.aclose()
        await pool.aclose()
        with _raises(ClosedResourceError):
            await pool.run(abs, -1)
        with _raises(ClosedResourceError):
            pool.submit(abs, -1)


def _divide(dividend: float, divisor: float) -> float:
    return dividend / divisor


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


async def _count(count: int) -> AsyncIterator[int]:
    for n in range(count):
        await anyio.lowlevel.checkpoint()
        yield n


@contextlib.contextmanager
def _raises(kind: type[BaseException]) -> Generator[list[BaseException]]:
    """Expect an exception, and append it to what is yielded."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    assert caught, f"{kind.__name__} was not raised"
