"""Barriers, awaited, together with plain waiters in other processes."""

import asyncio
import os
import random
import threading

import anyio
import lock_peers as peers
import pytest
from lock_control import ASYNCIO, Peer, until_no_service_threads

import aioipc

pytestmark = pytest.mark.usefixtures("quick_threads")


class Waiters:
    """Tasks that wait at a barrier, and what came of it."""

    def __init__(self, barrier, group) -> None:
        self.barrier = barrier
        self.group = group
        self.indices: list[int | None] = []
        self.scopes: list[anyio.CancelScope] = []

    async def add(self, count: int = 1) -> None:
        for _ in range(count):
            self.scopes.append(anyio.CancelScope())
            self.group.start_soon(self._wait, self.scopes[-1])
            await anyio.wait_all_tasks_blocked()

    async def _wait(self, scope) -> None:
        with scope:
            try:
                self.indices.append(await self.barrier.wait())
            except aioipc.BrokenBarrierError:
                self.indices.append(None)


async def until_it_waits_alone(barrier) -> None:
    with anyio.fail_after(10):
        while barrier.n_waiting != 1:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_tasks_pass_together_again_and_again(fork) -> None:
    barrier = aioipc.Barrier(4, context=fork)
    assert barrier.parties == 4
    for _ in range(3):
        async with anyio.create_task_group() as group:
            waiters = Waiters(barrier, group)
            await waiters.add(3)
            assert (barrier.n_waiting, waiters.indices) == (3, [])
            assert barrier.statistics() == aioipc.BarrierStatistics(3, 3, False)
            assert repr(barrier) == "<AsyncBarrier waiting=3/4>"
            async with barrier as index:
                assert index == 3
        assert sorted(waiters.indices) == [0, 1, 2]
        assert barrier.statistics() == aioipc.BarrierStatistics(0, 0, False)


async def test_tasks_and_a_process_pass_together(context) -> None:
    barrier = aioipc.Barrier(3, context=context)
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.pass_barrier, args=(barrier, theirs, 20), context=context
    )
    rounds: list[list[int]] = [[] for _ in range(20)]

    async def pass_often() -> None:
        for indices in rounds:
            indices.append(await barrier.wait())

    async with mine, process, anyio.create_task_group() as group:
        group.start_soon(pass_often)
        group.start_soon(pass_often)
        for indices in rounds:
            indices.append(await mine.recv())
    assert [sorted(indices) for indices in rounds] == [[0, 1, 2]] * 20


async def test_the_action_is_called_once_by_the_last(fork) -> None:
    threads = []
    barrier = aioipc.Barrier(
        2, lambda: threads.append(threading.current_thread()), context=fork
    )
    async with anyio.create_task_group() as group:
        group.start_soon(barrier.wait)
        group.start_soon(barrier.wait)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_an_action_that_fails_breaks_the_barrier(fork) -> None:
    def fail() -> None:
        raise LookupError("action")

    barrier = aioipc.Barrier(2, fail, context=fork)
    async with anyio.create_task_group() as group:
        waiters = Waiters(barrier, group)
        await waiters.add()
        with pytest.raises(LookupError, match="action"):
            await barrier.wait()
    assert waiters.indices == [None]
    assert barrier.broken
    assert repr(barrier) == "<AsyncBarrier broken>"


@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
async def test_a_process_that_fills_it_calls_the_action(fails, fork) -> None:
    called_by = fork.RawValue("i", 0)

    def act() -> None:
        called_by.value = os.getpid()
        if fails:
            raise LookupError("action")

    barrier = aioipc.Barrier(2, act, context=fork)
    async with Peer(fork, barrier) as peer, anyio.create_task_group() as group:
        waiters = Waiters(barrier, group)
        await waiters.add()
        assert await peer.call("wait") == ("LookupError" if fails else 1)
        assert called_by.value == peer.process.pid
    assert waiters.indices == [None if fails else 0]
    assert barrier.broken is fails


class Action:
    """It takes until it is told to end, and raises what it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self._begun, self._go_on = threading.Event(), threading.Event()
        self.end = self._go_on.set

    def __call__(self) -> None:
        self._begun.set()
        self._go_on.wait(10)
        if self._error is not None:
            raise self._error

    async def begun(self) -> None:
        await anyio.to_thread.run_sync(self._begun.wait)


async def test_a_cancel_does_not_stop_the_action(fork) -> None:
    action = Action()
    barrier = aioipc.Barrier(2, action, context=fork)
    async with anyio.create_task_group() as group:
        waiters = Waiters(barrier, group)
        await waiters.add(2)
        await action.begun()
        waiters.scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert waiters.indices == []
        action.end()
    assert waiters.indices == [0]
    assert waiters.scopes[1].cancelled_caught
    assert barrier.statistics() == aioipc.BarrierStatistics(0, 0, False)


@pytest.mark.parametrize("anyio_backend", ASYNCIO, indirect=True)
async def test_asyncios_own_cancel_lets_the_others_pass_after_the_action(fork) -> None:
    action = Action()
    barrier = aioipc.Barrier(2, action, context=fork)
    first = asyncio.create_task(barrier.wait())
    await anyio.wait_all_tasks_blocked()
    last = asyncio.create_task(barrier.wait())
    await action.begun()
    last.cancel()
    action.end()
    assert await first == 0
    with pytest.raises(asyncio.CancelledError):
        await last
    assert barrier.statistics() == aioipc.BarrierStatistics(0, 0, False)


async def test_a_cancel_is_not_lost_if_the_action_fails(
    fork, anyio_backend_name
) -> None:
    action = Action(LookupError("action"))
    barrier = aioipc.Barrier(1, action, context=fork)
    scope, raised, cancels = anyio.CancelScope(), [], []

    async def wait() -> None:
        with scope:
            trio = anyio_backend_name == "trio"
            cancels.append((scope if trio else asyncio.current_task()).cancel)
            try:
                await barrier.wait()
            except BaseException as error:
                raised.append(error)
                raise

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await action.begun()
        cancels[0]()
        action.end()
    assert isinstance(raised[0], anyio.get_cancelled_exc_class())
    assert isinstance(raised[0].__cause__, LookupError)
    assert barrier.broken


async def test_a_timeout_breaks_it_for_all_and_reset_mends_it(context) -> None:
    barrier = aioipc.Barrier(3, timeout=30, context=context)
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.pass_barrier, args=(barrier, theirs, 2), context=context
    )
    async with mine, process:
        while not barrier.n_waiting:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        with pytest.raises(threading.BrokenBarrierError):
            await barrier.wait(0.01)
        assert barrier.broken
        with pytest.raises(asyncio.BrokenBarrierError):
            await barrier.wait()
        assert [await mine.recv() for _ in range(2)] == ["broken"] * 2
    await barrier.reset()
    assert not barrier.broken
    async with anyio.create_task_group() as group:
        await Waiters(barrier, group).add(2)
        assert await barrier.wait(5) == 2


async def test_a_process_whose_time_is_up_breaks_it_for_tasks(fork) -> None:
    barrier = aioipc.Barrier(3, context=fork)
    async with Peer(fork, barrier) as peer, anyio.create_task_group() as group:
        waiters = Waiters(barrier, group)
        await waiters.add()
        assert await peer.call("wait", 0.01) == "BrokenBarrierError"
    assert waiters.indices == [None]


async def test_no_time_at_all_is_enough_for_the_last(fork) -> None:
    barrier = aioipc.Barrier(2, context=fork)
    async with anyio.create_task_group() as group:
        await Waiters(barrier, group).add()
        assert await barrier.wait(0) == 1
    with pytest.raises(aioipc.BrokenBarrierError):
        await barrier.wait(timeout=0)
    assert barrier.broken


async def test_its_own_timeout_is_that_of_every_wait(fork) -> None:
    barrier = aioipc.Barrier(2, timeout=0.01, context=fork)
    with pytest.raises(aioipc.BrokenBarrierError):
        await barrier.wait()
    assert barrier.broken


@pytest.mark.parametrize("how", ["abort", "reset"])
async def test_abort_and_reset_send_the_waiters_away(how, context) -> None:
    barrier = aioipc.Barrier(3, context=context)
    async with Peer(context, barrier) as peer, anyio.create_task_group() as group:
        waiters = Waiters(barrier, group)
        await waiters.add(2)
        await peer.call(how)
        while len(waiters.indices) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        assert waiters.indices == [None, None]
        assert barrier.broken is (how == "abort")
        await barrier.reset()
        await peer.connection.send(("wait", 30))
        while not barrier.n_waiting:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        await getattr(barrier, how)()
        assert await peer.connection.recv() == "BrokenBarrierError"
        assert barrier.broken is (how == "abort")


async def test_a_cancelled_waiter_leaves_as_if_it_had_not_come(fork) -> None:
    barrier = aioipc.Barrier(3, context=fork)
    async with anyio.create_task_group() as group:
        waiters = Waiters(barrier, group)
        await waiters.add(2)
        waiters.scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        assert barrier.n_waiting == 1
        assert not barrier.broken
        await waiters.add(2)
    assert sorted(waiters.indices) == [0, 1, 2]


async def test_an_index_passes_on_to_a_task_by_whatever_awaitable(fork) -> None:
    plain = fork.Barrier(3)
    async with anyio.create_task_group() as group:
        first = Waiters(aioipc.wrap(plain), group)
        second = Waiters(aioipc.wrap(plain), group)
        await first.add()
        await second.add()
        first.scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        await first.add(2)
    assert sorted(first.indices + second.indices) == [0, 1, 2]


@pytest.mark.parametrize("anyio_backend", ASYNCIO, indirect=True)
async def test_asyncios_own_cancel_at_any_step(fork) -> None:
    barrier = aioipc.Barrier(2, context=fork)
    for steps in range(25):
        tasks = [asyncio.ensure_future(barrier.wait()) for _ in range(2)]
        for _ in range(steps):
            await asyncio.sleep(0)
        tasks[0].cancel()
        done, waiting = await asyncio.wait(tasks, timeout=0.05)
        if waiting:  # the first one left before the second one came
            assert tasks[0] in done
            assert await barrier.wait(5) in (0, 1)
            assert await tasks[1] in (0, 1)
        assert barrier.statistics() == aioipc.BarrierStatistics(0, 0, False)


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_random_cancels_leave_the_barrier_whole(fork, count) -> None:
    barrier = aioipc.Barrier(3, context=fork)
    passed = fork.RawValue("i", 0)
    process = aioipc.Process(
        target=peers.pass_until_broken, args=(barrier, passed), context=fork
    )
    rng, cancelled = random.Random(count), 0

    async def come_and_go() -> None:
        nonlocal cancelled
        while cancelled < count:
            with anyio.move_on_after(rng.random() * 0.005) as scope:
                assert await barrier.wait() in (0, 1, 2)
            cancelled += scope.cancelled_caught

    async with process:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(come_and_go)
        await until_it_waits_alone(barrier)
        async with anyio.create_task_group() as group:
            group.start_soon(barrier.wait)  # both are still served
            group.start_soon(barrier.wait)
        await until_it_waits_alone(barrier)
        await barrier.abort()
    assert passed.value
    await barrier.reset()
    assert barrier.statistics() == aioipc.BarrierStatistics(0, 0, False)
    await until_no_service_threads()


async def test_a_barrier_as_an_object(context) -> None:
    barrier = aioipc.Barrier(2, context=context)
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.tell_kinds, args=(theirs, barrier), context=context
    )
    async with mine, process:
        assert await mine.recv() == ["multiprocessing.synchronize.Barrier"]
    plain = barrier.sync
    async with anyio.create_task_group() as group:
        await Waiters(barrier, group).add()
        with pytest.raises(aioipc.BusyResourceError, match="waiting=1/2"):
            barrier.detach()
        await barrier.wait()
    assert barrier.detach() is plain
    assert repr(barrier) == "<AsyncBarrier detached>"
    with pytest.raises(aioipc.ClosedResourceError):
        await barrier.wait()
    assert type(aioipc.wrap(plain)) is aioipc.AsyncBarrier
