"""Where the cluster of a `DaskPool` is: reached, lost, started, left."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys

import anyio
import dask_tasks
import dask_views
import psutil
import pytest
from dask_views import client_of, run_program
from distributed import Client, LocalCluster

import aioipc
from aioipc import WorkerStartError
from aioipc.dask import DaskPool, home
from aioipc.testing.gates import Gate, wait_at

pytestmark = pytest.mark.slow


def drop(pools: list[DaskPool]) -> None:
    pools.clear()
    gc.collect()


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


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


async def test_a_cluster_of_the_users_stays_as_it_is() -> None:
    async with LocalCluster(
        n_workers=1,
        processes=False,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        asynchronous=True,
    ) as cluster:
        async with DaskPool(cluster) as pool:
            assert await pool.run(os.getpid) == os.getpid()
        assert cluster.status.name == "running"
        async with DaskPool(cluster) as pool:
            assert await pool.run(abs, -1) == 1


async def test_a_scheduler_that_accepts_and_says_nothing() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        where = listener.extra(anyio.abc.SocketAttribute.local_port)
        pool = DaskPool(f"tcp://127.0.0.1:{where}", connect_timeout=0.2)
        with anyio.fail_after(10):
            with pytest.raises(WorkerStartError, match=r"no answer within 0\.2 s"):
                async with pool:
                    pass


async def test_a_client_that_is_closed_is_refused(cluster) -> None:
    async with Client(cluster, asynchronous=True, set_as_default=False) as client:
        pass
    with anyio.fail_after(10):
        with pytest.raises(WorkerStartError, match="closed"):
            async with DaskPool(client):
                pass


async def test_an_initializer_that_raises_leaves_a_client_as_it_was(
    cluster, caplog
) -> None:
    async with Client(cluster, asynchronous=True, set_as_default=False) as client:
        with pytest.raises(WorkerStartError, match="mine"):
            async with DaskPool(
                client, initializer=dask_tasks.refuse, initargs=("mine",)
            ):
                pass
        assert client.status == "running"
        assert not [it for it in caplog.records if it.name.startswith("aioipc")]


async def test_a_client_that_its_user_closes_under_the_pool(cluster) -> None:
    async with (
        Client(cluster, asynchronous=True, set_as_default=False) as client,
        DaskPool(client) as pool,
        Gate() as gate,
    ):
        call = pool.submit(wait_at, gate.address)
        await gate.visit()
        await client.close()
        with anyio.fail_after(10):
            with pytest.raises(aioipc.BrokenResourceError):
                await call


async def test_a_cluster_that_its_user_restarts_costs_what_runs(new_cluster) -> None:
    address = new_cluster(1).address
    async with (
        Client(address, asynchronous=True, set_as_default=False) as client,
        DaskPool(client) as pool,
        Gate() as gate,
    ):
        call = pool.submit(wait_at, gate.address)
        await gate.visit()
        await client.restart()
        with pytest.raises(aioipc.WorkerCrashed, match="restart"):
            await call
        assert await pool.run(abs, -1) == 1


async def test_a_pool_that_is_dropped_leaves_the_cluster(cluster) -> None:
    async with Client(cluster, asynchronous=True, set_as_default=False) as client:

        async def names() -> set[str]:
            return await client.run_on_scheduler(dask_views.names)

        before = await names()
        pools = [DaskPool(cluster, initializer=dask_tasks.remember, initargs=("x",))]
        await pools[0].Queue().put(1)
        await pools[0].run(abs, -1)
        assert await names() > before
        engine = pools[0]._engine
        with pytest.warns(ResourceWarning, match="unclosed <DaskPool"):
            drop(pools)
        await engine.until(engine.has_no_workers)
        assert await names() == before


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


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("is_hasty", [False, True])
async def test_a_pool_that_is_closed_while_its_cluster_starts(
    monkeypatch, is_late, is_hasty
) -> None:
    if is_hasty:
        monkeypatch.setattr("aioipc.dask.engine._CLOSING", 0.001)
    pool = DaskPool(max_workers=1)
    async with anyio.create_task_group() as group:

        async def enter() -> None:
            with contextlib.suppress(aioipc.ClosedResourceError):
                await pool.__aenter__()

        before = len(children())
        group.start_soon(enter)
        while is_late and len(children()) == before:
            await anyio.lowlevel.checkpoint()
        while pool._engine is None:
            await anyio.lowlevel.checkpoint()
        await pool.aclose(grace=0)
    await asyncio.wait({pool._engine._closing})


async def test_a_pool_that_is_dropped_takes_its_cluster_along() -> None:
    pools = [DaskPool(max_workers=1)]
    await pools[0].Lock().acquire()
    worker = psutil.Process(await pools[0].run(dask_tasks.pid))
    engine = pools[0]._engine
    with pytest.warns(ResourceWarning, match="unclosed <DaskPool"):
        drop(pools)
    await engine.until(engine.has_no_workers)
    assert not worker.is_running()


def test_a_cluster_ends_with_the_event_loop(anyio_backend) -> None:
    code = """if True:
        import asyncio, os, sys
        import psutil
        from aioipc.dask import DaskPool

        async def main():
            global pool
            pool = DaskPool(max_workers=1)
            return await pool.run(os.getpid)

        if __name__ == "__main__":
            pid = asyncio.run(main())
            print(psutil.pid_exists(pid))
    """
    done = run_program(code, "-W", "ignore")
    assert done.stdout == "False\n", done.stderr


async def test_a_fork_leaves_the_cluster_to_its_parent() -> None:
    async with DaskPool(max_workers=1) as pool:
        pid = await pool.run(dask_tasks.pid)
        child = os.fork()
        if not child:
            try:
                pool._abandon()  # as its collection does
                asyncio.set_event_loop(None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222 - it does not take long
        assert await pool.run(dask_tasks.pid) == pid


async def test_workers_are_replaced_after_that_has_failed_once(monkeypatch) -> None:
    monkeypatch.setattr(home, "TENDING", 0.01)
    async with DaskPool(max_workers=1) as pool:
        cluster = pool._engine._home.cluster
        scale_down, errors = cluster.scale_down, [OSError("this time not")]

        async def failing(names: object) -> None:
            if errors:
                raise errors.pop()
            await scale_down(names)

        monkeypatch.setattr(cluster, "scale_down", failing)
        await cluster.workers[0].close()
        assert await pool.run(abs, -1) == 1
        assert not errors


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
