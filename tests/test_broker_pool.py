"""A pool's tasks use a broker, and are cancelled in the middle of that."""

import random

import anyio
import broker_peers as peers
import pytest
from anyio.lowlevel import checkpoint

from aioipc import Broker, WorkerPool


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


@pytest.fixture
async def one():
    """A pool of one worker, whose tasks can be interrupted in any loop of theirs."""
    async with WorkerPool(1, grace=5) as pool:
        yield pool


async def waits_for(jobs) -> None:
    with anyio.fail_after(20):
        while not jobs.statistics().getting:
            await checkpoint()


async def test_a_cancelled_get_takes_nothing(broker, one) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    for number in range(3):
        async with anyio.create_task_group() as group:
            group.start_soon(one.run, peers.get_some, jobs, results, 1)
            await waits_for(jobs)
            group.cancel_scope.cancel()
        with anyio.fail_after(20):
            while jobs.statistics().getting:
                await checkpoint()
        await jobs.put(number)
        assert jobs.qsize() == 1
        await one.run(peers.get_some, jobs, results, 1)
        assert await results.get() == number
    assert one.statistics().crashes == 0


async def test_cancelled_at_random_moments(broker, one) -> None:
    rng = random.Random(5)
    jobs, results = broker.Queue(), broker.Queue()
    await jobs.put_many(range(200_000))  # more than there is time for
    await one.run(peers.get_some, jobs, results, 1)  # it takes a while to start
    cancels = 0
    while cancels < 30 or results.qsize() <= 30:
        cancels += 1
        async with anyio.create_task_group() as group:
            group.start_soon(one.run, peers.get_all_in_turn, jobs, results)
            await anyio.sleep(0.003 * rng.random())
            group.cancel_scope.cancel()
    await one.run(peers.get_some, jobs, results, 1)
    got = [await results.get()]
    while not results.empty():
        got += await results.get_many(200_000)
    # What a task that was interrupted had in its hand is its own.
    assert got == sorted({*got})
    assert got[-1] + 1 - len(got) <= cancels
    assert one.statistics().crashes == 0


async def test_what_a_task_leaves_on_lease_is_given_back_at_its_end(broker, one):
    jobs, results = broker.Queue(ack="manual"), broker.Queue()
    await jobs.put_many(["fails", "works"])
    await one.run(peers.get_and_leave, jobs, results)
    with anyio.fail_after(20):
        assert await jobs.get() == "fails"
    assert jobs.statistics().unfinished == 1
    jobs.task_done()


async def test_what_a_cancelled_task_has_on_lease_is_given_back(broker, one):
    jobs, results = broker.Queue(ack="manual"), broker.Queue()
    await jobs.put_many([1, 2])
    async with anyio.create_task_group() as group:
        group.start_soon(one.run, peers.get_and_wait, jobs, results)
        with anyio.fail_after(20):
            assert await results.get() == 1
        group.cancel_scope.cancel()
    with anyio.fail_after(20):
        while jobs.qsize() < 2:
            await checkpoint()
    assert await jobs.get_many(2) == [1, 2]
    assert one.statistics().crashes == 0


@pytest.mark.parametrize("kind", ["Lock", "Semaphore"])
async def test_a_cancelled_acquire_holds_nothing(broker, one, kind) -> None:
    lock = getattr(broker, kind)()
    await lock.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(one.run, peers.try_lock, lock, broker.Queue())
        with anyio.fail_after(20):
            while not lock._primitive.waiting:
                await checkpoint()
        group.cancel_scope.cancel()
    with anyio.fail_after(20):
        while lock._primitive.waiting:
            await checkpoint()
    lock.release()
    assert await lock.acquire(block=False)


async def test_a_cancelled_task_releases_what_it_holds(broker, one, begun) -> None:
    lock = broker.Lock()
    async with anyio.create_task_group() as group:
        group.start_soon(one.run, peers.hold, lock, begun)
        with anyio.fail_after(20):
            await anyio.Path(begun).read_bytes()
        assert lock.locked()
        group.cancel_scope.cancel()
    with anyio.fail_after(20):
        assert await lock.acquire()


async def test_a_cancelled_wait_has_the_lock_again(broker, one, tmp_path) -> None:
    condition, path = broker.Condition(), tmp_path / "count"
    path.touch()
    async with anyio.create_task_group() as group:
        group.start_soon(one.run, peers.wait_and_count, condition, path)
        with anyio.fail_after(20):
            while not condition._primitive.waiting:
                await checkpoint()
        async with condition:
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.fail_after(20):
                while condition._primitive.waiting:
                    await checkpoint()
                assert condition._lock.locked()  # by us: it waits for it
    with anyio.fail_after(20):
        assert await condition.acquire()


async def test_a_killed_task_holds_nothing(broker, one, begun) -> None:
    lock = broker.Lock()
    async with anyio.create_task_group() as group:
        kill = one.options(on_cancel="kill")
        group.start_soon(kill.run, peers.hold, lock, begun)
        with anyio.fail_after(20):
            await anyio.Path(begun).read_bytes()
        group.cancel_scope.cancel()
    with anyio.fail_after(20):
        assert await lock.acquire()
