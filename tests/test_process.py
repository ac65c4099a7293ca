"""A process never outlives its block, whatever cancels come when."""

import asyncio
import inspect
import itertools
import multiprocessing
import os
import pickle
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext

import anyio
import anyio.lowlevel
import peers
import psutil
import pytest
from anyio.to_thread import run_sync

import aioipc
from aioipc.testing import Leaks

on_asyncio = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)


async def until(condition) -> None:
    """For what other processes and threads do, and tell no one of."""
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.001)


@pytest.fixture
def ends(context: BaseContext) -> Iterator[tuple]:
    """A pipe's two ends, one for the worker."""
    mine, theirs = context.Pipe()
    with mine, theirs:
        yield mine, theirs


@pytest.fixture
async def started(fork, transport) -> AsyncIterator[aioipc.AsyncProcess]:
    """A worker that lives until a signal comes."""
    async with staying(peers.stay, context=fork, transport=transport) as process:
        yield process


@asynccontextmanager
async def staying(target, **options) -> AsyncIterator[aioipc.AsyncProcess]:
    """A process that has come to its target, and is left alone afterwards."""
    mine, theirs = aioipc.Pipe(context=options["context"])
    process = aioipc.Process(target=target, args=(theirs,), **options)
    async with mine:
        with theirs:
            await process.start()
        assert await mine.recv() == "started"
    try:
        yield process
    finally:
        process.kill()
        await process.join()
        process.close()


class SlowToStart:
    """A `start` that says when it is under way, and waits to be let through."""

    def __init__(self, context: BaseContext, target, *args) -> None:
        self.under_way = threading.Event()
        self.go_on = threading.Event()
        self.reaped = threading.Event()
        gates = self

        class Process(context.Process):
            def start(self) -> None:
                gates.under_way.set()
                gates.go_on.wait()
                super().start()

            def join(self, timeout: float | None = None) -> None:
                super().join(timeout)
                gates.reaped.set()

        self.process = Process(target=target, args=args)


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def has_ended(process: psutil.Process) -> bool:
    """Whether it has, reaped or not; for a process that is not our child."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end(connection) -> None:
    """Let a worker that waits in `end_with` end."""
    connection.send_bytes(pickle.dumps(None))


# As in the standard library


def test_the_constructor_takes_what_the_stdlibs_takes() -> None:
    stdlib = inspect.signature(multiprocessing.Process).parameters
    ours = inspect.signature(aioipc.Process).parameters
    assert list(ours)[: len(stdlib)] == list(stdlib)
    for name, parameter in stdlib.items():
        assert ours[name].kind == parameter.kind


async def test_name_daemon_arguments_and_state(context, transport) -> None:
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        None,
        peers.tell_shape,
        "my worker",
        [theirs, 1],
        {"keyword": "x"},
        daemon=True,
        context=context,
        transport=transport,
    )
    kind = type(process.sync).__name__
    assert (process.name, process.daemon) == ("my worker", True)
    assert (process.pid, process.exitcode, process.is_alive()) == (None, None, False)
    assert repr(process) == (
        f"<Async{kind} name='my worker' parent={os.getpid()} initial daemon>"
    )
    with pytest.raises(ValueError, match="not started"):
        _ = process.sentinel
    async with mine, process:
        theirs.close()
        assert psutil.pid_exists(process.pid)
        assert process.sentinel == process.sync.sentinel
        assert f"pid={process.pid} parent={os.getpid()} st" in repr(process)
        assert await mine.recv() == (("builtins.int",), {"keyword": "builtins.str"})
        assert await process.join() == 0
    assert (process.exitcode, process.is_alive()) == (0, False)
    assert " stopped exitcode=0 daemon>" in repr(process)


def test_defaults_are_the_stdlibs(context) -> None:
    ours, theirs = aioipc.Process(context=context), context.Process()
    assert re.sub(r"\d+$", "", ours.name) == re.sub(r"\d+$", "", theirs.name)
    assert ours.daemon == theirs.daemon is False
    assert type(ours.sync) is type(theirs)
    with pytest.raises(AssertionError, match="group argument must be None"):
        aioipc.Process("group", context=context)


def test_a_transport_that_does_not_exist_is_refused(fork) -> None:
    with pytest.raises(ValueError, match="not 'pigeons'"):
        aioipc.Process(transport="pigeons", context=fork)


async def test_a_target_that_cannot_be_pickled_starts_nothing() -> None:
    context = multiprocessing.get_context("spawn")
    process = aioipc.Process(target=lambda: None, context=context)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        async with process:
            pytest.fail("the block was entered")
    assert (process.pid, process.exitcode) == (None, None)


# The exit code


@pytest.mark.parametrize(
    ("target", "args", "code"),
    [
        (peers.leave, (0,), 0),
        (peers.leave, (3,), 3),
        (peers.leave_quietly, (5,), 5),
        (peers.kill_self, (), -signal.SIGKILL),
        (peers.fail, (), 1),
    ],
    ids=["0", "3", "without cleaning up", "SIGKILL", "exception"],
)
async def test_exit_code(target, args, code, context) -> None:
    async with aioipc.Process(target=target, args=args, context=context) as process:
        assert await process.join() == code
        assert await process.join() == process.exitcode == code
    assert await process.join() == code
    assert await process.join(timeout=0) == code


@pytest.mark.parametrize("how", ["terminate", "kill"])
async def test_terminate_and_kill(how, context) -> None:
    async with staying(peers.stay, context=context) as process:
        getattr(process, how)()
        expected = {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL}[how]
        assert await process.join() == expected


# join


async def test_join_before_start_is_a_value_error(fork) -> None:
    process = aioipc.Process(target=peers.leave, args=(0,), context=fork)
    with pytest.raises(ValueError, match="has not been started"):
        await process.join()


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_join_with_a_timeout_returns_none_while_it_runs(timeout, started) -> None:
    assert await started.join(timeout) is None
    assert await started.join(timeout=timeout) is None
    assert started.is_alive()


async def test_join_with_a_timeout_returns_the_code_at_the_end(started) -> None:
    async with anyio.create_task_group() as tasks:

        async def join() -> None:
            assert await started.join(60) == -signal.SIGKILL

        tasks.start_soon(join)
        await anyio.wait_all_tasks_blocked()
        started.kill()


async def test_several_join_at_once_and_all_get_the_code(started) -> None:
    codes = []

    async def join(timeout: float | None) -> None:
        codes.append(await started.join(timeout))

    async with anyio.create_task_group() as tasks:
        for timeout in (None, None, 0, 60, None):
            tasks.start_soon(join, timeout)
        await anyio.wait_all_tasks_blocked()
        await started.join(0)
        assert codes == [None]
        started.kill()
    assert codes == [None] + [-signal.SIGKILL] * 4


async def test_a_cancelled_join_leaves_it_running_and_the_others_waiting(
    started,
) -> None:
    codes = []

    async def join() -> None:
        codes.append(await started.join())

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as cancelled:
            # The one that waits for the kernel, the first in line, and the last
            for group in (cancelled, cancelled, tasks, cancelled):
                group.start_soon(join)
                await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        assert started.is_alive()
        assert codes == []
        started.kill()
    assert codes == [-signal.SIGKILL]


async def test_a_join_that_finds_it_ended_leaves_those_who_wait_their_code(
    started,
) -> None:
    codes = []

    async def join() -> None:
        codes.append(await started.join())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(join)
        tasks.start_soon(join)
        await anyio.wait_all_tasks_blocked()
        # It has ended, but the loop has not had a chance to tell them.
        started.kill()
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        assert await started.join() == -signal.SIGKILL
    assert codes == [-signal.SIGKILL] * 2


@pytest.mark.parametrize("when", ["before the wait", "meanwhile"])
async def test_join_while_another_thread_reaps_it(when, started, monkeypatch) -> None:
    """As multiprocessing does with all that have ended, whenever one is started."""
    noting = anyio.Event()
    pidfd_open = os.pidfd_open

    def open_pidfd(pid: int) -> int:
        noting.set()
        if when == "meanwhile":
            fd = pidfd_open(pid)
            reap(pid)
            return fd
        reap(pid)
        return pidfd_open(pid)

    def reap(pid: int) -> None:
        started.kill()
        os.waitpid(pid, 0)

    async def note() -> None:
        await noting.wait()
        started.sync._popen.returncode = -signal.SIGKILL

    monkeypatch.setattr(os, "pidfd_open", open_pidfd)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(note)
        assert await started.join() == -signal.SIGKILL


async def test_one_process_in_two_loops_one_after_the_other(
    fork, transport, ends_of_fork
) -> None:
    mine, theirs = ends_of_fork
    process = aioipc.Process(
        target=peers.end_with, args=(theirs,), context=fork, transport=transport
    )

    def elsewhere() -> None:
        anyio.run(process.start)
        assert anyio.run(process.join, 0, backend="trio") is None
        assert anyio.run(process.join, 0) is None

    await run_sync(elsewhere)
    await run_sync(end, mine)
    assert await process.join() == 0
    process.close()


@pytest.fixture
def ends_of_fork(fork) -> Iterator[tuple]:
    mine, theirs = fork.Pipe()
    with mine, theirs:
        yield mine, theirs


async def test_after_join_nothing_waits_for_the_process_any_more(
    context, transport, ends
) -> None:
    mine, theirs = ends
    before = Leaks.now()
    process = aioipc.Process(
        target=peers.end_with, args=(theirs,), context=context, transport=transport
    )
    await process.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.join)
        await anyio.wait_all_tasks_blocked()
        await run_sync(end, mine)
    assert process.exitcode == 0
    left = Leaks.now().since(before)
    process.close()
    assert not any("pidfd" in target for _, target in left.descriptors)
    assert "aioipc watch" not in left.threads.values()


async def test_a_grandchild_that_holds_the_sentinel_does_not_delay_join(
    context, transport, ends
) -> None:
    mine, theirs = aioipc.Pipe(context=context)
    lives_on, its_end = ends
    async with (
        mine,
        aioipc.Process(
            target=peers.leave_a_child_behind,
            args=(theirs, its_end),
            context=context,
            transport=transport,
        ) as process,
    ):
        theirs.close()
        grandchild = await run_sync(psutil.Process, await mine.recv())
        assert await process.join() == 0
        assert not await run_sync(has_ended, grandchild)
    await run_sync(end, lives_on)
    while not await run_sync(has_ended, grandchild):  # noqa: ASYNC110
        await anyio.sleep(0.001)


# The block


async def test_leaving_the_block_joins(context, transport, ends) -> None:
    mine, theirs = ends
    async with aioipc.Process(
        target=peers.end_with, args=(theirs,), context=context, transport=transport
    ) as process:
        pid = process.pid
        await run_sync(end, mine)
    assert process.exitcode == 0
    assert not psutil.pid_exists(pid)


async def test_an_exception_in_the_block_terminates_and_reaps(context, ends) -> None:
    _, theirs = ends
    with pytest.raises(KeyError, match="mine"):
        async with aioipc.Process(
            target=peers.end_with, args=(theirs,), context=context
        ) as process:
            raise KeyError("mine")
    assert process.exitcode == -signal.SIGTERM
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize("where", ["in the block", "in its join"])
async def test_a_cancel_terminates_and_reaps(where, context, ends) -> None:
    _, theirs = ends

    async def hold() -> None:
        nonlocal process
        async with aioipc.Process(
            target=peers.end_with, args=(theirs,), context=context
        ) as process:
            is_started.set()
            if where == "in the block":
                await anyio.sleep_forever()

    process, is_started = None, anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await is_started.wait()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert process.exitcode == -signal.SIGTERM
    assert not psutil.pid_exists(process.pid)


class Held:
    """A process whose block waits for ever, until it is cancelled."""

    def __init__(self, context: BaseContext, transport: str, grace: float) -> None:
        self.mine, self.theirs = aioipc.Pipe(context=context)
        self.process = aioipc.Process(
            target=peers.stay_whatever_is_asked,
            args=(self.theirs,),
            context=context,
            grace=grace,
            transport=transport,
        )
        self.entered = anyio.Event()

    async def run(self) -> None:
        async with self.mine, self.process:
            self.theirs.close()
            assert await self.mine.recv() == "started"
            self.entered.set()
            await anyio.sleep_forever()


async def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(
    context, transport
) -> None:
    held = Held(context, transport, grace=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held.run)
        await held.entered.wait()
        tasks.cancel_scope.cancel()
    assert held.process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(held.process.pid)


async def test_a_second_cancel_during_the_grace_waits_for_it(fork, transport) -> None:
    held = Held(fork, transport, grace=0.2)
    async with anyio.create_task_group() as outer:  # noqa: SIM117
        async with anyio.create_task_group() as inner:
            inner.start_soon(held.run)
            await held.entered.wait()
            inner.cancel_scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert held.process.is_alive()
            outer.cancel_scope.cancel()
    assert held.process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(held.process.pid)


@on_asyncio
async def test_asyncios_own_cancel_terminates_and_reaps(fork, transport) -> None:
    held = Held(fork, transport, grace=0.05)
    task = asyncio.create_task(held.run())
    await held.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(held.process.pid)


@on_asyncio
async def test_asyncios_own_cancel_during_the_grace_kills_at_once_and_reaps(
    context, transport
) -> None:
    held = Held(context, transport, grace=3600)
    task = asyncio.create_task(held.run())
    await held.entered.wait()
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    assert held.process.is_alive()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(held.process.pid)


@on_asyncio
async def test_asyncios_own_cancel_in_every_step_still_reaps(fork, transport) -> None:
    held = Held(fork, transport, grace=3600)
    task = asyncio.create_task(held.run())
    await held.entered.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    # A thread of its own does that, when no one may wait any more.
    await until(lambda: "aioipc reap" not in thread_names())
    assert held.process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(held.process.pid)


@on_asyncio
async def test_asyncios_own_cancel_during_the_grace_leaves_no_descriptor(
    fork, transport
) -> None:
    before = Leaks.now()
    held = Held(fork, transport, grace=3600)
    task = asyncio.create_task(held.run())
    await held.entered.wait()
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.process.sync.close()
    left = Leaks.now().since(before)
    assert not any("pidfd" in target for _, target in left.descriptors)
    assert not any("watch" in name for name in left.threads.values())


# start


async def test_start_does_not_block_the_loop(fork, transport) -> None:
    slow = SlowToStart(fork, peers.leave, 0)
    process = aioipc.wrap(slow.process, transport=transport)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.start)
        await anyio.wait_all_tasks_blocked()
        await run_sync(slow.under_way.wait)
        assert process.pid is None  # and yet, we run
        slow.go_on.set()
    assert await process.join() == 0
    process.close()


async def test_a_cancel_during_start_kills_and_reaps_once_it_is_there(fork) -> None:
    slow = SlowToStart(fork, signal.pause)
    process = aioipc.wrap(slow.process)
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(process.start)
            await run_sync(slow.under_way.wait)
            cancelled.cancel_scope.cancel()
            tasks.start_soon(run_sync, slow.go_on.set)
        assert slow.reaped.is_set()
    assert process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)
    process.close()


@on_asyncio
@pytest.mark.parametrize("cancels", [1, 2])
async def test_asyncios_own_cancel_during_start_kills_and_reaps(cancels, fork) -> None:
    slow = SlowToStart(fork, signal.pause)
    process = aioipc.wrap(slow.process)

    async def hold() -> None:
        async with process:
            pytest.fail("the block was entered")

    task = asyncio.create_task(hold())
    await run_sync(slow.under_way.wait)
    for _ in range(cancels):
        task.cancel()
        await anyio.wait_all_tasks_blocked()
    assert task.done() == (cancels > 1)
    slow.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await run_sync(slow.reaped.wait)
    assert process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)
    process.close()


async def test_a_cancel_during_a_real_start_leaves_no_process(context) -> None:
    process = aioipc.Process(target=signal.pause, context=context)
    is_started = False

    async def start() -> None:
        nonlocal is_started
        await process.start()
        is_started = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    if is_started:  # as quick as that; the other tests decide who is first
        process.kill()
        await process.join()
    await until(lambda: not any(name.startswith("aioipc") for name in thread_names()))
    assert process.exitcode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)
    process.close()


async def test_a_second_start_fails_and_harms_nothing(started) -> None:
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        await started.start()
    assert started.is_alive()


async def test_a_second_start_that_is_cancelled_harms_nothing(fork) -> None:
    slow = SlowToStart(fork, signal.pause)
    process = aioipc.wrap(slow.process)
    slow.go_on.set()
    await process.start()
    try:
        slow.under_way.clear()
        slow.go_on.clear()
        async with (
            anyio.create_task_group() as tasks,
            anyio.create_task_group() as cancelled,
        ):
            cancelled.start_soon(process.start)
            await run_sync(slow.under_way.wait)
            cancelled.cancel_scope.cancel()
            tasks.start_soon(run_sync, slow.go_on.set)
        assert process.is_alive()
    finally:
        process.kill()
        await process.join()
        process.close()


async def test_eight_at_once_and_each_ends_by_itself(context) -> None:
    # With fork, each inherits what the others have; that must keep no one alive.
    pipes = [context.Pipe() for _ in range(8)]
    processes = [
        aioipc.Process(target=peers.end_with, args=(theirs,), context=context)
        for _, theirs in pipes
    ]
    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(stack.enter_async_context, process)
        assert len({process.pid for process in processes}) == 8
        assert all(process.is_alive() for process in processes)
        for n, process in enumerate(processes):
            await run_sync(end, pipes[n][0])
            assert await process.join() == 0
            assert await run_sync(wait, [process.sentinel], 10) == [process.sentinel]
            assert all(later.is_alive() for later in processes[n + 1 :])
    for connection in itertools.chain(*pipes):
        connection.close()


# wrap and close


async def test_wrap_of_a_process_that_was_not_started(context, transport, ends) -> None:
    mine, theirs = ends
    plain = context.Process(target=peers.end_with, args=(theirs,), name="plain")
    async with aioipc.wrap(plain, transport=transport) as process:
        assert isinstance(process, aioipc.AsyncProcess)
        assert process.sync is plain
        assert (process.name, process.pid) == ("plain", plain.pid)
        await run_sync(end, mine)
    assert plain.exitcode == 0


async def test_wrap_of_a_process_that_was_started(context, transport, ends) -> None:
    mine, theirs = ends
    plain = context.Process(target=peers.end_with, args=(theirs,))
    await run_sync(plain.start)
    process = aioipc.wrap(plain, transport=transport)
    assert await process.join(0) is None
    await run_sync(end, mine)
    assert await process.join() == plain.exitcode == 0
    process.close()


async def test_close_while_it_runs_is_a_value_error_and_harms_nothing(started) -> None:
    with pytest.raises(ValueError, match="still running"):
        started.close()
    started.kill()
    assert await started.join() == -signal.SIGKILL


async def test_after_close_it_is_closed(context) -> None:
    process = aioipc.Process(target=peers.leave, args=(0,), context=context)
    await process.start()
    assert await process.join() == 0
    process.close()
    assert re.fullmatch(r"<Async\w+ name='.*' parent=\d+ closed>", repr(process))
    with pytest.raises(ValueError, match="process object is closed"):
        await process.join()


async def test_close_in_the_block_after_join_is_fine(fork) -> None:
    async with aioipc.Process(target=peers.leave, args=(0,), context=fork) as process:
        assert await process.join() == 0
        process.close()
