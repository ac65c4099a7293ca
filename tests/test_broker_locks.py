"""The broker's locks: here awaited, in workers blocking; and what a death leaves."""

import random
from threading import BrokenBarrierError

import anyio
import broker_peers as peers
import pytest
from anyio import wait_all_tasks_blocked

import aioipc
from aioipc import Broker


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


async def gather(queue_, count: int) -> list:
    with anyio.fail_after(20):
        return [await queue_.get() for _ in range(count)]


# Here only


async def test_a_lock(broker) -> None:
    lock = broker.Lock()
    assert not lock.locked()
    assert await lock.acquire()
    assert not await lock.acquire(block=False)
    assert not await lock.acquire(timeout=0.01)
    assert "held by coordinator" in repr(lock)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()
    async with lock:
        assert lock.locked()


async def test_a_semaphore(broker) -> None:
    semaphore = broker.Semaphore(2)
    async with semaphore:
        assert await semaphore.acquire()
        assert not await semaphore.acquire(block=False)
        assert not await semaphore.acquire(timeout=0.01)
        assert semaphore.get_value() == 0
        semaphore.release(3)
    assert semaphore.get_value() == 4
    with pytest.raises(ValueError, match="must be"):
        broker.Semaphore(-1)


async def test_an_event(broker) -> None:
    event = broker.Event()
    assert not await event.wait(0.01)
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(event.wait)
        await wait_all_tasks_blocked()
        assert repr(event) == "<BrokerEvent not set, 1000 waiting>"
        event.set()
        event.clear()
    assert not event.is_set()
    event.set()
    assert await event.wait()


async def test_a_condition(broker) -> None:
    condition = broker.Condition()
    notified = []

    async def wait(number: int) -> None:
        async with condition:
            assert await condition.wait()
            notified.append(number)

    with pytest.raises(RuntimeError):
        condition.notify()
    with pytest.raises(RuntimeError):
        await condition.wait()
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
            await wait_all_tasks_blocked()
        async with condition:
            condition.notify()
        await wait_all_tasks_blocked()
        assert notified == [0]
        async with condition:
            condition.notify_all()
    assert notified == [0, 1, 2]
    async with condition:
        assert not await condition.wait(0.01)
        assert await condition.wait_for(lambda: "true") == "true"
        assert not await condition.wait_for(bool, 0.01)


async def test_a_cancelled_wait_has_the_lock_again(broker) -> None:
    condition = broker.Condition()

    async def wait() -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                assert condition._lock.locked()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await wait_all_tasks_blocked()
        async with condition:
            group.cancel_scope.cancel()
    assert not condition._lock.locked()


async def test_a_notification_of_a_cancelled_wait_passes_on(broker) -> None:
    condition = broker.Condition()
    woken = []

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            woken.append(number)

    scope = anyio.CancelScope()

    async def wait_in(scope) -> None:
        with scope:
            await wait(1)

    async with anyio.create_task_group() as group:
        group.start_soon(wait_in, scope)
        await wait_all_tasks_blocked()
        group.start_soon(wait, 2)
        await wait_all_tasks_blocked()
        async with condition:
            condition.notify()  # which 1 has, but not yet the lock
            scope.cancel()
            await wait_all_tasks_blocked()
    assert woken == [2]


async def test_a_barrier(broker) -> None:
    barrier = broker.Barrier(3)
    places = []

    async def wait() -> None:
        places.append(await barrier.wait())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await wait_all_tasks_blocked()
        assert barrier.n_waiting == 1
        group.cancel_scope.cancel()
    assert barrier.n_waiting == 0
    assert not barrier.broken
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
    assert sorted(places) == [0, 1, 2]
    with pytest.raises(BrokenBarrierError):
        await barrier.wait(0.01)
    assert barrier.broken
    with pytest.raises(BrokenBarrierError):
        await barrier.wait()
    barrier.reset()
    async with anyio.create_task_group() as group:

        async def broken() -> None:
            with pytest.raises(BrokenBarrierError):
                await barrier.wait()

        group.start_soon(broken)
        await wait_all_tasks_blocked()
        barrier.abort()
    assert "broken" in repr(barrier)
    assert barrier.parties == 3


@pytest.mark.parametrize("rounds", [100, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "Event", "Condition", "Barrier"])
async def test_random_cancels(broker, kind, rounds) -> None:
    """What is acquired is released, and no wake-up is lost."""
    rng = random.Random(kind)
    obj = broker.Barrier(2) if kind == "Barrier" else getattr(broker, kind)()
    done = 0

    async def use() -> None:
        nonlocal done
        if kind in {"Lock", "Semaphore"}:
            async with obj:
                await anyio.lowlevel.checkpoint()
        elif kind == "Condition":
            async with obj:
                await obj.wait()
        else:
            await obj.wait()
        done += 1

    cancelled = 0
    while cancelled < rounds:
        async with anyio.create_task_group() as group:
            scopes = []

            async def one(scope) -> None:
                with scope:
                    await use()

            for _ in range(10):
                scopes.append(anyio.CancelScope())
                group.start_soon(one, scopes[-1])
            for scope in rng.sample(scopes, 5):
                for _ in range(rng.randrange(3)):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
                cancelled += 1
                if kind == "Event" and rng.random() < 0.3:
                    obj.set()
                if kind == "Condition" and rng.random() < 0.3:
                    async with obj:
                        obj.notify()
            if kind == "Event":
                obj.set()
                obj.clear()
            for scope in scopes:
                if kind in {"Barrier", "Condition"} or rng.random() < 0.2:
                    scope.cancel()
            if kind == "Event":
                group.cancel_scope.cancel()
    if kind == "Lock":
        assert await obj.acquire(block=False)
    if kind == "Semaphore":
        assert obj.get_value() == 1
    if kind == "Barrier":
        assert obj.n_waiting == 0
    if kind == "Condition":
        assert await obj.acquire(block=False)
    if kind in {"Lock", "Semaphore"}:
        assert done
    assert not obj._primitive.waiting


# With workers


@pytest.mark.parametrize(
    ("target", "make", "expected"),
    [
        (
            peers.try_lock,
            lambda broker: broker.Lock(),
            [True, False, False, True, "RuntimeError", True, False],
        ),
        (
            peers.try_semaphore,
            lambda broker: broker.Semaphore(2),
            [1, True, False, False, 2, 3],
        ),
        (
            peers.try_event,
            lambda broker: broker.Event(),
            [False, False, True, True, False],
        ),
        (
            peers.try_condition,
            lambda broker: broker.Condition(),
            ["RuntimeError", "RuntimeError", False, "true", False],
        ),
    ],
)
async def test_what_a_worker_sees(broker, context, target, make, expected) -> None:
    results = broker.Queue()
    async with aioipc.Process(
        target=target, args=(make(broker), results), context=context
    ):
        assert await gather(results, len(expected)) == expected


async def test_a_lock_passes_between_worker_and_task(broker, fork) -> None:
    lock, results = broker.Lock(), broker.Queue()
    await lock.acquire()
    async with aioipc.Process(
        target=peers.acquire_twice, args=(lock, results), context=fork
    ):
        while not lock._core.waiting:
            await anyio.lowlevel.checkpoint()
        assert results.empty()
        lock.release()
        assert await gather(results, 2) == ["first", "second"]


@pytest.mark.parametrize("kind", ["Lock", "Semaphore"])
async def test_what_a_dead_worker_held_passes_on(broker, fork, kind) -> None:
    lock, results = getattr(broker, kind)(), broker.Queue()
    async with aioipc.Process(
        target=peers.acquire_and_wait, args=(lock, results), context=fork
    ) as holder:
        assert await gather(results, 1) == ["acquired"]
        assert not await lock.acquire(block=False)
        async with aioipc.Process(
            target=peers.acquire_twice, args=(lock, results), context=fork
        ):
            holder.kill()
            assert await gather(results, 2) == ["first", "second"]
            with anyio.fail_after(10):
                assert await lock.acquire()


async def test_a_dead_worker_waits_no_longer(broker, fork) -> None:
    lock, results = broker.Lock(), broker.Queue()
    await lock.acquire()
    async with aioipc.Process(
        target=peers.acquire_and_wait, args=(lock, results), context=fork
    ) as waiting:
        while not lock._core.waiting:
            await anyio.lowlevel.checkpoint()
        waiting.kill()
        await waiting.join()
        while lock._core.waiting:
            await anyio.lowlevel.checkpoint()
    lock.release()
    assert not lock.locked()


async def test_a_worker_notifies_a_task_and_back(broker, fork) -> None:
    condition, results = broker.Condition(), broker.Queue()
    async with aioipc.Process(
        target=peers.wait_in, args=(condition, results), context=fork
    ):
        assert await gather(results, 1) == ["waiting"]
        with anyio.fail_after(10):
            async with condition:  # which it has given up by waiting
                condition.notify()
        assert await gather(results, 1) == ["notified"]


async def test_a_barrier_of_workers_and_a_task(broker, fork) -> None:
    barrier, results = broker.Barrier(3), broker.Queue()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            worker = aioipc.Process(
                target=peers.wait_at, args=(barrier, results), context=fork
            )
            await worker.start()
            group.start_soon(worker.join)
        with anyio.fail_after(10):
            place = await barrier.wait()
        assert sorted([place, *await gather(results, 2)]) == [0, 1, 2]


async def test_a_barrier_breaks_when_one_who_waits_dies(broker, fork) -> None:
    barrier, results = broker.Barrier(3), broker.Queue()
    async with (
        aioipc.Process(
            target=peers.wait_at, args=(barrier, results), context=fork
        ) as one,
        aioipc.Process(target=peers.wait_at, args=(barrier, results), context=fork),
    ):
        while barrier.n_waiting < 2:
            await anyio.lowlevel.checkpoint()
        one.kill()
        assert await gather(results, 1) == ["broken"]
        with pytest.raises(BrokenBarrierError):
            await barrier.wait()
