"""What asyncio's own functions do with a task of a pool: they take it for a future."""

import asyncio
import contextvars
import gc
import sys
import weakref

import pool_tasks as tasks
import pytest

import aioipc
from aioipc import TaskCancelled


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


async def test_gather_needs_no_task_for_each(pool) -> None:
    before = len(asyncio.all_tasks())
    calls = [pool.submit(tasks.echo, n) for n in range(500)]
    gathered = asyncio.gather(*calls)
    assert all(map(asyncio.isfuture, calls))
    assert calls[0].get_loop() is asyncio.get_running_loop()
    assert len(asyncio.all_tasks()) == before
    assert await gathered == list(range(500))


async def test_gather_raises_the_first_error_or_returns_them(pool) -> None:
    calls = [(tasks.echo, 1), (tasks.fail_with, KeyError("x")), (tasks.echo, 2)]
    with pytest.raises(KeyError, match="x"):
        await asyncio.gather(*(pool.submit(*call) for call in calls))
    got = await asyncio.gather(
        *(pool.submit(*call) for call in calls), return_exceptions=True
    )
    assert got[::2] == [1, 2]
    assert isinstance(got[1], KeyError)
    done = [pool.submit(*call) for call in calls[:1]]
    assert await done[0] == 1
    assert await asyncio.gather(*done) == [1]  # which is done already


async def test_a_cancelled_gather_stops_the_work(pool, begun) -> None:
    running, pending = (
        pool.submit(tasks.loop_forever, begun),
        [pool.submit(tasks.echo, n) for n in range(3)],
    )
    gathered = asyncio.gather(running, *pending)
    await tasks.has_begun(begun)
    gathered.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathered
    assert running.cancelled()
    assert isinstance(running.exception(), TaskCancelled)
    assert await pool.run(tasks.echo, 5) == 5


async def test_a_cancelled_task_is_to_gather_what_a_cancelled_future_is(pool) -> None:
    task, other = pool.submit(tasks.echo, 1), pool.submit(tasks.echo, 2)
    gathered = asyncio.gather(task, other, return_exceptions=True)
    task.cancel()
    first, second = await gathered
    assert isinstance(first, asyncio.CancelledError)
    assert str(first) == "task echo was cancelled"
    assert second == 2
    with pytest.raises(asyncio.CancelledError):
        task.result()
    with pytest.raises(TaskCancelled):
        await task


async def test_the_end_of_the_pool_is_an_error_and_no_cancel(pool, begun) -> None:
    running, pending = pool.submit(tasks.loop_forever, begun), pool.submit(tasks.pid)
    gathered = asyncio.gather(running, pending)
    await tasks.has_begun(begun)
    await pool.aclose(grace=0)
    with pytest.raises(TaskCancelled, match="the pool was closed"):
        await gathered
    assert not running.cancelled()


async def test_a_cancelled_gather_waits_for_what_is_shielded(pool, begun) -> None:
    task = pool.options(on_cancel="shield").submit(tasks.tell, begun)
    await tasks.has_begun(begun)
    gathered = asyncio.gather(task)
    gathered.cancel()
    assert await gathered == [None]


async def test_wait_and_as_completed(pool, begun) -> None:
    slow, quick = pool.submit(tasks.loop_forever, begun), pool.submit(tasks.echo, 1)
    done, pending = await asyncio.wait(
        {slow, quick}, return_when=asyncio.FIRST_COMPLETED
    )
    assert (done, pending) == ({quick}, {slow})
    assert quick.result() == 1
    with pytest.raises(RuntimeError, match="is not done"):
        slow.result()
    await tasks.has_begun(begun)
    slow.cancel()
    calls = [pool.submit(tasks.echo, n) for n in range(5)]
    got = [await call for call in asyncio.as_completed(calls)]
    assert sorted(got) == list(range(5))


async def test_wait_for_is_in_time(pool, begun) -> None:
    assert await asyncio.wait_for(pool.submit(tasks.echo, 1), 60) == 1
    task = pool.submit(tasks.loop_forever, begun)
    await tasks.has_begun(begun)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.01)
    assert task.cancelled() == (sys.version_info < (3, 12))
    task.cancel()
    assert await pool.run(tasks.echo, 2) == 2


async def test_a_cancelled_shield_leaves_the_task(pool, begun) -> None:
    task = pool.submit(tasks.tell, begun)
    shielded = asyncio.shield(task)
    shielded.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shielded
    await tasks.has_begun(begun)
    assert await asyncio.shield(task) is None
    assert not task.cancelled()


async def test_callbacks_come_soon_in_their_context_and_as_often_as_added(pool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("added")
    came: list[tuple[object, str]] = []

    def note(task: object) -> None:
        came.append((task, variable.get()))

    def other(_: object) -> None:
        raise AssertionError

    task = pool.submit(tasks.echo, 1)
    given = contextvars.copy_context()
    given.run(variable.set, "given")
    task.add_done_callback(note)
    task.add_done_callback(other)
    task.add_done_callback(note, context=given)
    task.add_done_callback(other)
    assert task.remove_done_callback(other) == 2
    assert task.remove_done_callback(other) == 0
    variable.set("later")
    assert await task == 1
    await asyncio.sleep(0)
    assert came == [(task, "added"), (task, "given")]
    task.add_done_callback(note)
    assert len(came) == 2
    await asyncio.sleep(0)
    assert came[2:] == [(task, "later")]


async def test_a_callback_that_raises_costs_the_others_nothing(pool) -> None:
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, what: errors.append(what["exception"]))
    came = asyncio.Event()
    task = pool.submit(tasks.echo, 1)
    task.add_done_callback(lambda _: tasks.fail_with(IndexError()))
    task.add_done_callback(lambda _: came.set())
    await came.wait()
    assert [type(error) for error in errors] == [IndexError]


async def test_what_is_done_is_freed_without_the_collector(pool) -> None:
    task = pool.submit(tasks.echo, 1)
    assert await asyncio.gather(task) == [1]
    await asyncio.sleep(0)
    gc.disable()
    try:
        trace = weakref.ref(task)
        del task
        assert trace() is None
    finally:
        gc.enable()


def test_a_loop_can_be_run_until_it_is_done(fork) -> None:
    pool = aioipc.WorkerPool(1, mp_context=fork)

    async def submit():
        return pool.submit(tasks.echo, 3)

    with asyncio.Runner() as runner:
        task = runner.run(submit())
        assert runner.get_loop().run_until_complete(task) == 3
        runner.run(pool.aclose())
