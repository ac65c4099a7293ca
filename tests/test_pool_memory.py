"""Large buffers of arguments and results: by way of shared memory, and safe to keep."""

import array
import contextlib
import os
import random
import signal

import anyio
import anyio.lowlevel
import numpy as np
import pool_tasks as tasks
import pytest

import aioipc

MB, GB = 1 << 20, 1 << 30


@pytest.fixture
async def pool(fork):
    async with aioipc.WorkerPool(
        2, mp_context=fork, grace=0.2, max_shared_memory=GB
    ) as pool:
        yield pool


@pytest.fixture
def begun(tmp_path):
    """Where a task tells that it has begun."""
    path = tmp_path / "begun"
    os.mkfifo(path)
    return path


async def has_begun(path) -> None:
    assert await anyio.Path(path).read_bytes() == b"!"


def in_use(pool) -> int:
    """How many buffers of arguments somebody looks at."""
    return pool._crew.arena.statistics.buffers


async def nothing_is_in_use(pool) -> None:
    with anyio.fail_after(20):
        while in_use(pool):
            await pool.run(tasks.echo, 1)


VALUES = {
    "float64": np.arange(200_000.0),
    "two dimensions": np.arange(200_000).reshape(400, 500),
    "Fortran's order": np.asfortranarray(np.arange(200_000).reshape(400, 500)),
    "every other": np.arange(200_000)[::2],
    "structured": np.zeros(50_000, dtype=[("a", "f8"), ("b", "i4")]),
    "empty": np.zeros(0),
    "small": np.arange(10),
    "in a dict": {"a": np.arange(100_000), "b": [np.arange(100_000), 3]},
    "bytes": b"x" * 3 * MB,
    "bytearray": bytearray(b"x" * MB),
    "array": array.array("d", [1.5] * 100_000),
    "memory of others": np.frombuffer(b"x" * MB, dtype=np.uint8),
}


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        flags = one.flags.writeable == other.flags.writeable
        return flags and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return same(one["a"], other["a"]) and same(one["b"][0], other["b"][0])
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("limit", [GB, 0, MB], ids=["shared", "in band", "tight"])
@pytest.mark.parametrize("name", VALUES)
async def test_values_come_back_as_they_were(name, limit, fork) -> None:
    value = VALUES[name]
    async with aioipc.WorkerPool(1, mp_context=fork, max_shared_memory=limit) as pool:
        for _ in range(3):
            assert same(value, await pool.run(tasks.echo, value))
        assert limit != 0 or pool.statistics().shared_memory == 0
        await nothing_is_in_use(pool)


async def test_every_start_method_shares_memory(context) -> None:
    values = np.arange(1_000_000.0)
    async with aioipc.WorkerPool(1, mp_context=context, max_shared_memory=GB) as pool:
        got = await pool.run(tasks.describe_array, values)
        assert got == ("ndarray", True, values.sum())
        assert values.nbytes <= pool.statistics().shared_memory < 2 * values.nbytes
        values.flags.writeable = False
        assert not (await pool.run(tasks.describe_array, values))[1]


async def test_what_is_kept_never_changes(pool) -> None:
    results, seen = [], []
    for n in range(40):
        values = np.full(50_000, float(n))
        results.append(await pool.run(tasks.echo, values))
        seen.append(await pool.run(tasks.keep_each, values))
        if n % 3 == 0:  # some are let go, and their slots are used again
            results[n] = results[n].copy()
    assert [list(np.unique(result)) for result in results] == [[n] for n in range(40)]
    assert sorted(max(seen, key=len)) == max(seen, key=len)


async def test_an_argument_that_is_changed_is_the_workers_own(pool, tmp_path) -> None:
    values = np.zeros(500_000)
    for _ in range(3):
        assert (await pool.run(tasks.add_in_place, values)).sum() == 500_000
    assert not values.any()
    mark = str(tmp_path / "mark")
    retried = pool.options(retries=1).run
    assert (await retried(tasks.add_in_place, values, mark)).sum() == 500_000


async def test_a_forked_child_of_a_task_can_look_for_ever(pool, tmp_path) -> None:
    told, seen = anyio.Path(tmp_path / "told"), anyio.Path(tmp_path / "seen")
    os.mkfifo(told)
    os.mkfifo(seen)
    values = np.full(MB, 7, dtype=np.uint8)
    await pool.run(tasks.child_looks_again, values, told, seen)
    for n in range(20):
        await pool.run(tasks.echo, np.full(MB, n, dtype=np.uint8))
    await told.write_bytes(b"!")
    assert await seen.read_bytes() == b"\7\7"


async def test_the_memory_stays_within_its_bound(fork) -> None:
    limit = 24 * MB
    async with aioipc.WorkerPool(2, mp_context=fork, max_shared_memory=limit) as pool:
        async with anyio.create_task_group() as group:
            for n in range(100):
                size = random.Random(n).randrange(10_000, 700_000)
                group.start_soon(pool.run, tasks.echo, np.full(size, float(n)))
        assert 0 < pool.statistics().shared_memory <= limit
        await nothing_is_in_use(pool)


async def test_a_quiet_pool_gives_its_memory_back(fork) -> None:
    async with aioipc.WorkerPool(
        1, mp_context=fork, min_workers=1, idle_timeout=0.01, max_shared_memory=GB
    ) as pool:
        await pool.run(tasks.echo, np.zeros(MB))
        with anyio.fail_after(20):
            while pool.statistics().shared_memory:
                await anyio.lowlevel.checkpoint()
        assert (await pool.run(tasks.echo, np.ones(MB))).all()


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "abandon"])
async def test_a_cancelled_call_leaves_no_buffer_behind(on_cancel, pool, begun) -> None:
    values = np.zeros(MB)
    task = pool.options(on_cancel=on_cancel).submit(
        tasks.tell_then_return, begun, values
    )
    await has_begun(begun)
    task.cancel()
    waiting = [pool.submit(tasks.echo, values) for _ in range(50)]
    for task in waiting[10:]:
        task.cancel()
    for task in waiting[:10]:
        assert (await task).nbytes == values.nbytes
    await nothing_is_in_use(pool)


async def test_a_call_that_can_not_be_sent_leaves_no_buffer_behind(pool) -> None:
    for size in (MB, 30 * MB):
        with pytest.raises(aioipc.EncodeError, match="argument 2 -> <lambda>"):
            await pool.run(tasks.echo, np.zeros(size // 8), lambda: None)
    assert in_use(pool) == 0
    with pytest.raises(aioipc.EncodeError):
        await pool.run(tasks.return_lambda)
    await nothing_is_in_use(pool)


async def test_what_a_dead_worker_looked_at_is_free(pool) -> None:
    values = np.arange(MB)
    for _ in range(5):
        with pytest.raises(aioipc.WorkerCrashed):
            await pool.run(tasks.kill_with, values, signal.SIGKILL)
        assert in_use(pool) == 0
    result = await pool.run(tasks.echo, values)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(pool.options(retries=9).run, tasks.echo, values)
        for member in pool._crew.members.values():
            os.kill(member.pid, signal.SIGKILL)
    assert np.array_equal(result, values)  # its worker may be gone
    await nothing_is_in_use(pool)


async def test_workers_killed_at_any_moment_of_a_transfer(pool) -> None:
    rng = random.Random(1)
    values = np.arange(300_000.0)
    for _ in range(30):
        task = pool.submit(tasks.echo, values)
        await anyio.sleep(rng.random() * 0.006)
        for member in list(pool._crew.members.values()):
            os.kill(member.pid, signal.SIGKILL)
        with contextlib.suppress(aioipc.WorkerCrashed):
            assert np.array_equal(await task, values)
    assert np.array_equal(await pool.run(tasks.echo, values), values)
    await nothing_is_in_use(pool)


async def test_results_outlive_their_pool(fork) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork, max_shared_memory=GB) as pool:
        result = await pool.run(tasks.echo, np.arange(MB))
    assert result.sum() == MB * (MB - 1) // 2
    result += 1
    del result


async def test_maps_of_arrays(pool) -> None:
    values = [np.full(20_000, n) for n in range(100)]
    got = [value async for value in pool.map(tasks.echo, values)]
    assert all(map(np.array_equal, values, got))
    del got
    await nothing_is_in_use(pool)


async def test_large_buffers_by_cloudpickle(fork) -> None:
    async with aioipc.WorkerPool(
        1, mp_context=fork, serializer="cloudpickle", max_shared_memory=GB
    ) as pool:
        values = np.arange(MB)
        assert await pool.run(lambda x: int(x.sum()), values) == values.sum()
        assert pool.statistics().shared_memory
        assert len(await pool.run(lambda x: x, b"x" * MB)) == MB
        await nothing_is_in_use(pool)
