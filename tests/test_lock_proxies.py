"""A manager's locks, awaited: who holds what, and what a cancel leaves behind."""

import asyncio
import contextlib
import random
import threading
from multiprocessing.managers import AcquirerProxy, BaseManager

import anyio
import bridge_peers as peers
import pytest
from anyio.lowlevel import checkpoint

import aioipc


@pytest.fixture
def manager(plain_manager):
    manager = aioipc.wrap(plain_manager)
    yield manager
    manager.detach()


@pytest.fixture
async def lock(manager):
    lock = await manager.Lock()
    yield lock
    lock.close()


@pytest.fixture
async def rlock(manager):
    lock = await manager.RLock()
    yield lock
    lock.close()


@pytest.fixture
async def condition(manager):
    condition = await manager.Condition()
    yield condition
    condition.close()


async def cancelled(call) -> None:
    """Cancel a call as it waits."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


# Lock and Semaphore


async def test_a_lock(lock) -> None:
    assert await lock.acquire()
    assert not await lock.acquire(False)
    assert not await lock.acquire(timeout=0)
    assert not await lock.acquire(timeout=0.01)
    await lock.release()
    with pytest.raises(RuntimeError, match="unlocked"):
        await lock.release()
    assert await lock.acquire(timeout=0)
    await lock.release()
    async with lock as same:
        assert same is lock
        assert not await lock.acquire(False)
    assert await lock.acquire(False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lock.release)  # another task may
    assert await lock.acquire(True, 1)


async def test_tasks_get_a_lock_in_order_one_at_a_time(lock) -> None:
    order: list[int] = []
    await lock.acquire()

    async def enter(n: int) -> None:
        async with lock:
            order.append(n)
            await checkpoint()
            assert order[-1] == n

    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(enter, n)
            await anyio.wait_all_tasks_blocked()
        await lock.release()
    assert order == list(range(10))


async def test_waiting_in_line_ends_with_the_timeout(lock) -> None:
    await lock.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lock.acquire)
        await anyio.wait_all_tasks_blocked()
        assert not await lock.acquire(timeout=0.01)
        assert not await lock.acquire(False)
        tasks.cancel_scope.cancel()
    await lock.release()


async def test_a_cancelled_acquire_holds_nothing(lock) -> None:
    await lock.acquire()
    await cancelled(lock.acquire)
    await lock.release()
    with anyio.fail_after(5):
        assert await lock.acquire()


@pytest.mark.parametrize(
    "count", [pytest.param(1000, marks=pytest.mark.slow), 50], ids=["long", "short"]
)
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Condition"])
async def test_random_cancels_of_acquire_hold_nothing(manager, kind, count) -> None:
    lock = await getattr(manager, kind)()
    rng = random.Random(1)
    inside = 0

    async def come_and_go() -> None:
        nonlocal inside
        with anyio.move_on_after(rng.random() * 0.005):
            async with lock:
                inside += 1
                assert inside == 1
                try:
                    await anyio.sleep(rng.random() * 0.001)
                finally:
                    inside -= 1

    for _ in range(count // 10):
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(come_and_go)
    with anyio.fail_after(10):
        async with lock:
            pass
    lock.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
async def test_asyncios_own_cancels_hold_nothing(manager, kind) -> None:
    lock = await getattr(manager, kind)()
    rng = random.Random(2)

    async def enter() -> None:
        async with lock:
            await asyncio.sleep(rng.random() * 0.001)

    for _ in range(100):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(enter(), rng.random() * 0.003)
    async with asyncio.timeout(10), lock:
        pass
    lock.close()


async def test_a_lock_that_is_closed_while_two_tasks_wait(manager) -> None:
    lock = await manager.Lock()
    await lock.acquire()

    async def acquire() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await lock.acquire()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        lock.close()


async def test_semaphores(manager) -> None:
    semaphore = await manager.Semaphore(2)
    async with semaphore, semaphore:
        assert not await semaphore.acquire(False)
    await semaphore.release()
    assert [await semaphore.acquire(False) for _ in range(4)] == [True] * 3 + [False]
    bounded = await manager.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="too many"):
        await bounded.release()


async def test_a_lock_shared_with_workers(manager, context) -> None:
    lock, value = await manager.Lock(), await manager.Value("i", 0)
    process = aioipc.Process(
        target=peers.count_under_lock, args=(lock, value, 50), context=context
    )
    async with process:
        for _ in range(50):
            async with lock:
                await value.set(await value.get() + 1)
        assert await process.join() == 0
    assert await value.get() == 100


# RLock


async def test_an_rlock_belongs_to_a_task(rlock) -> None:
    async def another() -> None:
        assert not await rlock.acquire(False)
        assert not await rlock.acquire(timeout=0.01)
        with pytest.raises(RuntimeError, match="has not acquired"):
            await rlock.release()

    async def next_one() -> None:
        assert await rlock.acquire(False)
        await rlock.release()

    async with rlock:
        async with rlock:
            pass
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(another)
    with pytest.raises(RuntimeError, match="has not acquired"):
        await rlock.release()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(next_one)


async def test_an_rlock_of_a_task_that_ended_is_no_later_tasks(rlock) -> None:
    async def another() -> None:
        assert not await rlock.acquire(False)
        with pytest.raises(RuntimeError, match="has not acquired"):
            await rlock.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rlock.acquire)
    for _ in range(10):  # one of them has the address of the first
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(another)


async def test_an_rlock_that_is_closed_while_held_is_released(manager) -> None:
    rlock = await manager.RLock()
    other = aioipc.AsyncRLockProxy(rlock.sync)
    await rlock.acquire()
    assert not await other.acquire(False)
    rlock.close()
    with anyio.fail_after(5):
        assert await other.acquire()
    other.close()


# Locks of which only the manager knows what they are


class Locks(BaseManager):
    pass


Locks.register("a_lock", threading.Lock, AcquirerProxy)
Locks.register("an_rlock", threading.RLock, AcquirerProxy)
Locks.register("a_semaphore", threading.Semaphore, AcquirerProxy)


@pytest.fixture
async def locks(fork):
    async with aioipc.wrap(Locks(ctx=fork)) as locks:
        yield locks


@pytest.mark.parametrize("kind", ["a_lock", "an_rlock", "a_semaphore"])
async def test_a_registered_lock(locks, kind) -> None:
    lock = await locks.create(kind)
    assert type(lock) is aioipc.AsyncAcquirerProxy

    async def another() -> None:
        assert not await lock.acquire(False)
        assert not await lock.acquire(timeout=0.01)

    for _ in range(2):
        async with lock:
            assert await lock.acquire(False) == (kind == "an_rlock")
            assert await lock.acquire(timeout=0.01) == (kind == "an_rlock")
            if kind == "an_rlock":
                await lock.release()
                await lock.release()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(another)
    await cancelled_in_line(lock)
    async with lock:
        pass
    if kind != "a_semaphore":
        with pytest.raises(RuntimeError, match="release un"):
            await lock.release()
    lock.close()


async def cancelled_in_line(lock) -> None:
    """Have a task wait for what this one holds and acquires again, and cancel it."""
    async with lock, anyio.create_task_group() as tasks:
        tasks.start_soon(lock.acquire)
        await anyio.wait_all_tasks_blocked()
        if await lock.acquire(timeout=0.01):
            await lock.release()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["a_lock", "an_rlock", "a_semaphore"])
async def test_a_registered_lock_that_another_task_releases(locks, kind) -> None:
    lock = await locks.create(kind)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lock.acquire)
    if kind == "an_rlock":
        with pytest.raises(RuntimeError, match="release un"):
            await lock.release()
    else:
        await lock.release()
    assert await lock.acquire(False) == (kind != "an_rlock")
    lock.close()


async def test_tasks_that_acquire_and_end_keep_one_connection(locks) -> None:
    semaphore = await locks.create("a_semaphore", 0)
    connections: set[int] = set()
    for _ in range(10):
        await semaphore.release()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(semaphore.acquire)
        connections.add(len(semaphore._lines._lent))
    assert connections == {0, 1}
    semaphore.close()


async def test_a_registered_lock_with_many_holders(locks) -> None:
    semaphore = await locks.create("a_semaphore", 3)
    order: list[int] = []

    async def enter(n: int) -> None:
        for _ in range(5):
            async with semaphore:
                order.append(n)
                await checkpoint()

    async with anyio.create_task_group() as tasks:
        for n in range(6):
            tasks.start_soon(enter, n)
    assert sorted(order) == sorted([*range(6)] * 5)
    assert [await semaphore.acquire(False) for _ in range(4)] == [True] * 3 + [False]
    semaphore.close()


# Condition


async def test_a_condition(condition) -> None:
    woken: list[int] = []

    async def wait(n: int) -> None:
        async with condition:
            assert await condition.wait()
            woken.append(n)

    async def notify(number: int | None) -> None:
        async with condition:
            if number is None:
                await condition.notify_all()
            else:
                await condition.notify(number)

    async with anyio.create_task_group() as tasks:
        for n in range(4):
            tasks.start_soon(wait, n)
        await until_waiting(condition, 4)
        await notify(1)
        await until_waiting(condition, 3)
        await notify(None)
    assert sorted(woken) == [0, 1, 2, 3]
    async with condition:
        assert not await condition.wait(0.01)
        assert not await condition.wait_for(lambda: False, 0.01)
        assert await condition.wait_for(lambda: "yes") == "yes"
    for method in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="has not acquired"):
            await method()


async def until_waiting(condition, count: int) -> None:
    """Wait until the manager says that so many wait."""
    with anyio.fail_after(10):
        while not (await condition.as_str()).endswith(f", {count})>"):  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_wait_for_awaits_its_predicate(manager, condition) -> None:
    value = await manager.Value("i", 0)

    async def ready() -> bool:
        return await value.get() == 3

    async def count() -> None:
        for n in range(1, 4):
            async with condition:
                await value.set(n)
                await condition.notify()

    async with anyio.create_task_group() as tasks, condition:
        tasks.start_soon(count)
        assert await condition.wait_for(ready)


async def test_a_cancelled_wait_has_the_lock_again(condition) -> None:
    async def wait() -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                async with condition:  # once more, and both are released after it
                    pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await until_waiting(condition, 1)
        tasks.cancel_scope.cancel()
    async with condition:
        pass
    await until_waiting(condition, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancels_of_a_wait(condition) -> None:
    async def wait() -> None:
        async with condition:
            await condition.wait()

    task = asyncio.create_task(wait())
    await until_waiting(condition, 1)
    async with condition:
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()  # it waits for the lock
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_waiting(condition, 0)


@pytest.mark.parametrize(
    "count", [pytest.param(1000, marks=pytest.mark.slow), 60], ids=["long", "short"]
)
async def test_no_wake_up_is_lost_to_a_cancelled_wait(manager, count) -> None:
    condition = await manager.Condition()
    rng = random.Random(3)
    tokens = taken = given = 0

    async def take(seconds: float) -> None:
        nonlocal tokens, taken
        with anyio.move_on_after(seconds):
            async with condition:
                while not tokens:
                    await condition.wait()
                tokens -= 1
                taken += 1

    async def give() -> None:
        nonlocal tokens, given
        async with condition:
            tokens += 1
            given += 1
            await condition.notify()

    with anyio.fail_after(60 if count > 100 else 20):
        for _ in range(count // 10):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(take, rng.random() * 0.02)
                tasks.start_soon(take, 1000)  # this one is always served
                for _ in range(5):
                    tasks.start_soon(give)
                await anyio.sleep(0.02)
                await give()
    assert taken + tokens == given
    condition.close()


async def test_a_condition_shared_with_workers(manager, context) -> None:
    condition, value = await manager.Condition(), await manager.Value("i", 0)

    async def is_odd() -> bool:
        return await value.get() % 2 == 1

    process = aioipc.Process(
        target=peers.play_even, args=(condition, value, 10), context=context
    )
    async with process, condition:
        for _ in range(10):
            assert await condition.wait_for(is_odd)
            await value.set(await value.get() + 1)
            await condition.notify()
    assert await value.get() == 20


async def test_a_condition_with_a_lock_that_others_use(manager) -> None:
    lock = await manager.Lock()
    condition = await manager.Condition(lock)
    async with condition:
        assert not await lock.acquire(False)
        assert not await condition.wait(0.01)
    async with lock:
        assert not await condition.acquire(False)
    condition.close()


# Event


async def test_an_event(manager) -> None:
    event = await manager.Event()
    assert not await event.is_set()
    assert not await event.wait(0.01)
    assert not await event.wait(0)
    await event.set()
    assert await event.wait()
    assert await event.wait(0)
    await event.clear()
    assert not await event.wait(0.01)


async def test_many_wait_at_an_event_in_one_thread(manager) -> None:
    event = await manager.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        ours = [t for t in threading.enumerate() if t.name.startswith("aioipc")]
        assert len(ours) < 10
        await event.set()


async def test_a_wait_does_not_end_by_what_was_before_it(manager) -> None:
    event = await manager.Event()
    for _ in range(5):
        await cancelled(event.wait)
        await event.set()
        await event.clear()
        assert not await event.wait(0.01)


async def test_an_event_that_is_closed_while_a_task_waits(manager) -> None:
    event = await manager.Event()

    async def wait() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await event.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        event.close()


# Barrier


async def test_a_barrier(manager) -> None:
    barrier = await manager.Barrier(3)
    places: list[int] = []

    async def wait() -> None:
        places.append(await barrier.wait())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
    assert sorted(places) == [0, 1, 2]
    assert await barrier.parties() == 3
    assert await barrier.n_waiting() == 0
    assert not await barrier.broken()
    with pytest.raises(aioipc.BrokenBarrierError):
        await barrier.wait(0.01)
    assert await barrier.broken()
    await barrier.reset()
    assert not await barrier.broken()
    await barrier.abort()
    with pytest.raises(aioipc.BrokenBarrierError):
        await barrier.wait()


async def test_a_cancelled_party_breaks_the_barrier(manager) -> None:
    barrier = await manager.Barrier(3)

    async def wait() -> None:
        with pytest.raises(aioipc.BrokenBarrierError):
            await barrier.wait()

    async with anyio.create_task_group() as others:
        others.start_soon(wait)
        await cancelled(barrier.wait)
    await barrier.reset()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(barrier.wait)


async def test_a_barrier_shared_with_workers(manager, context) -> None:
    barrier = await manager.Barrier(2)
    process = aioipc.Process(
        target=peers.call_often, args=(barrier, "wait", 5), context=context
    )
    async with process:
        for _ in range(5):
            assert await barrier.wait() in {0, 1}
        assert await process.join() == 0
