"""Conditions and events, awaited, with plain users of them in other processes."""

import asyncio
import random
import threading
import time

import anyio
import lock_peers as peers
import pytest
from anyio.lowlevel import checkpoint
from lock_control import ASYNCIO, Peer, service_threads, until_no_service_threads

import aioipc
from aioipc.bridge.insides.locks import ConditionInsides
from aioipc.transport.sleepers import Sleepers

pytestmark = pytest.mark.usefixtures("quick_threads")


@pytest.fixture(params=["lock", "rlock"])
def make(request):
    """A factory of conditions, over either kind of lock."""

    def make(context):
        lock = {"lock": aioipc.Lock, "rlock": aioipc.RLock}[request.param]
        return aioipc.Condition(lock(context=context), context=context)

    return make


class Waiters:
    """Tasks that wait on a condition, and what came of it."""

    def __init__(self, condition, group) -> None:
        self.condition = condition
        self.group = group
        self.woken: list[int] = []
        self.scopes: list[anyio.CancelScope] = []

    async def add(self, count: int) -> None:
        for n in range(count):
            self.scopes.append(anyio.CancelScope())
            self.group.start_soon(self._wait, n, self.scopes[-1])
        await anyio.wait_all_tasks_blocked()

    async def until(self, count: int) -> None:
        while len(self.woken) < count:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()
        assert len(self.woken) == count

    async def _wait(self, n: int, scope: anyio.CancelScope) -> None:
        with scope:
            async with self.condition:
                assert await self.condition.wait()
                self.woken.append(n)


# Conditions


async def test_notify_wakes_as_many_as_it_says(make, fork) -> None:
    condition = make(fork)
    async with condition:
        await condition.notify()  # nobody there
    async with anyio.create_task_group() as group:
        waiters = Waiters(condition, group)
        await waiters.add(6)
        assert condition.statistics().tasks_waiting == 6
        for n, in_all in ((1, 1), (2, 3)):
            async with condition:
                await condition.notify(n)
                await checkpoint()
                assert len(waiters.woken) == in_all - n  # we have the lock
            await waiters.until(in_all)
        async with condition:
            await condition.notify_all()
        await waiters.until(6)
    assert sorted(waiters.woken) == list(range(6))


async def test_plain_waiters_elsewhere_are_notified(make, context) -> None:
    condition = make(context)
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.wait_in_threads, args=(condition, theirs, 4), context=context
    )
    async with mine, process:
        assert await mine.recv() == "waiting"
        async with condition:
            await condition.notify(2)
        assert [await mine.recv() for _ in range(2)] == [True, True]
        assert not await mine.poll(0.05)
        async with condition:
            await condition.notify_all()
        assert [await mine.recv() for _ in range(2)] == [True, True]


async def test_waiting_tasks_are_notified_from_elsewhere(make, context) -> None:
    condition = make(context)
    peer = Peer(context, condition, peers.notify_when_told)
    async with peer, anyio.create_task_group() as group:
        waiters = Waiters(condition, group)
        await waiters.add(5)
        for n, in_all in ((1, 1), (2, 3), (9, 5)):
            await peer.connection.send(n)
            assert await peer.connection.recv() == "notified"
            await waiters.until(in_all)


async def test_both_sides_wait_and_each_is_notified_once(make, fork) -> None:
    condition = make(fork)
    mine, theirs = aioipc.Pipe(context=fork)
    process = aioipc.Process(
        target=peers.wait_in_threads, args=(condition, theirs, 3), context=fork
    )
    async with mine, process, anyio.create_task_group() as group:
        assert await mine.recv() == "waiting"
        waiters = Waiters(condition, group)
        await waiters.add(3)
        for _ in range(6):
            async with condition:
                await condition.notify()
        for _ in range(3):
            assert await mine.recv()
        await waiters.until(3)


async def test_wait_for_a_predicate_and_wait_in_vain(make, context) -> None:
    condition, state = make(context), context.RawValue("i", 0)
    process = aioipc.Process(
        target=peers.set_state_and_notify, args=(condition, state, 5), context=context
    )
    async with condition:
        assert await condition.wait(0.01) is False
        assert await condition.wait(-1) is False
        assert await condition.wait_for(lambda: state.value, 0.01) == 0
        assert await condition.wait_for(lambda: "at once") == "at once"
        await process.start()
        assert await condition.wait_for(lambda: state.value == 5)
        assert await condition.wait_for(lambda: state.value, timeout=5) == 5
    assert await process.join() == 0


async def test_who_does_not_own_the_lock_may_not_wait_or_notify(make, fork) -> None:
    condition = make(fork)

    async def refused() -> None:
        with pytest.raises(AssertionError, match="must acquire"):
            await condition.wait()
        with pytest.raises(AssertionError, match="not owned"):
            await condition.notify()
        with pytest.raises(AssertionError, match="not owned"):
            await condition.notify_all()

    await refused()
    async with condition, anyio.create_task_group() as group:
        group.start_soon(refused)
    assert condition.statistics().tasks_waiting == 0


async def test_a_condition_over_a_plain_lock_is_acquired_as_that(fork) -> None:
    for plain in (fork.Lock(), fork.RLock()):
        condition = aioipc.Condition(plain, context=fork)
        assert await condition.acquire(block=False)
        assert not plain.acquire(False)
        assert await condition.wait(timeout=0) is False
        assert await condition.wait_for(list, timeout=-1) == []
        await condition.notify(n=3)
        condition.release()
        assert plain.acquire(False)
        assert not await condition.acquire(block=True, timeout=0.001)
        plain.release()


async def test_wait_releases_an_rlock_wholly_and_has_it_back_as_often(fork) -> None:
    condition = aioipc.Condition(context=fork)

    async def notify() -> None:
        async with condition:
            await condition.notify()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            await condition.acquire()
        group.start_soon(notify)
        assert await condition.wait()
        assert condition.statistics().lock.count == 3
        for _ in range(3):
            condition.release()
        with pytest.raises(AssertionError, match="not owned"):
            condition.release()


async def test_a_cancelled_wait_has_the_lock_again(make, fork) -> None:
    condition = make(fork)
    owners = []

    async def wait() -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                owners.append(condition.statistics().lock.owner)
                with pytest.raises(AssertionError):
                    assert not condition.statistics().lock.locked

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await condition.acquire()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert owners == []  # it waits for the lock, cancelled or not
            condition.release()
    assert len(owners) == 1
    assert owners[0]
    assert not condition.statistics().lock.locked


async def test_a_notification_of_a_cancelled_task_goes_to_another(make, fork) -> None:
    condition = make(fork)
    async with anyio.create_task_group() as group:
        waiters = Waiters(condition, group)
        await waiters.add(2)
        async with condition:
            await condition.notify()  # the first has it, but not the lock
            waiters.scopes[0].cancel()
        await waiters.until(1)
        group.cancel_scope.cancel()


async def test_a_notification_of_one_who_left_goes_elsewhere(make, fork) -> None:
    condition = make(fork)
    mine, theirs = aioipc.Pipe(context=fork)
    process = aioipc.Process(
        target=peers.wait_in_threads, args=(condition, theirs, 1), context=fork
    )
    async with mine, process:
        assert await mine.recv() == "waiting"
        async with condition:
            assert not await condition.wait(0.001)
            await condition.notify()  # within the slice: taken by the thread, perhaps
        assert await mine.recv() is True


@pytest.mark.parametrize("anyio_backend", ASYNCIO, indirect=True)
async def test_asyncios_own_cancel_at_any_step(make, fork) -> None:
    condition = make(fork)
    woken = 0

    async def wait() -> None:
        nonlocal woken
        async with condition:
            await condition.wait()
            woken += 1

    for steps in range(25):
        woken = 0
        tasks = [asyncio.ensure_future(wait()) for _ in range(2)]
        while condition.statistics().tasks_waiting < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await condition.acquire()
        await condition.notify()
        for _ in range(steps % 5):
            await asyncio.sleep(0)
        tasks[0].cancel()
        if steps % 3:
            await asyncio.sleep(0)
            tasks[0].cancel()
        condition.release()
        while not woken:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert woken == 1
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert not condition.statistics().lock.locked


async def test_a_cancelled_notify_has_notified_and_the_lock_is_free_after(
    make, fork
) -> None:
    condition = make(fork)
    async with anyio.create_task_group() as group:
        waiters = Waiters(condition, group)
        await waiters.add(2)
        with anyio.CancelScope() as scope:
            async with condition:
                scope.cancel()
                await condition.notify_all()
        await waiters.until(2)
    assert await condition.acquire(timeout=5)


class Elsewhere:
    """One who waits in another process, and is slow to wake up."""

    def __init__(self, condition) -> None:
        self._insides = ConditionInsides(condition.sync)
        self._insides.sleeping.release()

    async def wake_up(self) -> None:
        assert await anyio.to_thread.run_sync(self._insides.wakeups.acquire)
        self._insides.woken.release()


async def test_a_lock_of_two_conditions_is_free_after_both_have_notified(fork) -> None:
    lock, done = aioipc.Lock(context=fork), []
    conditions = [aioipc.Condition(lock, context=fork) for _ in range(2)]

    async def acquire_later() -> None:
        async with aioipc.wrap(lock.sync):
            done.extend(job.done for job in jobs)

    async with anyio.create_task_group() as group:
        async with lock:
            sleepers = [Elsewhere(condition) for condition in conditions]
            jobs = [condition.notify_soon(1) for condition in conditions]
        group.start_soon(acquire_later)
        group.start_soon(sleepers[1].wake_up)
        with anyio.move_on_after(0.01):
            await jobs[1].wait()
        await anyio.wait_all_tasks_blocked()
        assert lock.locked()
        await sleepers[0].wake_up()
    assert done == [True, True]


async def test_a_cancelled_notify_is_not_for_one_who_waits_after_it(make, fork) -> None:
    condition = make(fork)

    async def notify_and_wait() -> None:
        async with aioipc.wrap(condition.sync):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await condition.notify()
            assert await condition.wait()

    async with anyio.create_task_group() as group:
        sleeper = Elsewhere(condition)
        group.start_soon(notify_and_wait)
        await anyio.wait_all_tasks_blocked()
        assert condition.statistics().tasks_waiting == 0
        assert condition.statistics().lock.locked
        await sleeper.wake_up()
        async with condition:
            await condition.notify()


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_random_cancels_lose_no_wake_up(make, fork, count) -> None:
    """Each notification stands for one item: a lost one would leave an item behind."""
    condition = make(fork)
    items, taken, stop = (fork.RawValue("i", 0) for _ in range(3))
    process = aioipc.Process(
        target=peers.consume, args=(condition, items, taken, stop), context=fork
    )
    rng, put, cancelled = random.Random(count), 0, 0

    async def consume() -> None:
        nonlocal cancelled
        with anyio.move_on_after(rng.random() * 0.02) as scope:
            async with condition:
                timeout = rng.choice([None, rng.random() * 0.02])
                if await condition.wait_for(lambda: items.value, timeout):
                    items.value -= 1
                    taken.value += 1
        cancelled += scope.cancelled_caught

    async def all_taken() -> None:
        while taken.value < put:  # noqa: ASYNC110
            await anyio.sleep(0.001)

    async with process:
        while cancelled < count:
            async with anyio.create_task_group() as group:
                for n in range(100):
                    group.start_soon(consume)
                    if n % 10 == 0:
                        async with condition:
                            items.value += 1
                            put += 1
                            await condition.notify()
                        await anyio.sleep(rng.random() * 0.003)
            with anyio.fail_after(10):
                await all_taken()
        async with condition:
            stop.value = 1
            await condition.notify_all()
    assert (items.value, taken.value) == (0, put)
    assert condition.statistics() == aioipc.ConditionStatistics(
        0, aioipc.LockStatistics(False, 0)
    )
    await until_no_service_threads()
    with condition.sync:
        condition.sync.notify_all()  # it would complain if counts were out of step


@pytest.mark.parametrize("others", [0, 1])
async def test_a_wake_up_for_one_who_has_just_left(others, fork, monkeypatch) -> None:
    monkeypatch.setattr("aioipc.transport.sleepers.SLICE", 3)  # the thread is in it
    semaphores, passed_on = ConditionInsides(fork.Condition()), threading.Event()
    sleepers = Sleepers(semaphores, passed_on.set, "test")
    leaver, *rest = [sleepers.lie_down() for _ in range(1 + others)]
    assert not sleepers.get_up(leaver)
    assert semaphores.woken.get_value() == 0  # the thread waits on its behalf
    semaphores.wakeups.release()
    if rest:
        await rest[0].wait()
        assert sleepers.get_up(rest[0])
    while semaphores.woken.get_value() < 1 + others:  # noqa: ASYNC110
        await anyio.sleep(0.001)
    await until_no_service_threads()
    assert passed_on.is_set() is (not others)
    assert semaphores.woken.get_value() == semaphores.sleeping.get_value()


async def test_a_condition_as_an_object(fork) -> None:
    lock = aioipc.Lock(context=fork)
    condition = aioipc.Condition(lock, context=fork)
    assert (
        repr(condition) == "<AsyncCondition <AsyncLock unlocked waiting=0> waiting=0>"
    )
    async with lock:
        assert condition.statistics().lock.count == 1
        with pytest.raises(aioipc.BusyResourceError, match="in use"):
            condition.detach()
        await condition.notify()
    plain = condition.sync
    assert condition.detach() is plain
    assert repr(condition) == "<AsyncCondition detached>"
    with pytest.raises(aioipc.ClosedResourceError):
        await condition.acquire()
    again = aioipc.wrap(fork.Condition())
    assert "AsyncRLock" in repr(again)
    with pytest.raises(TypeError, match="wraps a Condition, not <Lock"):
        aioipc.AsyncCondition(fork.Lock())


# Events


async def test_set_clear_and_is_set_are_seen_everywhere(context) -> None:
    event = aioipc.Event(context=context)
    async with Peer(context, event) as peer:
        assert not event.is_set()
        assert await peer.call("is_set") is False
        assert await event.wait(0.01) is False
        assert await event.wait(0) is False
        assert await event.wait(-1) is False
        await event.set()
        await event.set()
        assert event.is_set()
        assert await event.wait()
        assert await event.wait(0)
        assert await peer.call("wait", 5) is True
        await event.clear()
        await event.clear()
        assert await peer.call("is_set") is False
        await peer.call("set")
        assert event.is_set()
        assert repr(event) == "<AsyncEvent set waiting=0>"
        await peer.call("clear")
        assert repr(event) == "<AsyncEvent unset waiting=0>"


async def test_a_plain_waiter_is_woken(context) -> None:
    event = aioipc.Event(context=context)
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.wait_often, args=(event, theirs, 1), context=context
    )
    async with mine, process:
        assert await mine.recv() == "waiting"
        await event.set()
        assert await mine.recv() is True


async def test_a_thousand_waiters_take_one_thread_and_a_pulse_wakes_them_all(
    fork,
) -> None:
    event = aioipc.Event(context=fork)
    woken = []

    async def wait() -> None:
        woken.append(await event.wait())

    async with Peer(fork, event, peers.set_when_told) as peer:
        for pulse_of in ("ours", "theirs"):
            async with anyio.create_task_group() as group:
                for _ in range(1000):
                    group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                assert event.statistics() == aioipc.EventStatistics(False, 1000)
                assert len(service_threads()) == 1
                assert woken == []
                if pulse_of == "ours":
                    await event.set()
                    await event.clear()
                else:
                    await peer.connection.send(True)
                    assert await peer.connection.recv() == "done"
            assert woken == [True] * 1000
            assert not event.is_set()
            woken.clear()


async def test_the_setter_elsewhere_does_not_wait_for_our_loop(fork) -> None:
    event = aioipc.Event(context=fork)
    plain, done = event.sync, threading.Event()

    def pulse() -> None:
        plain.set()
        plain.clear()
        done.set()

    thread = threading.Thread(target=pulse)
    async with anyio.create_task_group() as group:
        group.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        thread.start()
        end = time.monotonic() + 10
        while not done.is_set() and time.monotonic() < end:
            pass  # the loop stands still meanwhile
        assert done.is_set()
        thread.join()


async def test_a_set_that_is_cancelled_has_happened_or_not(fork) -> None:
    event = aioipc.Event(context=fork)
    async with anyio.create_task_group() as group:
        group.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await event.set()
    assert event.is_set()
    with event.sync._cond:
        with anyio.move_on_after(0.01):
            await event.clear()
    assert event.is_set()
    await event.clear()
    assert not event.is_set()


async def test_is_set_waits_for_one_who_has_the_flag_down(fork, monkeypatch) -> None:
    event = aioipc.Event(context=fork)
    await event.set()
    plain, asked, acquire = event.sync, threading.Event(), event._lock.acquire

    def ask(*args) -> bool:
        asked.set()
        return acquire(*args)

    def look_slowly() -> None:  # as `Event.is_set` of a process that gets no CPU
        with plain._cond:
            assert plain._flag.acquire(False)
            down.set()
            asked.wait(10)
            plain._flag.release()

    down, thread = threading.Event(), threading.Thread(target=look_slowly)
    thread.start()
    await anyio.to_thread.run_sync(down.wait)
    monkeypatch.setattr(event._lock, "acquire", ask)
    assert event.is_set()
    thread.join()


async def test_is_set_does_not_wait_for_a_task_of_ours(fork, monkeypatch) -> None:
    monkeypatch.setattr("aioipc.bridge.conditions.GLANCES", 1 << 60)
    event = aioipc.Event(context=fork)
    plain = event.sync
    async with anyio.create_task_group() as group:
        with plain._cond:
            group.start_soon(event.wait)
            await anyio.wait_all_tasks_blocked()
        while not event._lock.is_ours:  # the thread has it, and the task does not know
            pass
        assert not event.is_set()
        await event.set()


@pytest.mark.parametrize("timeout", [0, 1e-9])
async def test_a_wait_whose_time_is_over_waits_for_the_flag(timeout, fork) -> None:
    event = aioipc.Event(context=fork)
    await event.set()
    plain, answers = event.sync, []

    async def wait() -> None:
        answers.append(await event.wait(timeout))

    async with anyio.create_task_group() as group:
        with plain._cond:
            plain._flag.acquire(False)
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            plain._flag.release()
    assert answers == [True]


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_random_cancels_of_waiters_miss_no_pulse(fork, count) -> None:
    event = aioipc.Event(context=fork)
    rng = random.Random(count)
    outcomes = {"woken": 0, "cancelled": 0}

    async def wait() -> None:
        with anyio.move_on_after(rng.random() * 0.02):
            assert await event.wait(rng.choice([None, 30]))
            outcomes["woken"] += 1
            return
        outcomes["cancelled"] += 1

    async with Peer(fork, event, peers.set_when_told) as peer:
        while outcomes["cancelled"] < count:
            async with anyio.create_task_group() as group:
                for n in range(100):
                    group.start_soon(wait)
                    if n % 25 == 0:
                        await anyio.sleep(rng.random() * 0.01)
                        await peer.connection.send(True)
                        assert await peer.connection.recv() == "done"
    assert outcomes["woken"]
    assert event.statistics() == aioipc.EventStatistics(False, 0)
    await until_no_service_threads()
    event.sync.set()  # it would complain, or hang, if counts were out of step


async def test_an_event_whose_lock_died_with_a_process(fork) -> None:
    event = aioipc.Event(context=fork)
    async with Peer(fork, event.sync._cond, peers.hold) as peer:
        assert await peer.connection.recv() == "held"
        peer.process.kill()
        await peer.process.join()
        assert not event.is_set()
        assert await event.wait(0.05) is False
        with anyio.move_on_after(0.05) as scope:
            await event.set()
        assert scope.cancelled_caught


async def test_a_forked_child_has_no_sleepers(fork) -> None:
    event, condition = aioipc.Event(context=fork), aioipc.Condition(context=fork)
    mine, theirs = aioipc.Pipe(context=fork)

    def tell() -> None:
        tasks = event.statistics().tasks_waiting, condition.statistics().tasks_waiting
        names = [name for name in service_threads() if "start" not in name]
        theirs.send((tasks, names))  # without the one that forked

    async with mine, anyio.create_task_group() as group:
        group.start_soon(event.wait)
        await Waiters(condition, group).add(1)
        async with aioipc.wrap(fork.Process(target=tell)):
            assert await mine.recv() == ((0, 0), [])
        group.cancel_scope.cancel()


async def test_an_event_as_an_object(context) -> None:
    event = aioipc.Event(context=context)
    condition = aioipc.Condition(context=context)
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.tell_kinds, args=(theirs, event, condition), context=context
    )
    async with mine, process:
        assert await mine.recv() == [
            "multiprocessing.synchronize.Event",
            "multiprocessing.synchronize.Condition",
        ]
    plain = event.sync
    async with anyio.create_task_group() as group:
        group.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(aioipc.BusyResourceError, match="waiting=1"):
            event.detach()
        await event.set()
    assert event.detach() is plain
    assert repr(event) == "<AsyncEvent detached>"
    with pytest.raises(aioipc.ClosedResourceError):
        await event.wait()
    assert aioipc.wrap(plain).is_set()
