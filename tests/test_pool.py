"""What a user of a WorkerPool can rely on, on every loop."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import itertools
import math
import os
import select
import threading

import anyio
import anyio.lowlevel
import pool_tasks as tasks
import pytest

import aioipc
from aioipc.pool.limits import usable_cpus
from aioipc.testing.gates import Gate, wait_at
from aioipc.worker.isolation import resident

# Calls


async def test_a_call_returns_what_the_function_returns(context) -> None:
    async with aioipc.WorkerPool(2, mp_context=context) as pool:
        assert await pool.run(math.factorial, 20) == math.factorial(20)
        assert await pool.run(functools.partial(pow, 2), 5) == 32
        assert await pool.run("{}-{x}".format, 1, x=2) == "1-2"
        assert await pool.run(tasks.pid) != os.getpid()
        if context.get_start_method() != "fork":
            assert await pool.run(tasks.frameworks) == []


async def test_a_task_may_start_processes(context) -> None:
    async with aioipc.WorkerPool(1, mp_context=context) as pool:
        assert await pool.run(tasks.run_in_child, 5) == 5


async def test_large_arguments_and_results(pool) -> None:
    data = [os.urandom(3_000_000), "text" * 200_000]
    assert await pool.run(tasks.echo, data) == data
    with pytest.raises(aioipc.EncodeError, match=r"argument 1 -> \[1\] -> <lambda>"):
        await pool.run(tasks.echo, [["text"] * 500_000, lambda: None])


async def test_many_calls_at_once_each_get_their_own_result(pool) -> None:
    got = {}

    async def run(n) -> None:
        got[n] = await pool.run(tasks.echo, n)

    async with anyio.create_task_group() as group:
        for n in range(2_000):
            group.start_soon(run, n)
    assert got == {n: n for n in range(2_000)}
    state = pool.statistics()
    assert (state.tasks_finished, state.tasks_failed) == (2_000, 0)
    assert (state.tasks_pending, state.tasks_running) == (0, 0)


class CallsWhenPickled:
    def __init__(self, pool) -> None:
        self.pool = pool
        self.inner = []

    def __reduce__(self):
        self.inner.append(self.pool.submit(tasks.echo, "inner"))
        return int, (7,)


async def test_a_call_may_be_made_while_another_is_pickled(pool) -> None:
    await pool.warm_up()
    outer = [CallsWhenPickled(pool) for _ in range(20)]
    async with anyio.create_task_group() as group:
        for value in outer[1:]:
            group.start_soon(pool.run, tasks.echo, value)
        assert await pool.run(tasks.echo, outer[0]) == 7
    for value in outer:
        assert [await inner for inner in value.inner] == ["inner"]


async def test_what_cannot_be_sent_is_no_hindrance_to_others(pool) -> None:
    await pool.warm_up()
    handles = [
        pool.submit(tasks.echo, (lambda: None) if n % 3 else n) for n in range(90)
    ]
    handles[1].cancel()
    for n, handle in enumerate(handles):
        if n % 3:
            with pytest.raises((aioipc.EncodeError, aioipc.TaskCancelled)):
                await handle
        else:
            assert await handle == n
    assert pool.statistics().tasks_pending == 0


async def test_large_results_and_the_end_of_a_pool(fork) -> None:
    with anyio.fail_after(10):
        async with aioipc.WorkerPool(1, mp_context=fork, grace=1000) as pool:
            task = pool.submit(bytes, 1_000_000)
        assert len(await task) == 1_000_000


async def test_many_priorities_cost_no_more_than_one(pool) -> None:
    handles = [pool.options(priority=n).submit(abs, n) for n in range(500)]
    for handle in handles:
        await handle
    assert not pool._crew.scheduler.pending._queues


async def test_what_is_submitted_can_be_awaited_often_and_late(pool) -> None:
    task = pool.submit(tasks.echo, "result")
    assert not task.done()
    assert "pending" in repr(task)
    assert await task == "result"
    assert await task == "result"
    assert (task.done(), task.started, task.cancelled()) == (True, True, False)
    assert task.exception() is None
    assert "echo finished" in repr(task)
    failing = pool.submit(tasks.fail_with_state, "text", 1)
    with pytest.raises(RuntimeError, match="not done"):
        failing.exception()
    for _ in range(2):
        with pytest.raises(tasks.WithState):
            await failing
    assert isinstance(failing.exception(), tasks.WithState)


async def test_no_task_waits_behind_a_long_one(pool, begun) -> None:
    await pool.warm_up()
    for n in range(20):  # so that it is known to be cheap
        await pool.run(tasks.echo_or_hang, n)
    handles = [pool.submit(tasks.echo_or_hang, n) for n in range(50)]
    handles.insert(10, hanging := pool.submit(tasks.echo_or_hang, begun))
    with anyio.fail_after(10):
        await tasks.has_begun(begun)
        for n, handle in enumerate(handles):
            if handle is not hanging:
                assert await handle == n - (n > 10)
    hanging.cancel()


async def test_a_higher_priority_goes_first(fork) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        await pool.warm_up()
        first = pool.submit(tasks.sleep, 0.05)
        handles = {
            priority: pool.options(priority=priority).submit(tasks.now)
            for priority in (0, 2, -1, 1)
        }
        began = {await handle: priority for priority, handle in handles.items()}
        assert [began[at] for at in sorted(began)] == [2, 1, 0, -1]
        await first


# Cancel and timeout


@pytest.fixture
async def served_pool():
    """Not forked: CPython 3.13 forgets a fork's main thread if a thread has forked it.

    A loop in Python is then not interrupted, and its worker is killed after `grace`.
    """
    async with aioipc.WorkerPool(2, mp_context="forkserver", grace=0.2) as pool:
        yield pool


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
@pytest.mark.parametrize(
    "function", [tasks.loop_forever, tasks.sleep_forever, tasks.hold_gil]
)
async def test_a_cancelled_run_stops_the_work(
    function, on_cancel, served_pool, begun
) -> None:
    pool = served_pool
    async with anyio.create_task_group() as group:
        group.start_soon(pool.options(on_cancel=on_cancel).run, function, begun)
        await tasks.has_begun(begun)
        (pid,) = [member.pid for member in pool._crew.members.values()]
        group.cancel_scope.cancel()
    with anyio.fail_after(10):
        assert await pool.run(tasks.echo, 1) == 1
        await all_idle(pool)
    pids = [member.pid for member in pool._crew.members.values()]
    if on_cancel == "kill":
        assert pid not in pids
    elif function is not tasks.hold_gil:  # or it was not yet in C code
        assert pid in pids


async def test_a_cancelled_run_that_was_not_begun_costs_nothing(pool, begun) -> None:
    await pool.warm_up()
    blocking = [pool.submit(tasks.sleep, 0.05) for _ in range(2)]
    with anyio.move_on_after(0.001):
        await pool.run(tasks.loop_forever, begun)
    for task in blocking:
        await task
    assert await pool.run(tasks.echo, 1) == 1
    assert pool.statistics().tasks_failed == 1


async def test_an_abandoned_task_runs_on(pool, begun, tmp_path) -> None:
    mark = anyio.Path(tmp_path / "mark")
    async with anyio.create_task_group() as group:
        lasting = pool.options(on_cancel="abandon")
        group.start_soon(lasting.run, tasks.tell_then_touch, begun, mark)
        await tasks.has_begun(begun)
        group.cancel_scope.cancel()
    await all_idle(pool)
    assert await mark.exists()


async def test_a_shielded_run_waits_for_the_end(pool, begun, tmp_path) -> None:
    mark = anyio.Path(tmp_path / "mark")
    async with anyio.create_task_group() as group:
        shielded = pool.options(on_cancel="shield")
        group.start_soon(shielded.run, tasks.tell_then_touch, begun, mark)
        await tasks.has_begun(begun)
        group.cancel_scope.cancel()
    with anyio.CancelScope():
        assert await mark.exists()


async def test_a_task_that_ended_in_time_is_not_late_because_the_loop_was(pool) -> None:
    async with Gate() as gate:
        call = pool.options(timeout=60).submit(wait_at, gate.address)
        visit = await gate.visit()
        ((worker, member),) = pool._crew.members.items()
        connection = visit._stream.extra(anyio.abc.SocketAttribute.raw_socket)
        os.write(connection.fileno(), b"in time")
        while not select.select([member._launched.replies], [], [], 0)[0]:
            pass  # and the loop hears of nothing
        worker.deadline = 0
        pool._crew._tick()
        assert await call == "in time"


@pytest.mark.parametrize("function", [tasks.sleep_forever, tasks.hold_gil])
async def test_a_task_that_takes_too_long_is_a_timeout(function, pool, begun) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(tasks.has_begun, begun)
        with anyio.fail_after(10):
            with pytest.raises(TimeoutError, match=f"task {function.__name__} took"):
                await pool.options(timeout=0.1).run(function, begun)
            await all_idle(pool)
    assert await pool.options(timeout=10).run(tasks.echo, 1) == 1


async def ended_and_begun(pool, first, second, begun):
    """Submit two tasks; return when one has ended, unnoticed, and the other begun."""
    for _ in range(20):
        await pool.run(tasks.tell_if, None)  # so that both are sent at once
    fd = os.open(begun, os.O_RDONLY | os.O_NONBLOCK)
    handles = first.submit(tasks.tell_if, None), second.submit(tasks.tell_if, begun)
    pool._crew.pump()
    assert handles[1]._call.worker is not None
    while True:  # not by the loop, which must not see the reply
        with contextlib.suppress(BlockingIOError):
            if os.read(fd, 1):
                break
    os.close(fd)
    return handles


async def test_a_kill_of_a_task_that_has_ended_does_not_hit_the_next(
    fork, begun
) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork) as pool:
        killing = pool.options(on_cancel="kill")
        ended, running = await ended_and_begun(pool, killing, pool, begun)
        assert ended.cancel()
        assert await running == "told"


async def test_the_reply_of_one_cancelled_task_does_not_spare_another(
    fork, begun
) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork, grace=0.05) as pool:
        deaf = pool.options(on_cancel="interrupt")
        _, running = await ended_and_begun(pool, deaf, deaf, begun)
        worker = running._call.worker
        for handle in (_, running):
            handle.cancel()
        assert worker.doomed is running._call or worker.doomed is None
        with anyio.fail_after(10):
            assert await pool.run(tasks.echo, 1) == 1


async def test_a_deadline_does_not_touch_a_task_that_was_cancelled(pool, begun) -> None:
    task = pool.options(timeout=0.05).submit(tasks.hold_gil, begun)
    await tasks.has_begun(begun)
    task.cancel()
    await all_idle(pool)
    assert task.cancelled()
    assert pool.statistics().tasks_failed == 1


async def test_a_handle_is_cancelled_at_once(pool, begun) -> None:
    task = pool.submit(tasks.sleep_forever, begun)
    await tasks.has_begun(begun)
    assert task.started
    assert "running" in repr(task)
    assert task.cancel()
    assert task.done()
    assert task.cancelled()
    assert not task.cancel()
    with pytest.raises(aioipc.TaskCancelled, match="sleep_forever"):
        await task
    assert "cancelled" in repr(task)
    assert await pool.run(tasks.echo, 1) == 1


async def test_a_cancelled_await_of_a_handle_leaves_the_task_running(pool) -> None:
    task = pool.submit(tasks.sleep, 0.05)
    with anyio.move_on_after(0.001):
        await task
    assert not task.done()
    assert await task is None


async def test_a_cancel_as_the_task_ends_never_hits_the_next(pool) -> None:
    await pool.warm_up()
    victims = 0

    async def bystander(n) -> None:
        nonlocal victims
        victims += await pool.run(tasks.spin_for, 2e-5, n) != n

    async with anyio.create_task_group() as group:
        for n in range(400):
            task = pool.submit(tasks.spin_for, 1e-5 * (n % 10), n)
            group.start_soon(bystander, n)
            for _ in range(n % 7):
                await anyio.lowlevel.checkpoint()
            task.cancel()
    assert victims == 0
    assert pool.statistics().crashes == 0


async def until(condition) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - no one tells us
            await anyio.sleep(0.005)


async def all_idle(pool) -> None:
    await until(lambda: not (pool.statistics().busy or pool.statistics().starting))


# Sizes


async def test_workers_come_with_the_tasks_and_go_when_idle(fork) -> None:
    async with aioipc.WorkerPool(
        3, mp_context=fork, min_workers=1, idle_timeout=0.05
    ) as pool:
        handles = [pool.submit(tasks.sleep, 0.05) for _ in range(5)]
        await until(lambda: pool.statistics().workers == 3)
        for handle in handles:
            await handle
        await until(lambda: pool.statistics().workers == 1)
        assert await pool.run(tasks.echo, 1) == 1


async def test_a_worker_is_replaced_after_its_tasks(fork) -> None:
    async with aioipc.WorkerPool(1, mp_context=fork, max_tasks_per_worker=3) as pool:
        handles = [pool.submit(tasks.pid) for _ in range(12)]
        pids = [await handle for handle in handles]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 3]


async def test_an_interrupt_that_is_printed_later_hits_no_other_task(begun) -> None:
    async with aioipc.WorkerPool(1, mp_context="forkserver", grace=30) as pool:
        pid = await pool.run(tasks.pid)
        task = pool.submit(tasks.keep_the_interrupt, begun)
        await tasks.has_begun(begun)
        task.cancel()
        assert await pool.run(tasks.raise_again_and_go_on, 0.05) == pid


async def test_a_worker_that_has_grown_too_large_is_replaced(fork) -> None:
    own = await anyio.to_thread.run_sync(resident)  # as large a forked worker begins
    limit = own + 100_000_000
    async with aioipc.WorkerPool(1, mp_context=fork, max_rss=limit) as pool:
        first = await pool.run(tasks.pid)
        assert await pool.run(tasks.pid) == first
        await pool.run(tasks.keep, 200_000_000)
        with anyio.fail_after(10):
            while await pool.run(tasks.pid) == first:
                pass


async def test_resize(pool) -> None:
    await pool.warm_up()
    pool.resize(1)
    await until(lambda: pool.statistics().workers == 1)
    pool.resize(3)
    await pool.warm_up()
    assert pool.statistics().workers == 3
    assert "workers=3/3" in repr(pool)


def test_the_default_size_is_the_cpus_that_may_be_used() -> None:
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_workers": 0},
        {"min_workers": -1},
        {"max_workers": 1, "min_workers": 2},
        {"max_tasks_per_worker": 0},
        {"max_shared_memory": -1},
        {"on_cancel": "nonsense"},
        {"serializer": "nonsense"},
    ],
)
def test_wrong_arguments_are_value_errors(arguments) -> None:
    with pytest.raises(ValueError, match=r"must (not )?be"):
        aioipc.WorkerPool(**arguments)


def test_bytes_are_counted_by_whole_numbers() -> None:
    with pytest.raises(TypeError, match="float"):
        aioipc.WorkerPool(max_shared_memory=2e9)  # pyright: ignore[reportArgumentType]


async def test_wrong_options_are_value_errors(pool) -> None:
    for options in (
        {"timeout": -1},
        {"retries": -1},
        {"priority": 1 << 63},
        {"on_cancel": "nonsense"},
    ):
        with pytest.raises(ValueError, match="must"):
            pool.options(**options)


# The end


async def test_leaving_the_block_waits_for_what_was_submitted(fork) -> None:
    async with aioipc.WorkerPool(2, mp_context=fork) as pool:
        handles = [pool.submit(tasks.spin_for, 0.01, n) for n in range(5)]
    assert [await handle for handle in handles] == list(range(5))
    assert repr(pool) == "<WorkerPool closed>"
    for use in (pool.submit, functools.partial(pool.map, tasks.echo)):
        with pytest.raises(aioipc.ClosedResourceError):
            use([1])
    with pytest.raises(aioipc.ClosedResourceError):
        await pool.run(tasks.echo, 1)


async def test_leaving_the_block_has_a_deadline(fork, begun) -> None:
    async with aioipc.WorkerPool(2, mp_context=fork, grace=0.01) as pool:
        task = pool.submit(tasks.hold_gil, begun)
        await tasks.has_begun(begun)
    with pytest.raises(aioipc.TaskCancelled, match="the pool was closed"):
        await task


async def test_leaving_the_block_by_an_error_kills_at_once(fork, begun) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with aioipc.WorkerPool(2, mp_context=fork, grace=1000) as pool:
            task = pool.submit(tasks.hold_gil, begun)
            await tasks.has_begun(begun)
            raise ZeroDivisionError
    with pytest.raises(aioipc.TaskCancelled):
        await task


async def test_a_pool_that_is_collected_open_warns_and_leaves_nothing(fork) -> None:
    pool = aioipc.WorkerPool(2, mp_context=fork)
    await pool.warm_up()
    with pytest.warns(  # noqa: PT031
        ResourceWarning, match="unclosed <WorkerPool workers=2/2"
    ):
        del pool
        gc.collect()


async def test_closing_a_pool_under_a_map_ends_both(pool) -> None:
    results = pool.map(tasks.echo, itertools.count())
    assert await anext(results) == 0
    running = pool.submit(tasks.sleep, 1000)
    await pool.aclose(grace=0)
    assert pool.statistics().workers == 0
    with pytest.raises(aioipc.TaskCancelled):
        await running
    with pytest.raises((aioipc.TaskCancelled, aioipc.ClosedResourceError)):
        async for _ in results:
            pass


async def test_a_second_close_waits_for_the_first(pool) -> None:
    await pool.warm_up()
    running = pool.submit(tasks.sleep, 1000)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: pool.aclose(grace=0))
        while not pool._engine.closed:
            await anyio.lowlevel.checkpoint()
        assert pool.statistics().workers == 2
        await pool.aclose()
        assert pool.statistics().workers == 0
    with pytest.raises(aioipc.TaskCancelled):
        await running


async def test_a_handle_keeps_its_pool(fork) -> None:
    pool = aioipc.WorkerPool(1, mp_context=fork)
    task = pool.submit(tasks.echo, 1)
    del pool
    gc.collect()
    assert await task == 1
    await task._owner.aclose()


@pytest.mark.parametrize("moment", ["a worker dies", "resized", "closed"])
async def test_warming_up_ends_whatever_happens(moment, fork, tmp_path) -> None:
    pool = aioipc.WorkerPool(
        2,
        mp_context=fork,
        initializer=tasks.die_once if moment == "a worker dies" else None,
        initargs=(tmp_path / "mark",),
    )
    with anyio.fail_after(10):
        async with pool, anyio.create_task_group() as group:
            if moment == "closed":
                group.start_soon(pool.aclose)
                with contextlib.suppress(aioipc.ClosedResourceError):
                    await pool.warm_up()
                continue_with = 0
            else:
                if moment == "resized":
                    pool.resize(1)
                await pool.warm_up()
                continue_with = 1 if moment == "resized" else 2
            assert pool.statistics().idle == continue_with


async def test_another_loop_is_a_clear_error(pool) -> None:
    def use() -> None:
        with pytest.raises(aioipc.EventLoopError, match="another event loop"):
            asyncio.run(pool.run(tasks.echo, 1))

    await pool.warm_up()
    await anyio.to_thread.run_sync(use)


async def test_a_pool_in_a_fork_is_a_clear_error(pool, fork) -> None:
    await pool.warm_up()

    def use() -> None:
        try:
            anyio.run(pool.run, tasks.echo, 1)
        except aioipc.ClosedResourceError as error:
            os._exit(5 if "forked" in str(error) else 6)

    child = aioipc.Process(target=use, context=fork)
    async with child:
        assert await child.join() == 5
    assert await pool.run(tasks.echo, 1) == 1


# For other libraries


async def test_an_executor_for_existing_code(pool, anyio_backend) -> None:
    executor = pool.as_executor()
    if anyio_backend[0] == "asyncio":
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, tasks.echo, 1) == 1
        with pytest.raises(tasks.WithState):
            await loop.run_in_executor(executor, tasks.fail_with_state, "text", 1)
    future = executor.submit(tasks.echo, 2)
    assert await anyio.to_thread.run_sync(future.result) == 2

    def from_a_thread() -> list[int]:
        return list(executor.map(tasks.echo, range(10)))

    assert await anyio.to_thread.run_sync(from_a_thread) == list(range(10))
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(tasks.echo, 1)
    assert await pool.run(tasks.echo, 3) == 3


async def test_a_cancelled_future_stops_the_work(pool, begun) -> None:
    executor = pool.as_executor()
    future = executor.submit(tasks.sleep_forever, begun)
    await tasks.has_begun(begun)
    assert future.cancel()
    await anyio.to_thread.run_sync(concurrent.futures.wait, [future], 10)
    await all_idle(pool)
    assert await pool.run(tasks.echo, 1) == 1


async def test_lambdas_and_closures_by_cloudpickle(fork) -> None:
    factor = 3
    async with aioipc.WorkerPool(1, mp_context=fork, serializer="cloudpickle") as pool:
        assert await pool.run(lambda x: x * factor, 2) == 6
        assert [x async for x in pool.map(lambda x: x + factor, range(3))] == [3, 4, 5]
        large = [
            ["text"] * 500_000,
            lambda: factor,
        ]  # in a thread, which must do it too
        assert await pool.run(lambda x: len(x[0]) + x[1](), large) == 500_003


async def test_threads_of_the_coordinator_are_not_left_behind(pool) -> None:
    before = threading.active_count()
    await pool.run(tasks.echo, bytes(1_000_000))
    await pool.warm_up()
    await until(lambda: threading.active_count() <= before)
