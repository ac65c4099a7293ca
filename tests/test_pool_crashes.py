"""Whatever a task does to its worker costs that task, and nothing else."""

import math
import os
import pickle
import signal
import sys

import anyio
import pool_tasks as tasks
import pytest

import aioipc
from aioipc.pool.pool import WorkerPool

CRASHED = aioipc.WorkerCrashed

# What it does: the function, its arguments, the error, and what the error says.
ENDS = {
    "os._exit(0)": (os._exit, (0,), "exited with code 0 in task _exit"),
    "os._exit(3)": (os._exit, (3,), "exited with code 3"),
    "SIGKILL": (tasks.kill_self, (signal.SIGKILL,), "killed by SIGKILL in task kill"),
    "SIGTERM": (tasks.kill_self, (signal.SIGTERM,), "killed by SIGTERM"),
    "SIGABRT": (tasks.kill_self, (signal.SIGABRT,), "killed by SIGABRT"),
    "SIGSEGV": (tasks.read_null, (), "killed by SIGSEGV in task read_null"),
    "garbage": (tasks.write_garbage, (), "task write_garbage has written b'xxx"),
    "close everything": (tasks.close_everything, (), "in task close_everything"),
}
FAILURES = {
    "sys.exit": (sys.exit, (3,), aioipc.TaskError, "raised builtins.SystemExit: 3"),
    "MemoryError": (tasks.exhaust_memory, (), MemoryError, None),
    "RecursionError": (tasks.recurse, (), RecursionError, "recursion"),
    "TwoArguments": (tasks.fail_with_two, ("a", "b"), tasks.TwoArguments, "a and b"),
    "unpicklable exception": (
        tasks.fail_unpicklably,
        (),
        aioipc.TaskError,
        "NotToBePickled: the reason",
    ),
    "unpicklable argument": (
        tasks.echo,
        (1, [0, lambda: None]),
        aioipc.EncodeError,
        r"argument 2 -> \[1\] -> <lambda> at .*test_pool_crashes.py:\d+",
    ),
    "unpicklable function": (
        lambda: None,
        (),
        aioipc.EncodeError,
        "the function -> <lambda>",
    ),
    "unpicklable result": (tasks.return_lambda, (), aioipc.EncodeError, "lambda"),
    "unloadable argument": (
        tasks.echo,
        (tasks.LoadsNot(),),
        aioipc.DecodeError,
        "the worker can't unpickle task echo: builtins.RuntimeError: not here",
    ),
    "unloadable result": (
        tasks.return_unloadable,
        (),
        aioipc.DecodeError,
        "result of task return_unloadable can't be unpickled: RuntimeError: not here",
    ),
}
FAILURES |= {
    "exception that is frozen": (tasks.fail_frozen, (), aioipc.TaskError, "Frozen"),
    "exception that can't be told": (tasks.fail_untold, (), tasks.Untold, None),
    "argument that raises it": (
        tasks.echo,
        (tasks.RaisesWhenPickled(),),
        aioipc.EncodeError,
        "argument 1 -> a RaisesWhenPickled",
    ),
    "result that raises it": (
        tasks.return_what_is_not_told,
        (),
        aioipc.DecodeError,
        "can't be printed",
    ),
}
for kind in (
    "builtins.KeyboardInterrupt",
    "builtins.SystemExit",
    "builtins.GeneratorExit",
    "builtins.StopIteration",
    "builtins.StopAsyncIteration",
    "asyncio.exceptions.CancelledError",
    "concurrent.futures._base.CancelledError",
):
    module, _, name = kind.rpartition(".")
    value = getattr(__import__(module, fromlist=[name]), name)
    FAILURES[kind] = (
        tasks.fail_with_type,
        (value,),
        aioipc.TaskError,
        f"task fail_with_type raised .*{name}: said so",
    )
HARMLESS = {
    "close 0, 1 and 2": (tasks.close_stdio, (), "closed"),
    "flood stderr": (tasks.flood_stderr, (), "flooded"),
    "come back twice": (tasks.fork_and_return, (), "once"),
}


@pytest.fixture
async def pool(context):
    async with WorkerPool(2, mp_context=context, grace=0.5) as pool:
        yield pool


async def among_others(pool, function, args):
    """Run a task while others are in flight, then 100 more; return its error."""
    caught = value = None
    got = []

    async def run() -> None:
        nonlocal caught, value
        try:
            value = await pool.run(function, *args)
        except Exception as error:
            caught = error

    async def sibling(n) -> None:
        got.append(await pool.run(math.isqrt, n * n))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for n in range(10):
                group.start_soon(sibling, n)
            group.start_soon(run)
            for n in range(10, 30):
                group.start_soon(sibling, n)
        assert sorted(got) == list(range(30))
        for n in range(100):
            assert await pool.run(math.isqrt, n * n) == n
    return caught, value


@pytest.mark.parametrize("name", ENDS)
async def test_the_end_of_a_worker_costs_the_task_that_it_was_at(name, pool) -> None:
    function, args, message = ENDS[name]
    error, _ = await among_others(pool, function, args)
    assert isinstance(error, CRASHED)
    assert isinstance(error, anyio.BrokenWorkerProcess)
    assert message in str(error)
    assert f"pid {error.pid}" in str(error)
    if "SEGV" in name:
        assert "Segmentation fault" in error.log
        assert "in read_null" in error.log
    assert pool.statistics().crashes == 1


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_leaves_the_worker_in_service(name, pool) -> None:
    function, args, kind, message = FAILURES[name]
    pids = {await pool.run(tasks.pid) for _ in range(1)}
    error, _ = await among_others(pool, function, args)
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error
    assert pool.statistics().crashes == 0
    assert pids <= {member.pid for member in pool._crew.members.values()}
    if kind not in {aioipc.EncodeError, aioipc.DecodeError}:
        assert str(error.__cause__).startswith("in the worker:")


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_does_no_harm(name, pool) -> None:
    function, args, result = HARMLESS[name]
    error, value = await among_others(pool, function, args)
    assert error is None
    assert value == result
    assert pool.statistics().crashes == 0


async def test_the_type_arguments_and_traceback_of_an_exception_arrive(pool) -> None:
    with pytest.raises(tasks.WithState) as caught:
        await pool.run(tasks.fail_with_state, "text", 5)
    assert caught.value.args == ("text",)
    assert caught.value.code == 5
    assert "in fail_with_state" in str(caught.value.__cause__)
    assert pickle.loads(pickle.dumps(caught.value.__cause__)).args


async def test_the_death_of_an_idle_worker_costs_nothing(pool) -> None:
    for _ in range(5):
        os.kill(await pool.run(tasks.pid), signal.SIGKILL)
        # It may or may not have been noticed by now.
        assert await pool.run(tasks.echo, "next") == "next"
    assert pool.statistics().crashes == 0


async def test_retries_run_a_task_again_whose_worker_died(pool, tmp_path) -> None:
    mark = tmp_path / "mark"
    assert await pool.options(retries=1).run(tasks.die_once, mark) == "alive"
    await anyio.Path(mark).unlink()
    with pytest.raises(CRASHED):
        await pool.run(tasks.die_once, mark)
    with pytest.raises(CRASHED):
        await pool.options(retries=2).run(os._exit, 1)
    assert pool.statistics().crashes == 5


async def test_a_kill_for_want_of_memory_is_hinted_at(pool, monkeypatch) -> None:
    await pool.warm_up()
    monkeypatch.setattr("aioipc.pool.member.oom_kills", lambda: 1 << 40)
    with pytest.raises(CRASHED, match="for want of memory"):
        await pool.run(tasks.kill_self, signal.SIGKILL)
    with pytest.raises(CRASHED) as caught:
        await pool.run(os._exit, 1)
    assert "memory" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 20])
async def test_each_task_ends_exactly_once_while_workers_are_killed(
    retries, fork
) -> None:
    # The long form is `python -m benchmarks.chaos`.
    outcomes = []
    numbers = iter(range(5_000))
    async with aioipc.WorkerPool(2, mp_context=fork) as pool:
        await pool.warm_up()
        view = pool.options(retries=retries)

        async def call_on() -> None:
            for n in numbers:
                try:
                    assert await view.run(tasks.echo, n) == n
                    outcomes.append((n, "result"))
                except CRASHED:
                    outcomes.append((n, "crashed"))
                if n % 500 == 250:
                    ready = pool._crew.members.items()
                    pids = [m.pid for worker, m in ready if worker.finished]
                    for pid in pids[:1]:
                        os.kill(pid, signal.SIGKILL)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(call_on)
    assert sorted(n for n, _ in outcomes) == list(range(5_000))
    crashed = sum(outcome == "crashed" for _, outcome in outcomes)
    assert crashed <= (0 if retries else 10)


# Starts


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (tasks.fail_with_two, ("a", "b"), "a and b"),
        (os._exit, (3,), "exited with code 3 while it was starting"),
        (tasks.kill_self, (signal.SIGKILL,), "was killed by SIGKILL while"),
    ],
)
async def test_an_initializer_that_fails_stops_the_pool(
    function, args, message, context
) -> None:
    async with WorkerPool(
        2, initializer=function, initargs=args, mp_context=context
    ) as pool:
        with anyio.fail_after(20):
            with pytest.raises(aioipc.WorkerStartError, match=message) as caught:
                await pool.run(tasks.echo, 1)
            with pytest.raises(aioipc.WorkerStartError, match=message):
                await pool.run(tasks.echo, 1)
            with pytest.raises(aioipc.WorkerStartError, match=message):
                await pool.warm_up()
    if function is tasks.fail_with_two:
        assert isinstance(caught.value.__cause__, tasks.TwoArguments)


async def test_an_initializer_that_hangs_stops_the_pool(fork) -> None:
    async with WorkerPool(
        1, initializer=tasks.hang, mp_context=fork, start_timeout=0.05
    ) as pool:
        with anyio.fail_after(20), pytest.raises(aioipc.WorkerStartError):
            await pool.run(tasks.echo, 1)


async def test_an_initializer_and_a_finalizer_are_called_once(
    context, tmp_path
) -> None:
    marks = tmp_path / "initialized", tmp_path / "finalized"
    async with WorkerPool(
        1,
        initializer=tasks.touch,
        initargs=(marks[0],),
        finalizer=tasks.Touch(marks[1]),
        mp_context=context,
    ) as pool:
        await pool.run(tasks.echo, 1)
        assert await anyio.Path(marks[0]).exists()
        assert not await anyio.Path(marks[1]).exists()
    assert await anyio.Path(marks[1]).exists()
