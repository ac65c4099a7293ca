"""Large buffers of arguments and results: by way of shared memory, and safe to keep."""

import array
import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import types
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pool_tasks as tasks
import pytest

import aioipc
from aioipc.memory.views import Views
from aioipc.pool.limits import usable_memory
from aioipc.worker.isolation import resident

MB, GB = 1 << 20, 1 << 30


def in_use(pool) -> int:
    """How many buffers of arguments somebody looks at."""
    return pool._crew.memory.arena.statistics.buffers


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


async def test_many_buffers_of_a_result_are_looked_at_by_a_thread(
    pool, monkeypatch
) -> None:
    threads = []

    def look(views, *args, once=Views.look, **kwargs):
        threads.append(threading.current_thread())
        return once(views, *args, **kwargs)

    monkeypatch.setattr(Views, "look", look)
    arrays = await pool.run(tasks.many_arrays, 1_000)
    assert [array[-1] for array in arrays] == [*range(1_000)]
    assert len(threads) == 1_000
    assert threading.current_thread() not in threads


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


@pytest.mark.parametrize("its_worker_is", ["alive", "dead"])
async def test_a_forked_child_of_a_task_can_look_for_ever(
    its_worker_is, fork, tmp_path
) -> None:
    told, seen = anyio.Path(tmp_path / "told"), anyio.Path(tmp_path / "seen")
    os.mkfifo(told)
    os.mkfifo(seen)
    values = np.full(MB, 7, dtype=np.uint8)
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        await pool.run(tasks.child_looks_again, values, told, seen)
        if its_worker_is == "dead":
            with pytest.raises(aioipc.WorkerCrashed):
                await pool.run(tasks.kill_self, signal.SIGKILL)
        await nothing_is_in_use(pool)
        for n in range(20):
            await pool.run(tasks.echo, np.full(MB, n, dtype=np.uint8))
        await told.write_bytes(b"!")
        assert await seen.read_bytes() == b"\7\7"


async def test_a_worker_is_forked_beside_results_that_are_kept(fork) -> None:
    async with aioipc.WorkerPool(2, mp_context=fork) as pool:
        results = [await pool.run(tasks.echo, np.full(MB, 1.0))]
        await pool.warm_up()  # a fork, that copies what is in view
        results += [await pool.run(tasks.echo, np.full(MB, 2.0)) for _ in range(9)]
        assert [set(result) for result in results] == [{1.0}, *[{2.0}] * 9]
        results[0][:] = 3
        assert set(results[0]) == {3.0}


async def test_a_result_is_free_as_soon_as_it_is_dropped(pool) -> None:
    starts = set()
    for size in (MB, 1000):  # loaded by a thread, and not
        for _ in range(3):
            result = await pool.run(np.ones, size)
            member = max(pool._crew.members.values(), key=lambda one: one.views.memory)
            del result
            starts.update(member.views.released)
            assert len(member.views.released) == (size == MB)
    assert starts == {0}


async def test_what_a_task_keeps_is_free_when_it_is_dropped_later(
    fork, tmp_path
) -> None:
    os.mkfifo(tmp_path / "told")
    async with aioipc.WorkerPool(
        1, mp_context=fork, min_workers=1, idle_timeout=0.01
    ) as pool:
        told = tmp_path / "told"
        await pool.run(tasks.drop_when_told, np.zeros(MB), told)
        assert in_use(pool) == 1
        await anyio.Path(told).write_bytes(b"!")
        with anyio.fail_after(20):
            while in_use(pool):  # with no call that would bring the news
                await anyio.lowlevel.checkpoint()


async def test_one_buffer_that_comes_twice_arrives_as_one(pool) -> None:
    for value in (bytearray(MB), b"x" * MB, np.zeros(MB)):
        assert await pool.run(tasks.are_one, value, value)
    assert not await pool.run(tasks.are_one, bytearray(MB), bytearray(MB))


@pytest.mark.parametrize("size", [100_000, 2 * MB])
async def test_without_shared_memory_what_is_also_in_another_argument_is_one(
    size, fork
) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork, max_shared_memory=0) as pool:
        value = bytearray(size)
        assert await pool.run(tasks.is_in, value, [value])


async def test_arrays_are_one_wherever_they_are(pool) -> None:
    for value in (np.zeros(MB), np.zeros(MB)[::2], array.array("b", bytes(MB))):
        assert await pool.run(tasks.is_in, value, [value])


async def test_results_that_outlive_their_worker_count() -> None:
    async with aioipc.WorkerPool(
        1, mp_context="forkserver", max_shared_memory=24 * MB
    ) as pool:
        kept = await pool.run(np.ones, MB)  # 8 MB of the 12 that results may have
        with pytest.raises(aioipc.WorkerCrashed):
            await pool.run(tasks.kill_self, signal.SIGKILL)
        assert pool.statistics().shared_memory == 8 * MB
        for _ in range(3):
            assert (await pool.run(np.ones, MB)).all()  # through the pipe
            assert pool.statistics().shared_memory == 8 * MB
        await pool.run(np.ones, MB // 4)
        assert pool.statistics().shared_memory == 10 * MB
        assert kept.all()
        del kept
        assert pool.statistics().shared_memory == 2 * MB


async def test_resize_divides_the_memory_anew(fork) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork, max_shared_memory=24 * MB) as pool:
        await pool.run(np.ones, MB)
        pool.resize(2)
        await pool.warm_up()
        results = [await pool.run(np.ones, MB) for _ in range(4)]
        assert pool.statistics().shared_memory == 0
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(pool.run, np.ones, MB // 2)
        assert 0 < pool.statistics().shared_memory <= 12 * MB
        pool.resize(1)
        del results
        with anyio.fail_after(20):
            while pool.statistics().shared_memory < 8 * MB:
                await pool.run(np.ones, MB)


async def test_a_pool_that_grows_keeps_its_bound(fork) -> None:
    limit = 64 * MB
    async with aioipc.WorkerPool(1, mp_context=fork, max_shared_memory=limit) as pool:
        results = [await pool.run(np.ones, MB // 2) for _ in range(8)]  # all of a half
        pool.resize(4)
        await pool.warm_up()
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(pool.run, np.ones, MB // 2)
        assert pool.statistics().shared_memory <= limit // 2
        assert all(result.all() for result in results)


async def test_much_that_outlives_its_worker_is_kept_and_counted() -> None:
    async with aioipc.WorkerPool(1, mp_context="forkserver") as pool:
        results = [await pool.run(np.ones, 3 * MB) for _ in range(3)]
        with pytest.raises(aioipc.WorkerCrashed):
            await pool.run(tasks.kill_self, signal.SIGKILL)
        for kept in (2, 1, 0):
            results.pop()
            with anyio.fail_after(20):
                while pool.statistics().shared_memory != kept * 24 * MB:
                    await anyio.lowlevel.checkpoint()
            assert all(result.all() for result in results)


async def test_arguments_of_what_can_not_be_loaded_are_free(pool, monkeypatch) -> None:
    await pool.warm_up()  # they do not know the module
    module: Any = types.ModuleType("only_here")
    exec("def function(values): pass", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    for _ in range(5):
        with pytest.raises(aioipc.DecodeError):
            await pool.run(tasks.LoadsNot(), np.zeros(MB))
        with pytest.raises(aioipc.DecodeError, match="only_here"):
            await pool.run(module.function, np.zeros(MB))
    await nothing_is_in_use(pool)


async def test_arguments_are_free_where_tracebacks_are_pickled() -> None:
    async with aioipc.WorkerPool(
        1, mp_context="forkserver", initializer=tasks.have_tracebacks_pickled
    ) as pool:
        for _ in range(2):
            with pytest.raises(aioipc.DecodeError):
                await pool.run(tasks.LoadsNot(), np.zeros(MB))
            with pytest.raises(LookupError):
                await pool.run(tasks.refuse, np.zeros(MB))
        await nothing_is_in_use(pool)


async def test_an_interrupt_waits_for_a_fork_to_have_copied(begun) -> None:
    async with aioipc.WorkerPool(1, mp_context="forkserver", grace=30) as pool:
        pid = await pool.run(tasks.pid)
        task = pool.submit(tasks.fork_again_and_again, np.ones(20 * MB), begun)
        await tasks.has_begun(begun)
        task.cancel()
        assert await pool.run(tasks.pid) == pid
        await nothing_is_in_use(pool)


async def test_where_no_thread_can_be_started_it_goes_on(pool, monkeypatch) -> None:
    await pool.warm_up()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    values = np.arange(2 * MB)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert np.array_equal(await pool.run(tasks.echo, values), values)
    assert await pool.run(tasks.echo, b"x" * MB) == b"x" * MB
    monkeypatch.undo()
    await nothing_is_in_use(pool)


async def test_a_child_that_is_left_behind_keeps_no_memory(fork, tmp_path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        child = await pool.run(tasks.leave_child, np.ones(4 * MB), told)
        links, maps = await pool.run(tasks.descriptors_and_maps, child)
        assert "aioipc arguments" not in links
        assert "aioipc results" not in links
        assert not [line for line in maps if "memfd:aioipc" in line and "rw-s" in line]


async def test_the_same_bytes_of_many_items_are_sent_once(pool) -> None:
    got = [one async for one in pool.map(tasks.constant, [0] * 40)]
    assert got == [tasks.CONSTANT] * 40
    assert pool.statistics().shared_memory < 20 * len(tasks.CONSTANT)


async def test_shared_memory_is_not_a_workers_own(fork) -> None:
    pid_before = 0
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        own = await pool.run(resident)
    async with aioipc.WorkerPool(1, mp_context=fork, max_rss=own + 40 * MB) as pool:
        for _ in range(3):
            pid, values = await pool.run(tasks.pid_and, np.zeros(10 * MB))
            assert pid_before in {0, pid}
            pid_before = pid
            del values


async def test_arguments_that_are_kept_are_not_a_workers_own(fork) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        own = await pool.run(resident)
    async with aioipc.WorkerPool(1, mp_context=fork, max_rss=own + 40 * MB) as pool:
        calls = [await pool.run(tasks.keep_and_sum, np.ones(3 * MB)) for _ in range(4)]
        assert len(set(calls)) == 1


async def test_where_there_is_no_memfd_all_goes_through_pipes(
    fork, monkeypatch
) -> None:
    def refuse(*_) -> int:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        for value in VALUES.values():
            assert same(value, await pool.run(tasks.echo, value))
        assert pool.statistics().shared_memory == 0
        with pytest.raises(aioipc.WorkerCrashed, match="SIGKILL"):
            await pool.run(tasks.kill_self, signal.SIGKILL)


async def test_memory_is_shared_unless_it_is_said_not_to_be(fork) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        await pool.run(tasks.echo, np.zeros(MB))
        assert pool.statistics().shared_memory == 16 * MB
    assert 0 < usable_memory() <= os.sysconf("SC_PHYS_PAGES") * 4096


@pytest.mark.slow
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
    await tasks.has_begun(begun)
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


@pytest.mark.slow
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


IN_BAND = {
    "bytes": b"x" * MB,
    "bytearray": bytearray(MB),
    "array": np.zeros(MB),
    "every other": np.zeros(2 * MB)[::2],
    "times": np.zeros(MB, "M8[s]"),
}


@pytest.mark.parametrize("limit", [GB, 0], ids=["shared", "in band"])
@pytest.mark.parametrize("name", IN_BAND)
async def test_what_is_large_in_band_is_copied_by_a_thread(name, limit, fork) -> None:
    # All of it is pickled anew there, and what comes behind it only there.
    witness = tasks.Witness()
    witness.threads.clear()
    async with aioipc.WorkerPool(1, mp_context=fork, max_shared_memory=limit) as pool:
        value, _ = await pool.run(tasks.echo, [IN_BAND[name], witness])
        assert np.array_equal(value, IN_BAND[name])
    goes_out_of_band = limit and name in {"array", "times"}
    here = threading.current_thread()
    assert [thread is here for thread in witness.threads] == [bool(goes_out_of_band)]


IMPORTS = """
import sys, threading
import anyio, aioipc

imported = {}

class Finder:
    @staticmethod
    def find_spec(name, *_):
        imported[name] = threading.current_thread() is threading.main_thread()

async def main():
    async with aioipc.WorkerPool(1, mp_context=sys.argv[1]) as pool:
        await pool.warm_up()
        before = imported.copy()
        await pool.run(len, [b"x" * (1 << 20)])
    for name in "aioipc.memory.copying", "aioipc.memory.looks", "aioipc.memory.mapping":
        print(name in before, imported[name])

if __name__ == "__main__":
    sys.meta_path.insert(0, Finder)
    anyio.run(main)
"""


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        # A fork while a thread imports a module has that locked for ever.
        ("fork", "True False"),
        # The loop does not wait for the import of a thread.
        ("forkserver", "False True"),
    ],
)
def test_what_a_pool_begins_without_is_imported_in_time(context, expected) -> None:
    program = [sys.executable, "-c", IMPORTS, context]
    run = subprocess.run(program, check=True, capture_output=True, text=True)
    assert run.stdout.split("\n") == [expected] * 3 + [""]


@pytest.mark.parametrize("kind", ["arrays", "bytes"])
async def test_maps_of_large_items(kind, pool) -> None:
    values = [np.full(20_000, n) for n in range(100)]
    if kind == "bytes":
        values = [value.tobytes() for value in values]
    got = [value async for value in pool.map(tasks.echo, values)]
    assert all(map(same, values, got))
    assert pool._crew.memory.arena.memory
    assert any(member.views.memory for member in pool._crew.members.values())
    del got
    await nothing_is_in_use(pool)


@pytest.mark.parametrize("size", [100_000, 2 * MB])
@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_large_bytes_in_rows_share_memory(kind, size, pool) -> None:
    rows = [(kind(size), kind(size)), [b"small", kind(size)], (kind(size), b"small")]
    for results in pool.starmap(max, rows), pool.map(max, *zip(*rows, strict=True)):
        got = [value async for value in results]
        assert got == [max(*row) for row in rows]
        assert pool._crew.memory.arena.memory >= 2 * size
        pool._crew.memory.arena.trim()
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


@pytest.mark.parametrize(
    "value",
    [array.array("d", bytes(MB)), np.ones(MB // 4)[::2], np.zeros(MB // 8, "M8[s]")],
    ids=["array", "every other", "times"],
)
async def test_what_pickle_is_taught_cloudpickle_is_taught_too(value, fork) -> None:
    async with aioipc.WorkerPool(
        1, mp_context=fork, serializer="cloudpickle", max_shared_memory=GB
    ) as pool:
        assert await pool.run(lambda x: len(x) + 1, value) == len(value) + 1
        assert pool._crew.memory.arena.memory == MB
