"""`DaskPool`: where its cluster is, its calls, cancels and deaths."""

import subprocess
import sys
import warnings
from typing import Any

import anyio
import anyio.lowlevel
import dask_tasks
import numpy as np
import pytest
from distributed import Client

import aioipc
from aioipc import WorkerCrashed, WorkerStartError
from aioipc.dask import DaskPool, home
from aioipc.testing.gates import Gate, wait_at


def client_of(pool: DaskPool) -> Any:
    return pool._engine._connection.client


# Where it is


async def test_a_cluster_that_is_nowhere() -> None:
    pool = DaskPool("tcp://127.0.0.1:9", connect_timeout=0.2)
    with pytest.raises(WorkerStartError, match=r"can't reach Dask, tcp://127.0.0.1:9"):
        async with pool:
            pass
    with pytest.raises(WorkerStartError, match=r"can't reach Dask"):
        await pool.run(abs, -1)


def test_under_trio_it_says_that_dask_needs_asyncio(cluster) -> None:
    async def main() -> None:
        with pytest.raises(aioipc.EventLoopError, match="DaskPool needs asyncio"):
            async with DaskPool(cluster):
                pass

    anyio.run(main, backend="trio")


async def test_what_is_opened_by_its_address(cluster) -> None:
    address = cluster.replace("tcp://", "dask://")
    async with aioipc.open_pool(address, max_workers=1, name="far") as pool:
        assert await pool.run(abs, -1) == 1
        assert repr(pool) == "<DaskPool 'far' workers=1/1 running=0 pending=0>"


async def test_calls_before_it_is_connected_wait_for_that(cluster) -> None:
    pool = DaskPool(cluster)
    try:
        assert await pool.submit(abs, -1) == 1
    finally:
        await pool.aclose()


async def test_a_client_of_the_users_stays_as_it_is(cluster) -> None:
    async with Client(cluster, asynchronous=True, set_as_default=False) as client:
        async with DaskPool(client) as pool:
            assert await pool.run(abs, -1) == 1
        assert client.status == "running"
        assert not client.futures
        assert await client.submit(abs, -2) == 2


def test_a_client_that_blocks_is_refused(cluster) -> None:
    async def main() -> None:
        with pytest.raises(WorkerStartError, match="asynchronous=True"):
            async with DaskPool(client):
                pass

    with Client(cluster, set_as_default=False) as client:
        anyio.run(main)


async def test_how_many_tasks_a_cluster_may_have_of_a_pool(cluster) -> None:
    async with DaskPool(cluster, max_workers=1) as pool, Gate() as gate:
        tasks = [pool.submit(wait_at, gate.address, str(n)) for n in range(3)]
        for n in range(3):
            visit = await gate.visit()
            assert visit.name == str(n)
            assert len(pool._engine._sent) == 1
            await visit.let_go()
        assert [await task for task in tasks] == ["go"] * 3


# Calls


async def test_a_function_that_has_no_name_travels_by_value(pool) -> None:
    assert await pool.run(lambda n: n + 1, 1) == 2
    add = 3
    assert [n async for n in pool.map(lambda n: n + add, range(3))] == [3, 4, 5]


def test_a_function_of_the_main_module_travels_by_value(cluster) -> None:
    code = f"""if True:
        import asyncio
        from aioipc.dask import DaskPool, home

        class Pair:
            def __init__(self, one):
                self.one = one

        def double(n):
            return Pair(2 * n)

        async def main():
            async with DaskPool({cluster!r}) as pool:
                print((await pool.run(double, 21)).one)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("42\n", "")


async def test_what_cannot_be_loaded_there_fails_one_call(pool) -> None:
    with pytest.raises(aioipc.DecodeError, match="nowhere to be found"):
        await pool.run(len, dask_tasks.NotThere())
    assert await pool.run(abs, -1) == 1


async def test_a_large_argument_is_sent_once_and_each_task_has_a_copy(
    pool, monkeypatch
) -> None:
    sent: list[object] = []
    scatter = client_of(pool).scatter

    def counted(value: object, **options: object) -> object:
        sent.append(value)
        return scatter(value, **options)

    monkeypatch.setattr(client_of(pool), "scatter", counted)
    large = np.zeros(1 << 18)
    calls = [pool.submit(dask_tasks.set_first, large, n) for n in range(10)]
    assert [await call for call in calls] == [0] * 10
    assert len(sent) == 1
    sent.clear()
    rows = [(large, 1)] * 10
    assert [n async for n in pool.starmap(dask_tasks.set_first, rows)] == [0] * 10
    assert len(sent) == 1
    assert large[0] == 0
    await pool._engine.until(lambda: not len(pool._engine._sender.scattering))


@pytest.mark.parametrize("kind", [bytes, bytearray, np.frombuffer])
async def test_large_data_arrive_as_what_they_were(pool, kind) -> None:
    data = kind(bytes(range(256)) * 8192)
    for got in (
        await pool.run(dask_tasks.same, data),
        await anext(aiter(pool.map(dask_tasks.same, [data]))),
    ):
        assert type(got) is type(data)
        assert bytes(got) == bytes(data)
    got = await pool.run(np.ones, 1 << 18)
    got[0] = 2  # it is the caller's own


async def test_a_large_pickle_goes_past_the_scheduler(pool) -> None:
    many = [float(n) for n in range(200_000)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await pool.run(sum, many) == sum(many)


async def test_a_map_has_only_its_window_on_the_scheduler(pool) -> None:
    most = 0
    async with pool.map(dask_tasks.square, range(1_000_000)) as results:
        async for result in results:
            most = max(most, len(pool._engine.open))
            if result > 10_000**2:
                break
    assert 0 < most <= 16  # chunks, eight for each worker
    assert await pool.run(abs, -1) == 1


# Cancels


async def test_a_task_that_is_cancelled_before_it_begins_never_does(
    new_cluster,
) -> None:
    program = new_cluster(1)
    async with DaskPool(program.address) as pool, Gate() as gate:
        running = pool.submit(wait_at, gate.address)
        visit = await gate.visit()
        unwanted = [pool.submit(wait_at, gate.address, "unwanted") for _ in range(20)]
        await pool._engine.until(lambda: len(pool._engine._sent) == 21)
        assert all(call.cancel() for call in unwanted)
        await pool._engine.until(lambda: len(pool._engine._sent) == 1)
        client = client_of(pool)
        while set((await client.run(dask_tasks.held)).values()) != {1}:
            pass  # the worker has not heard of it yet
        last = pool.submit(wait_at, gate.address, "last")
        await visit.let_go()
        visit = await gate.visit()
        assert visit.name == "last"
        await visit.let_go()
        assert [await running, await last] == ["go"] * 2


async def test_a_task_that_is_abandoned_keeps_its_worker_busy(pool) -> None:
    async with Gate() as gate:
        call = pool.submit(wait_at, gate.address)
        visit = await gate.visit()
        call.cancel()
        for n in range(20):
            assert await pool.run(dask_tasks.square, n) == n * n
        await visit.let_go()
        await visit.end()


async def test_a_handle_tells_whether_its_task_has_begun(pool) -> None:
    shielded = pool.options(on_cancel="shield")
    async with Gate() as gate:
        call = shielded.submit(wait_at, gate.address)
        assert not call.started
        visit = await gate.visit()
        await pool._engine.until(lambda: call.started)
        assert "running" in repr(call)
        assert not call.cancel()
        await visit.let_go()
        assert await call == "go"


# Deaths


async def test_a_worker_killed_in_the_middle_of_1000_tasks(whole) -> None:
    async with Gate() as gate:
        dying = whole.submit(wait_at, gate.address)
        visit = await gate.visit()
        calls = [whole.submit(dask_tasks.square, n) for n in range(1000)]
        for call in calls[:300]:
            await call
        await visit.let_die()
        await (await gate.visit()).let_go("again")
        assert await dying == "again"
        assert [await call for call in calls] == [n * n for n in range(1000)]


@pytest.mark.parametrize("kind", [np.ones, lambda size: [1.0] * size])
async def test_what_is_lost_with_its_worker_is_sent_again(pool, kind) -> None:
    large = kind(1 << 18)
    async with Gate() as gate:
        call = pool.submit(dask_tasks.total, large, gate.address)
        visit = await gate.visit()
        await visit.let_die()
        await (await gate.visit()).let_go()
        assert await call == 1 << 18


@pytest.mark.slow
async def test_a_task_that_kills_every_worker(cluster) -> None:
    async with DaskPool(cluster) as pool:
        with pytest.raises(WorkerCrashed, match=r"task die: .* on 4 "):
            await pool.run(dask_tasks.die)
        assert pool.statistics().crashes == 1
        with pytest.raises(WorkerCrashed, match="task die"):
            await pool.options(retries=1).run(dask_tasks.die)
        assert pool.statistics().crashes == 3
        assert await pool.run(abs, -1) == 1


async def test_the_scheduler_killed_while_tasks_run(new_cluster) -> None:
    program = new_cluster(1)
    async with DaskPool(program.address) as pool, Gate() as gate:
        running = pool.submit(wait_at, gate.address)
        await gate.visit()
        pending = pool.submit(abs, -1)
        program.kill()
        with anyio.fail_after(10):
            for call in (running, pending):
                with pytest.raises(
                    aioipc.BrokenResourceError, match="scheduler is lost"
                ):
                    await call
            with pytest.raises(aioipc.BrokenResourceError, match="scheduler is lost"):
                await pool.run(abs, -1)
            await pool.aclose()


@pytest.mark.slow
async def test_the_scheduler_killed_while_nothing_is_at_work(new_cluster) -> None:
    program = new_cluster(0)
    async with DaskPool(program.address) as pool:
        program.kill()
        with anyio.fail_after(10):
            await pool._engine.until(lambda: pool._engine.refusal is not None)
            with pytest.raises(aioipc.BrokenResourceError, match="scheduler is lost"):
                pool.submit(abs, -1)
            await pool.aclose()


# A cluster of its own


async def test_a_cluster_of_its_own_ends_with_it() -> None:
    async with DaskPool(
        max_workers=1, initializer=dask_tasks.remember, initargs=("ready",)
    ) as pool:
        assert await pool.run(dask_tasks.words) == ["ready"]
        pool.resize(2)
        async with Gate() as gate:
            calls = [pool.submit(wait_at, gate.address) for _ in range(2)]
            for visit in [await gate.visit() for _ in calls]:
                await visit.let_go()
            assert [await call for call in calls] == ["go"] * 2


@pytest.mark.slow
async def test_a_cluster_of_its_own_is_killed_when_there_is_no_time() -> None:
    async with Gate() as gate:
        async with DaskPool(max_workers=1) as pool:
            call = pool.submit(wait_at, gate.address)
            visit = await gate.visit()
            await pool.aclose(grace=0)
        with pytest.raises(aioipc.TaskCancelled):
            await call
        await visit.end()


async def test_an_initializer_that_raises(cluster) -> None:
    pool = DaskPool(cluster, initializer=dask_tasks.refuse, initargs=("mine",))
    with pytest.raises(WorkerStartError, match=r"LookupError: .*mine"):
        async with pool:
            pass
    async with DaskPool(cluster) as other:  # which a worker that starts is not lost to
        await client_of(other).wait_for_workers(3, timeout=30)
        async with Gate() as gate:
            call = other.submit(wait_at, gate.address)
            await (await gate.visit()).let_die()
            await (await gate.visit()).let_go()
            assert await call == "go"
        await client_of(other).wait_for_workers(3, timeout=30)


async def test_an_initializer_that_raises_in_a_worker_that_comes_later(
    new_cluster, tmp_path
) -> None:
    program = new_cluster(1)
    path = str(tmp_path / "there")
    async with DaskPool(
        program.address,
        initializer=dask_tasks.refuse_if_there_was_one,
        initargs=(path,),
    ) as pool:
        with pytest.raises(WorkerStartError, match=r"FileExistsError.*there"):
            await pool.run(dask_tasks.die)
        with pytest.raises(WorkerStartError, match=r"FileExistsError.*there"):
            await pool.run(abs, -1)
    async with DaskPool(program.address) as other:
        assert await other.run(abs, -1) == 1


@pytest.mark.parametrize("is_given_up", [True, False])
async def test_a_worker_that_is_gone_for_good_is_replaced(
    monkeypatch, is_given_up
) -> None:
    monkeypatch.setattr(home, "TENDING", 0.05)
    async with DaskPool(max_workers=1) as pool:
        workers = pool._engine._home.cluster.workers
        nanny = workers.pop(0) if is_given_up else workers[0]  # as its cluster does
        await nanny.close()
        assert await pool.run(abs, -1) == 1


# Without it


def test_without_the_extra_it_says_what_to_install() -> None:
    code = """if True:
        import sys
        sys.modules["distributed"] = None
        import aioipc
        for attempt in ("import aioipc.dask", "aioipc.open_pool('dask://here:1')"):
            try:
                exec(attempt)
            except ModuleNotFoundError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("pip install 'aioipc[dask]'") for line in lines)
