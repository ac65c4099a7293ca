"""The battery of `aioipc.testing` over the pools of this package, each way to start."""

import pytest

import aioipc
from aioipc.pool.threads import ThreadCall, ThreadEngine
from aioipc.testing import InlinePool, PoolContract, check_pool


class TestWorkerPool(PoolContract):
    @pytest.fixture
    async def pool(self, context):
        async with aioipc.WorkerPool(2, mp_context=context, grace=0.2) as pool:
            yield pool


class TestItsOptions(PoolContract):
    @pytest.fixture
    async def pool(self, fork):
        async with aioipc.WorkerPool(2, mp_context=fork) as pool:
            yield pool.options(priority=1, retries=1, on_cancel="kill")


class TestThreadPool(PoolContract):
    @pytest.fixture
    async def pool(self):
        async with aioipc.ThreadPool(2, grace=0.2) as pool:
            yield pool


class TestInlinePool(PoolContract):
    @pytest.fixture
    async def pool(self):
        async with InlinePool() as pool:
            yield pool


class TestInlinePoolWithoutCopies(PoolContract):
    @pytest.fixture
    async def pool(self):
        async with InlinePool(pickles=False) as pool:
            yield pool


async def test_a_pool_that_breaks_its_promise_is_told_of(fork) -> None:
    class Forgetful(aioipc.WorkerPool):
        def statistics(self):
            return aioipc.PoolStatistics()

    with pytest.raises(ExceptionGroup, match="checks of the pool failed") as caught:
        await check_pool(lambda: Forgetful(2, mp_context=fork))
    notes = [error.__notes__ for error in caught.value.exceptions]
    assert notes == [
        ["in test_a_resized_pool_has_so_many_workers"],
        ["in test_it_counts_its_tasks"],
    ]


async def test_a_pool_that_begins_what_it_has_failed_is_told_of(monkeypatch) -> None:
    class Unfailing(ThreadEngine):
        def end_all(self) -> None:
            if not self.closed:  # else no thread leaves
                super().end_all()

    def new_engine(pool: aioipc.ThreadPool, loop):
        return Unfailing(loop, pool._maximum, "unfailing", None)

    monkeypatch.setattr(aioipc.ThreadPool, "_new_engine", new_engine)
    monkeypatch.setattr(ThreadCall, "withdraw", lambda _: False)
    engines = []

    def new_pool() -> aioipc.ThreadPool:
        pool = aioipc.ThreadPool(2, grace=0.2)
        engines.append(pool._engine_here())
        return pool

    with pytest.raises(ExceptionGroup) as caught:
        await check_pool(new_pool)
    for engine in engines:
        ThreadEngine.end_all(engine)
    notes = [error.__notes__ for error in caught.value.exceptions]
    assert notes == [
        ["in test_a_task_cancelled_before_it_began_never_runs"],
        ["in test_a_task_that_a_close_has_failed_never_begins"],
    ]
