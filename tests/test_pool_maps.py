"""Streams of calls: lazy, bounded, ordered or not, and left at any time."""

import asyncio
import gc
import itertools
import os

import anyio
import anyio.lowlevel
import numpy as np
import pool_tasks as tasks
import pytest

import aioipc
from aioipc.pool.maps import AHEAD_SIZE, UNSEEN


@pytest.fixture
async def pool(fork):
    async with aioipc.WorkerPool(2, mp_context=fork, grace=0.2) as pool:
        yield pool


class Counted:
    """Items, and how many have been read."""

    def __init__(self, count) -> None:
        self.items = iter(range(count))
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        self.read += 1
        return item


async def count_up(count):
    for n in range(count):
        if n % 10 == 0:
            await anyio.lowlevel.checkpoint()
        yield n


async def collect(results):
    return [result async for result in results]


async def test_results_come_in_order(pool) -> None:
    assert await pool.run(tasks.echo, 1) == 1
    assert await collect(pool.map(tasks.echo, range(5_000))) == list(range(5_000))
    assert await collect(pool.map(pow, [2, 3, 4], range(2, 9))) == [4, 27, 256]
    assert await collect(pool.starmap(pow, [(2, 3), (4, 2)])) == [8, 16]
    assert await collect(pool.map(tasks.echo, [])) == []


async def test_unordered_results_all_come(pool) -> None:
    got = await collect(pool.map_unordered(tasks.echo, range(5_000)))
    assert sorted(got) == list(range(5_000))


async def test_unordered_results_do_not_wait_for_a_slow_one(pool, tmp_path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    gates = [gate, *[None] * 20]
    results = pool.map_unordered(tasks.echo_when_told, itertools.count(), gates)
    with gate.open("r+b", buffering=0) as opening, anyio.fail_after(20):
        got = [await anext(results) for _ in range(20)]
        assert 0 not in got
        opening.write(b"!")
        assert sorted([*got, *await collect(results)]) == list(range(21))


async def test_items_may_come_from_async_iterables(pool) -> None:
    assert await collect(pool.map(tasks.echo, count_up(100))) == list(range(100))
    got = await collect(pool.map(pow, count_up(3), [2, 2, 2, 2]))
    assert got == [0, 1, 4]


async def test_a_slow_source_delays_no_result(pool) -> None:
    gate = anyio.Event()

    async def source():
        yield 1
        await gate.wait()
        yield 2

    results = pool.map(tasks.echo, source())
    with anyio.fail_after(10):
        assert await anext(results) == 1
        gate.set()
        assert await anext(results) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)


@pytest.mark.parametrize("buffersize", [1, 3, 100])
async def test_no_more_is_read_ahead_than_buffersize(buffersize, pool) -> None:
    items = Counted(1_000)
    yielded = 0
    async for _ in pool.map(tasks.echo, items, buffersize=buffersize):
        yielded += 1
        assert items.read - yielded <= buffersize
    assert yielded == 1_000


async def test_an_endless_source_is_read_no_further_than_needed(pool) -> None:
    items = Counted(10**12)
    async for result in pool.map(tasks.echo, items):
        if result == 20_000:
            break
    assert items.read < 1_000_000


MB = 1 << 20
AHEAD_MB = 2 * AHEAD_SIZE // MB  # two workers

LARGE_ITEMS = {
    "bytes": (len, lambda n: bytes(MB)),
    "arrays": (len, lambda n: np.ones(MB // 8)),
    "in lists": (len, lambda n: [np.ones(MB // 8)]),
    "results": (np.ones, lambda n: MB // 8),
}


@pytest.mark.parametrize("kind", LARGE_ITEMS)
async def test_no_more_is_read_ahead_than_so_many_bytes(kind, pool) -> None:
    function, item = LARGE_ITEMS[kind]
    items = Counted(300)
    yielded = 0
    async for _ in pool.map(function, map(item, items)):
        yielded += 1
        assert items.read - yielded <= AHEAD_MB
    assert yielded == 300


async def test_of_items_that_are_larger_there_are_two_for_each_worker(pool) -> None:
    items = Counted(20)
    yielded = 0
    async for _ in pool.map(len, ([bytes(10 * MB)] for _ in items)):
        yielded += 1
        assert items.read - yielded <= 2 * UNSEEN
    assert yielded == 20


async def test_items_that_become_large_are_noticed_when_they_are_read(pool) -> None:
    items = Counted(21_000)
    yielded = 0
    rows = (b"small" if n < 20_000 else bytes(MB) for n in items)
    async for _ in pool.map(len, rows):
        yielded += 1
        if items.read > 20_000:
            assert items.read - max(yielded, 20_000) <= 2 * (AHEAD_MB + 128)
    assert yielded == 21_000


async def test_a_failing_item_raises_at_its_place(pool) -> None:
    items, got = Counted(1_000_000), []
    with pytest.raises(ValueError, match="item 500") as caught:  # noqa: PT012
        async for result in pool.map(tasks.fail_at, itertools.repeat(500), items):
            got.append(result)  # noqa: PERF401 - it fails
    assert got == list(range(500))
    assert "in fail_at" in str(caught.value.__cause__)
    assert await pool.run(tasks.echo, 1) == 1


async def test_an_item_that_raises_stop_iteration_is_a_failure(pool) -> None:
    kinds = [aioipc.TaskError] + [ZeroDivisionError] * 2
    results = pool.map(
        tasks.fail_with_type,
        [StopIteration, ZeroDivisionError, ZeroDivisionError],
        return_exceptions=True,
    )
    assert [type(error) for error in await collect(results)] == kinds


async def test_an_unhashable_callable(pool) -> None:
    assert await collect(pool.map(tasks.Unhashable(), range(5))) == [0, 1, 2, 3, 4]
    assert await pool.run(tasks.Unhashable(), 5) == 5


async def test_a_source_that_ends_by_a_cancel_is_an_error(pool) -> None:
    async def source():
        yield 1
        raise asyncio.CancelledError

    with anyio.fail_after(10), pytest.raises(aioipc.TaskError, match="the source"):
        await collect(pool.map(tasks.echo, source()))


async def test_failures_as_results(pool) -> None:
    results = pool.map(
        tasks.fail_at, itertools.repeat(5), range(10), return_exceptions=True
    )
    got = await collect(results)
    assert isinstance(got[5], ValueError)
    assert got[:5] + got[6:] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


async def test_a_result_that_cannot_be_pickled_fails_its_item(pool) -> None:
    await collect(pool.map(tasks.echo, range(1_000)))
    got = await collect(
        pool.map(tasks.return_lambda_at, range(100), return_exceptions=True)
    )
    assert [n for n, value in enumerate(got) if value != n] == [50]
    assert isinstance(got[50], aioipc.EncodeError)


async def test_a_crash_raises_at_its_place(pool) -> None:
    with pytest.raises(aioipc.WorkerCrashed, match="task exit_at"):
        await collect(pool.map(tasks.exit_at, range(10)))
    assert await pool.run(tasks.echo, 1) == 1


async def test_an_error_of_the_source_is_raised_behind_what_it_gave(pool) -> None:
    def source():
        yield 1
        raise ZeroDivisionError

    async def async_source():
        yield 1
        raise ZeroDivisionError

    for items in (source(), async_source()):
        results = pool.map(tasks.echo, items)
        assert await anext(results) == 1
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_leaving_the_loop_stops_the_work(pool) -> None:
    async for _ in pool.map_unordered(tasks.sleep, [0, 1000, 1000]):
        break
    gc.collect()
    with anyio.fail_after(10):
        assert await pool.run(tasks.echo, 1) == 1
    async with pool.map(tasks.sleep, [0, 1000]) as results:
        await anext(results)
    with pytest.raises(StopAsyncIteration):
        await anext(results)
    with anyio.fail_after(10):
        assert await pool.run(tasks.echo, 1) == 1


async def test_a_cancelled_anext_loses_nothing(pool) -> None:
    results = pool.map(tasks.spin_for, itertools.repeat(0.002), range(50))
    got = []
    while len(got) < 50:
        with anyio.move_on_after(0.001):
            got.append(await anext(results))
    assert got == list(range(50))


async def test_wrong_arguments(pool) -> None:
    with pytest.raises(TypeError, match="at least one iterable"):
        pool.map(tasks.echo)
    with pytest.raises(ValueError, match="buffersize"):
        pool.map(tasks.echo, [], buffersize=0)
    with pytest.raises(TypeError, match="not iterable"):
        pool.map(tasks.echo, 5)
