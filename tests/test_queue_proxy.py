"""A manager's queue, awaited: who waits for whom, and what a cancelled put may do."""

import queue as stdlib_queue

import anyio
import pytest
from anyio.to_thread import run_sync

import aioipc
from aioipc.transport.threads import run_in_thread


@pytest.fixture
async def full(plain_manager):
    """A queue with one slot, and an item in it."""
    queue = aioipc.wrap(await run_sync(plain_manager.Queue, 1))
    await queue.put("first")
    yield queue
    queue.close()


@pytest.mark.parametrize(
    "how", [{"block": False}, {"timeout": 0}, {"timeout": 0.01}], ids=str
)
async def test_a_put_does_not_wait_for_those_that_wait(full, how, monkeypatch) -> None:
    monkeypatch.setattr("aioipc.bridge.slices.SLICE", 1000)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for n in range(3):
                tasks.start_soon(full.put, n)
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(aioipc.QueueFull):
                await full.put("x", **how)
            assert [await full.get() for _ in range(4)] == ["first", 0, 1, 2]


async def test_cancelled_puts_happen_before_the_next_call_or_never(full) -> None:
    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(full.put, n)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert await full.get() == "first"
    assert await full.empty()
    # In a thread that ends at once, and with it its connection to the manager
    job = run_in_thread(lambda: full.sync.get(True, 0.05), "test")
    await job.wait()
    with pytest.raises(stdlib_queue.Empty):
        job.result()
    await full.put("next", timeout=5)


async def test_a_queue_that_is_closed_while_tasks_put(full) -> None:
    async def put() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await full.put("x")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put)
        tasks.start_soon(put)
        await anyio.wait_all_tasks_blocked()
        full.close()


async def test_a_get_that_does_not_wait_takes_what_is_there(full) -> None:
    assert await full.get(timeout=0) == "first"
    with pytest.raises(aioipc.QueueEmpty):
        await full.get(timeout=0)
