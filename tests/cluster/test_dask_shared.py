"""Queues, locks, semaphores and events that the tasks of a `DaskPool` share."""

import anyio
import dask_tasks
import pytest

import aioipc
from aioipc.dask import DaskPool
from aioipc.testing.gates import Gate


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
    with anyio.move_on_after(0.05):
        await queue.get()
    for n in range(3):
        await queue.put(n)
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]


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


async def test_a_cancelled_acquire_has_acquired_nothing(pool) -> None:
    lock = pool.Lock()
    await lock.acquire()
    with anyio.move_on_after(0.05) as scope:
        await lock.acquire()
    assert scope.cancelled_caught
    await lock.release()
    with anyio.fail_after(10):
        await lock.acquire()
    await lock.release()


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


async def test_what_is_shared_is_closed_with_the_pool(cluster) -> None:
    async with DaskPool(cluster) as pool:
        queue = pool.Queue()
        await queue.put(1)
    with pytest.raises(aioipc.ClosedResourceError):
        await queue.get()
