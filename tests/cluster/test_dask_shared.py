"""Queues, locks, semaphores and events that the tasks of a `DaskPool` share."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import dask
import dask_tasks
import dask_views
import pytest
from dask_views import client_of, run_program
from distributed import Client

import aioipc
from aioipc.dask import DaskPool, shared
from aioipc.testing.gates import Gate, wait_at

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that no one awaits any more is still there when a test needs it."""
    monkeypatch.setattr(shared, "PATIENCE", 20.0)


async def waiting(
    pool: DaskPool,
    waits: Coroutine[Any, Any, Any],
    count: Callable[..., int],
    name: str,
) -> "asyncio.Task[Any]":
    """Begin a wait; return once its request is in the scheduler."""
    before = await asked(pool, count, name)
    task = asyncio.ensure_future(waits)
    while await asked(pool, count, name) <= before:
        pass
    return task


async def asked(pool: DaskPool, count: Callable[..., int], name: str) -> int:
    return await client_of(pool).run_on_scheduler(count, name)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_queue_that_tasks_put_into_and_get_from(pool) -> None:
    queue = pool.Queue(maxsize=2)
    call = pool.submit(dask_tasks.put_all, queue, [("one", 1), {"two": 2}, None])
    assert [await queue.get() for _ in range(3)] == [("one", 1), {"two": 2}, None]
    await call
    await queue.put(3)
    assert await queue.qsize() == 1
    assert await pool.run(dask_tasks.get_one, queue) == 3
    with pytest.raises(aioipc.QueueEmpty):
        await queue.get(timeout=0.01)
    for n in range(2):
        await queue.put(n)
    with pytest.raises(aioipc.QueueFull):
        await queue.put(2, timeout=0.01)
    assert [await queue.get() for _ in range(2)] == [0, 1]


async def test_what_a_cancelled_get_takes_is_for_the_next_one(pool) -> None:
    queue = pool.Queue()
    await queue.qsize()
    get = await waiting(pool, queue.get(), dask_views.queue_waiters, queue.name)
    await cancelled(get)
    for n in range(3):
        await queue.put(n)
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]


async def test_what_a_cancelled_get_takes_is_for_one_that_waits(pool) -> None:
    queue = pool.Queue()
    await queue.qsize()
    first, second = [
        await waiting(pool, queue.get(), dask_views.queue_waiters, queue.name)
        for _ in range(2)
    ]
    await cancelled(first)
    await queue.put("item")
    with anyio.fail_after(10):
        assert await second == "item"


async def test_a_get_that_is_cancelled_as_it_is_served_gives_it_to_the_next(
    pool,
) -> None:
    queue = pool.Queue()
    await queue.qsize()
    first, second = [
        await waiting(pool, queue.get(), dask_views.queue_waiters, queue.name)
        for _ in range(2)
    ]
    for n in range(2):
        queue._hold(aioipc.dask.remote.dumps(n))  # as what has come is
    await cancelled(first)
    assert await second == 1
    assert await queue.get() == 0


async def test_what_a_cancelled_get_takes_goes_back_when_its_pool_closes(
    pool, cluster
) -> None:
    queue = pool.Queue(2, name="of-two")
    async with DaskPool(cluster) as other:
        its = other.Queue(2, name="of-two")
        await its.qsize()
        for _ in range(2):
            get = await waiting(other, its.get(), dask_views.queue_waiters, "of-two")
            await cancelled(get)
        for n in range(2):
            await queue.put(n)
        while len(its._kept.held) < 2:
            await anyio.lowlevel.checkpoint()
        for n in range(2, 4):
            await queue.put(n)  # it is full
    assert [await queue.get(timeout=10) for _ in range(4)] == [0, 1, 2, 3]


async def test_a_lock_that_a_task_holds(pool) -> None:
    lock, inside = pool.Lock(), pool.Event()
    async with Gate() as gate:
        call = pool.submit(dask_tasks.hold, lock, inside, gate.address)
        visit = await gate.visit()
        assert await inside.is_set()
        assert not await lock.acquire(timeout=0.01)
        await visit.let_go()
        await call
    async with lock:
        assert not await pool.run(dask_tasks.may_enter, lock)
    assert await pool.run(dask_tasks.may_enter, lock)


async def test_a_cancelled_acquire_gives_back_what_it_gets(pool) -> None:
    lock = pool.Lock()
    await lock.acquire()
    acquire = await waiting(
        pool, lock.acquire(), dask_views.semaphore_waiters, lock.name
    )
    await cancelled(acquire)
    await lock.release()
    with anyio.fail_after(10):
        await lock.acquire()
    await lock.release()


async def test_a_cancelled_acquire_holds_nothing_once_its_pool_is_closed(
    pool, cluster
) -> None:
    lock = pool.Lock("of-two")
    await lock.acquire()
    async with DaskPool(cluster) as other:
        acquire = await waiting(
            other,
            other.Lock("of-two").acquire(),
            dask_views.semaphore_waiters,
            lock.name,
        )
        await cancelled(acquire)
        await lock.release()
    assert await lock.acquire(timeout=10)
    await lock.release()


async def test_what_a_pool_has_acquired_is_free_once_it_is_closed(
    pool, cluster
) -> None:
    async with DaskPool(cluster) as other:
        await other.Lock("of-two").acquire()
    assert await pool.Lock("of-two").acquire(timeout=10)


async def test_a_scope_that_is_cancelled_within_a_lock_leaves_it(pool) -> None:
    lock = pool.Lock()
    with anyio.CancelScope() as scope:
        async with lock:
            scope.cancel()
            await anyio.sleep_forever()
    assert await lock.acquire(timeout=10)


async def test_a_lock_is_released_within_the_grace_of_its_pool(cluster) -> None:
    async with DaskPool(cluster, grace=20) as pool:
        lock = pool.Lock()
        await lock.acquire()
        call = pool.submit(dask_tasks.enter, lock)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as group:
            group.start_soon(pool.aclose)
            while pool._engine.refusal is None:
                await anyio.lowlevel.checkpoint()
            await lock.release()
        assert await call


@pytest.mark.parametrize("kind", ["own", "lost", "never refreshed"])
async def test_nothing_is_done_about_a_lock_once_its_pool_is_closed(
    new_cluster, kind
) -> None:
    timeout = "inf" if kind == "never refreshed" else "30s"
    program = None if kind == "own" else new_cluster(0)
    with dask.config.set({"distributed.scheduler.locks.lease-timeout": timeout}):
        async with DaskPool(program and program.address, 1) as pool:
            lock = pool.Lock()
            await lock.acquire()
            refreshing = getattr(lock._kept.made, "refresh_callback", None)
            if kind == "lost":
                program.kill()
                await pool._engine.until(lambda: pool._engine.refusal is not None)
    assert (refreshing is None) == (kind == "never refreshed")
    assert refreshing is None or not refreshing.is_running()
    assert client_of(pool).status == "closed"


async def test_a_semaphore_has_so_many_permits(pool) -> None:
    semaphore = pool.Semaphore(2)
    assert await semaphore.acquire()
    assert await pool.run(dask_tasks.may_enter, semaphore)
    assert await semaphore.acquire()
    assert not await pool.run(dask_tasks.may_enter, semaphore)
    for _ in range(2):
        await semaphore.release()
    with pytest.raises(RuntimeError):
        await semaphore.release()


async def test_an_event_that_all_wait_for(pool) -> None:
    event = pool.Event("of-all")
    assert repr(event) == "<DaskEvent 'of-all'>"
    calls = [pool.submit(dask_tasks.wait_for, event) for _ in range(2)]
    assert not await event.wait(timeout=0.01)
    await event.set()
    assert await event.wait()
    assert [await call for call in calls] == [True, True]
    await event.clear()
    assert not await event.is_set()


async def test_what_has_no_name_ends_with_the_pool(cluster) -> None:
    async with Client(cluster, asynchronous=True, set_as_default=False) as client:

        async def names() -> set[str]:
            return await client.run_on_scheduler(dask_views.names)

        before = await names()
        async with DaskPool(cluster) as pool:
            queue, lock, event = pool.Queue(), pool.Lock(), pool.Event()
            await queue.put(1)
            await lock.acquire()
            await event.set()
            for each in (queue, pool.Lock(), pool.Queue()):
                await pool.run(dask_tasks.may_enter_or_has, each)
            assert len(await names() - before) == 6
        assert not await names() - before
    with pytest.raises(aioipc.ClosedResourceError):
        await queue.get()


@pytest.mark.parametrize("how", ["with its pool", "by itself"])
async def test_tasks_that_wait_for_what_has_ended_raise(new_cluster, how) -> None:
    address = new_cluster(3).address
    async with DaskPool(address) as pool:
        queue, lock, event = pool.Queue(), pool.Lock(), pool.Event()
        await lock.acquire()
        calls = [
            pool.submit(dask_tasks.get_one, queue),
            pool.submit(dask_tasks.enter, lock),
            pool.submit(dask_tasks.wait_for, event),
        ]
        for count, each in (
            (dask_views.queue_waiters, queue),
            (dask_views.semaphore_waiters, lock),
            (dask_views.event_waiters, event),
        ):
            while not await asked(pool, count, each.name):
                pass
        if how == "by itself":
            for each in (queue, lock, event):
                await each.aclose()
            for call in calls:
                with pytest.raises(RuntimeError, match="has ended"):
                    await call
        else:
            await pool.aclose(grace=0)
    async with DaskPool(address, grace=20) as other, Gate() as gate:
        calls = [other.submit(wait_at, gate.address) for _ in range(3)]
        for visit in [await gate.visit() for _ in calls]:  # all workers are free
            await visit.let_go()


def all_waits(pool: DaskPool) -> list["asyncio.Task[Any]"]:
    lock = pool.Lock()

    async def acquire() -> None:
        await lock.acquire()
        await lock.acquire()

    waits = [pool.Queue().get(), acquire(), pool.Event().wait()]
    return [asyncio.ensure_future(wait) for wait in waits]


async def test_who_waits_when_the_pool_is_closed_is_told(cluster, monkeypatch) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.2)
    async with DaskPool(cluster) as pool:
        waits = all_waits(pool)
        await anyio.wait_all_tasks_blocked()
    for wait in waits:
        with pytest.raises(aioipc.ClosedResourceError):
            await wait


async def test_who_waits_when_the_scheduler_dies_is_told(new_cluster) -> None:
    program = new_cluster(0)
    async with DaskPool(program.address) as pool:
        waits = all_waits(pool)
        await anyio.wait_all_tasks_blocked()
        program.kill()
        with anyio.fail_after(10):
            for wait in waits:
                with pytest.raises(aioipc.BrokenResourceError):
                    await wait


def test_what_is_shared_may_be_used_in_the_next_event_loop(cluster) -> None:
    code = f"""if True:
        import asyncio
        from aioipc.dask import DaskPool, shared

        async def use():
            await queue.put(1)
            return await queue.get()

        pool = DaskPool({cluster!r})
        queue = pool.Queue(name="of-two-loops")
        print(asyncio.run(use()), asyncio.run(use()))
    """
    done = run_program(code, "-W", "ignore")
    assert done.stdout == "1 1\n", done.stderr
