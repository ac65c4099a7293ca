"""The calls of a `DaskPool`: their arguments, results, cancels and deaths."""

import warnings

import anyio
import dask_tasks
import numpy as np
import pytest
from dask_views import client_of, run_program

import aioipc
from aioipc import WorkerCrashed
from aioipc.dask import DaskPool
from aioipc.testing.gates import Gate, wait_at


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


async def test_what_cannot_be_pickled_is_named(pool) -> None:
    with pytest.raises(aioipc.EncodeError, match="argument 2 -> a generator"):
        await pool.run(lambda one, other: None, lambda: 1, (n for n in ()))


async def test_a_name_that_is_no_text_is_a_name(pool) -> None:
    named = pool.options(name="\ud800")
    assert await named.run(abs, -1) == 1
    assert "\ud800" in repr(named.submit(abs, -1))


async def test_a_map_that_began_before_the_pool_was_connected_is_as_wide(
    cluster,
) -> None:
    most = 0
    pool = DaskPool(cluster, 2)
    try:
        async with pool.map(dask_tasks.square, range(10_000)) as results:
            async for _ in results:
                most = max(most, len(pool._engine.open))
    finally:
        await pool.aclose()
    assert most > 8  # chunks, as many as there are for one worker


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
    many = [float(n) for n in range(2_000_000)]  # of so much in a graph Dask warns
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


@pytest.mark.slow
async def test_a_worker_that_does_not_answer_keeps_no_call_from_being_withdrawn(
    new_cluster, monkeypatch
) -> None:
    async def deaf(keys: object) -> None:
        await anyio.sleep_forever()

    async with DaskPool(new_cluster(1).address) as pool, Gate() as gate:
        monkeypatch.setattr(client_of(pool), "call_stack", deaf)
        running = pool.submit(wait_at, gate.address)
        visit = await gate.visit()
        await pool._engine.until(lambda: running.started)
        unwanted = pool.submit(wait_at, gate.address, "unwanted")
        await pool._engine.until(lambda: len(pool._engine._sent) == 2)
        assert running.cancel()
        assert unwanted.cancel()
        await pool._engine.until(lambda: len(pool._engine._sent) == 1)
        last = pool.submit(wait_at, gate.address, "last")
        while set((await client_of(pool).run(dask_tasks.held)).values()) != {2}:
            pass  # the worker has not heard of it yet
        await visit.let_go()
        visit = await gate.visit()
        assert visit.name == "last"
        await visit.let_go()
        assert await last == "go"


async def test_a_large_call_that_is_cancelled_while_there_is_no_worker(
    new_cluster, monkeypatch
) -> None:
    async def nobody(*args: object, **options: object) -> None:
        raise TimeoutError("no workers")

    async with DaskPool(new_cluster(0).address, 1) as pool:
        monkeypatch.setattr(client_of(pool), "scatter", nobody)
        call = pool.submit(dask_tasks.total, np.ones(1 << 18))
        await pool._engine.until(lambda: pool._engine._sent)
        call.cancel()
        await pool._engine.until(lambda: not pool._engine._sent)
        await pool._engine.until(lambda: not len(pool._engine._sender.scattering))


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


@pytest.mark.slow
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


@pytest.mark.slow
async def test_a_task_that_kills_its_workers_by_a_large_argument(
    new_cluster, tmp_path
) -> None:
    path = tmp_path / "calls"
    async with DaskPool(new_cluster(4).address) as pool:
        for retries, times in ((0, 4), (1, 12)):
            await client_of(pool).wait_for_workers(4, timeout=30)
            with pytest.raises(
                WorkerCrashed, match="task die_with: its data were lost"
            ):
                await pool.options(retries=retries).run(
                    dask_tasks.die_with, np.ones(1 << 18), str(path)
                )
            assert path.read_text() == "x" * times
            assert pool.statistics().crashes == times // 4


async def test_large_data_that_meet_a_dying_worker_are_sent_again(
    pool, monkeypatch
) -> None:
    scatter, errors = client_of(pool).scatter, [OSError("gone"), TimeoutError()]

    async def failing(*args: object, **options: object) -> object:
        if errors:
            raise errors.pop()
        return await scatter(*args, **options)

    monkeypatch.setattr(client_of(pool), "scatter", failing)
    assert await pool.run(dask_tasks.total, np.ones(1 << 18)) == 1 << 18
    assert not errors


async def test_a_begun_call_that_is_made_again_has_its_time_anew(pool) -> None:
    async with Gate() as gate:
        call = pool.options(timeout=20).submit(wait_at, gate.address)
        visit = await gate.visit()
        await pool._engine.until(lambda: call.started)
        (sent,) = pool._engine._sent.values()
        timer = sent.timer
        await visit.let_die()
        visit = await gate.visit()
        await pool._engine.until(lambda: sent.timer is not timer)
        assert timer.cancelled()
        await visit.let_go()
        assert await call == "go"


# The main module


def test_what_is_of_the_main_module_travels_by_value(cluster) -> None:
    code = f"""if True:
        import asyncio
        from aioipc.dask import DaskPool

        class Pair:
            def __init__(self, one):
                self.one = one

        class Mine(Exception):
            pass

        def double(n):
            return Pair(2 * n)

        def fail(n):
            raise Mine(n)

        def either(n):
            return (lambda: n) if n else (m for m in ())

        async def main():
            async with DaskPool({cluster!r}) as pool:
                print((await pool.run(double, 21)).one)
                try:
                    await pool.run(fail, 1)
                except Mine as error:
                    print("caught", error)
                try:
                    async for _ in pool.map(fail, [2, 3]):
                        pass
                except Mine as error:
                    print("caught", error)
                async for result in pool.map(either, [4, 0], return_exceptions=True):
                    print(result() if callable(result) else type(result).__name__)

        asyncio.run(main())
    """
    done = run_program(code)
    lines = ["42", "caught 1", "caught 2", "4", "EncodeError", ""]
    assert (done.stdout, done.stderr) == ("\n".join(lines), "")
