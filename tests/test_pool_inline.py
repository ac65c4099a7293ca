"""`InlinePool`, where it is not as any pool: see `test_pool_contract` for that."""

import contextvars
import multiprocessing
import subprocess
import sys
import threading
import traceback

import anyio
import anyio.lowlevel
import pytest
from broker_peers import lease_around_a_task

import aioipc
from aioipc import EncodeError, TaskCancelled, WorkerStartError
from aioipc.testing import InlinePool

begun: list[object] = []
"""What tasks have told, which are in this process."""


@pytest.fixture
async def pool():
    begun.clear()
    async with InlinePool() as pool:
        yield pool


def begin(name: object) -> object:
    begun.append(name)
    return name


def fail(name: str) -> None:
    mine = KeyError(name)
    mine.extra = lambda: None  # can't be pickled
    raise mine


def make(unpicklable: bool) -> object:
    return (lambda: None) if unpicklable else "fine"


async def test_tasks_run_in_the_loop_s_thread(pool) -> None:
    assert await pool.run(threading.get_ident) == threading.get_ident()


async def test_tasks_begin_by_urgency_and_in_order(pool) -> None:
    calls = [pool.options(priority=n % 3).submit(begin, n) for n in range(9)]
    assert repr(pool) == "<InlinePool workers=1/1 running=0 pending=9>"
    assert [await call for call in calls] == [*range(9)]
    assert begun == [2, 5, 8, 1, 4, 7, 0, 3, 6]


async def test_the_loop_has_its_turn_between_two_tasks(pool) -> None:
    first, second = pool.submit(begin, 1), pool.submit(begin, 2)
    await first
    assert second.cancel()
    with pytest.raises(TaskCancelled):
        await second
    assert begun == [1]


async def test_an_error_is_raised_with_all_that_a_debugger_wants(pool) -> None:
    for call in (pool.run(fail, "x"), anext(pool.map(fail, ["x"]))):
        with pytest.raises(KeyError) as caught:
            await call
        assert caught.value.extra() is None
        innermost = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert innermost.name == "fail"


async def test_what_a_worker_would_not_get_is_named(pool) -> None:
    with pytest.raises(EncodeError, match=r"the function -> <lambda> at"):
        await pool.run(lambda: 1)
    with pytest.raises(EncodeError, match="the result of task make can't be pickled"):
        await pool.run(make, True)
    outcomes = pool.map(make, [False, True, False], return_exceptions=True)
    kinds = [type(outcome) async for outcome in outcomes]
    assert kinds == [str, EncodeError, str]


async def test_without_copies_anything_goes() -> None:
    mine = object()
    async with InlinePool(pickles=False) as it:
        assert await it.run(lambda one: one, mine) is mine
        assert [each async for each in it.map(lambda one: one, [mine])] == [mine]
        assert not it.capabilities.pickles


async def test_a_task_that_has_begun_is_not_cancelled_even_by_itself() -> None:
    async with InlinePool(pickles=False) as it:
        calls = [it.submit(lambda: calls[0].cancel() or "begun")]
        assert await calls[0] == "begun"
        state: list[aioipc.PoolStatistics] = []
        await it.run(lambda: state.append(it.statistics()))
        assert (state[0].busy, state[0].idle, state[0].tasks_running) == (1, 0, 1)


async def test_a_task_may_begin_others_and_close_the_pool(pool) -> None:
    async with InlinePool(pickles=False) as it:
        more = await it.run(lambda: [it.submit(begin, n) for n in range(2)])
        assert [await call for call in more] == [0, 1]
        late = [it.submit(begin, "late") for _ in range(50)]
        await it.aclose(grace=0)
        with pytest.raises(TaskCancelled):
            await late[-1]
    assert begun[:2] == [0, 1]
    assert len(begun) < 50


async def test_a_cancelled_run_has_not_begun(pool) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pool.run(begin, 1)
    assert scope.cancelled_caught
    await pool.run(begin, 2)
    assert begun == [2]


async def test_options_are_left_out_only_if_that_was_asked_for(pool) -> None:
    with pytest.raises(aioipc.UnsupportedOperation):
        pool.options(timeout=1)
    async with InlinePool(ignores=("timeout", "on_cancel")) as it:
        kept = it.options(timeout=1, on_cancel="kill", priority=2, name="kept")
        assert await kept.run(begin, 1) == 1
        assert (kept._options.timeout, kept._options.priority) == (None, 2)
        with pytest.raises(aioipc.UnsupportedOperation, match="retries=1"):
            kept.options(retries=1)


async def test_an_initializer_runs_before_the_first_task() -> None:
    begun.clear()
    async with InlinePool(initializer=begin, initargs=("ready",)) as it:
        assert begun == []
        assert [await it.run(begin, n) for n in range(2)] == [0, 1]
    assert begun == ["ready", 0, 1]
    async with InlinePool(initializer=int, initargs=("x",)) as it:
        calls = [it.submit(begin, n) for n in range(3)]
        for call in calls:
            with pytest.raises(WorkerStartError, match="ValueError: invalid literal"):
                await call
        with pytest.raises(WorkerStartError):
            await it.run(begin, 1)
    assert len(begun) == 3


async def test_a_pool_that_is_not_closed_warns() -> None:
    pool = InlinePool()
    call = pool.submit(begin, 1)
    with pytest.warns(ResourceWarning, match="unclosed <InlinePool"):
        pool.__del__()
    with pytest.raises(TaskCancelled):
        await call
    await pool.aclose()


@pytest.mark.parametrize("how", ["call", "map"])
def test_ctrl_c_ends_the_task_and_the_program(anyio_backend, how) -> None:
    code = """if True:
        import os, signal, sys
        import anyio
        from aioipc.testing import InlinePool

        backend, options, how = eval(sys.argv[1])
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def work(presses):
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass

        async def main():
            # asyncio takes the first for a cancel of its own.
            presses = [1 if backend == "trio" else 2]
            async with InlinePool(pickles=False) as pool:
                if how == "call":
                    await pool.run(work, *presses)
                async for _ in pool.map(work, presses, return_exceptions=True):
                    pass
                await anyio.sleep_forever()

        try:
            anyio.run(main, backend=backend, backend_options=options)
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-c", code, repr((*anyio_backend, how))],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


def see(then: str) -> str:
    was = variable.get()
    variable.set(then)
    return was


async def test_each_task_runs_in_a_copy_of_its_submitters_context(pool) -> None:
    async def submit(name: str) -> None:
        variable.set(name)
        assert await pool.run(see, "another") == name
        assert await pool.run(see, "another") == name
        assert variable.get() == name

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(submit, name)


async def test_the_end_of_a_task_ends_no_lease_of_the_program_s() -> None:
    forkserver = multiprocessing.get_context("forkserver")  # where nothing detects us
    async with aioipc.Broker() as broker:
        jobs, told, may_end = broker.Queue(ack="manual"), broker.Queue(), broker.Queue()
        await jobs.put("job")
        process = aioipc.Process(
            target=lease_around_a_task,
            args=(jobs, told, may_end),
            context=forkserver,
        )
        async with process:
            assert await told.get() == "job"
            assert (jobs.statistics().leased, jobs.statistics().items) == (1, 0)
            await may_end.put(None)
            await process.join()


async def test_a_task_cancelled_while_the_pool_breaks_is_counted_once() -> None:
    async with InlinePool(initializer=int, initargs=("x",)) as it:
        first, second = it.as_executor().submit(abs, -1), it.submit(abs, -2)
        first.add_done_callback(lambda _: second.cancel())
        with pytest.raises((WorkerStartError, TaskCancelled)):
            await second
        assert it.statistics().tasks_pending == 0


@pytest.mark.parametrize("ignores", ["timeout", ("timout",), ("name",)])
def test_it_ignores_only_options_that_there_are(ignores) -> None:
    with pytest.raises(ValueError, match="ignores has no options: "):
        InlinePool(ignores=ignores)
