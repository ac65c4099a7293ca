"""A worker is killed, and the broker goes on: nothing lost, nothing doubled.

What a worker that was killed had taken, and could not tell of any more, is its own:
that is at most one call's worth for each. With leases it is not even that.
"""

import os
import random
import signal
from contextlib import asynccontextmanager

import anyio
import broker_peers as peers
import pytest

import aioipc
from aioipc import Broker


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


KILLS = pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])


@asynccontextmanager
async def told_by(target, *args, context):
    """Run a worker, kill it at the end; yield it, and a list of what it has told."""
    reader, writer = os.pipe()
    lines: list[str] = []
    try:
        async with aioipc.Process(
            target=target, args=args_with(writer, args), context=context
        ) as worker:
            yield worker, lines
            worker.kill()
            await worker.join()
        os.close(writer)
        writer = -1
        lines += peers.lines_of(reader)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def args_with(pipe: int, args) -> tuple:
    return tuple(pipe if arg is PIPE else arg for arg in args)


PIPE = object()


async def a_moment(rng) -> None:
    """Let a worker get somewhere, so that it is killed at a random point."""
    await anyio.sleep(rng.random() * 0.02)


async def no_worker_is_left(broker) -> None:
    with anyio.fail_after(10):
        while broker.statistics().workers:
            await anyio.lowlevel.checkpoint()


async def everything(jobs) -> list:
    return [] if jobs.empty() else await jobs.get_many(1_000_000)


# At a certain moment


async def stopped(worker) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    while not peers.is_stopped(worker.pid):
        await anyio.lowlevel.checkpoint()


async def waits_for(jobs) -> None:
    while not jobs.statistics().getting:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "Deque"])
async def test_killed_before_it_has_taken_an_item(broker, fork, kind) -> None:
    jobs, results = getattr(broker, kind)(), broker.Queue()
    async with aioipc.Process(
        target=peers.get_some, args=(jobs, results, 1), context=fork
    ) as worker:
        await waits_for(jobs)
        await stopped(worker)
        await jobs.put(1)  # which is sent to it
        assert jobs.empty()
        await jobs.put(2)
        worker.kill()
        with anyio.fail_after(10):
            while jobs.qsize() < 2:
                await anyio.lowlevel.checkpoint()
    expected = [2, 1] if kind == "LifoQueue" else [1, 2]
    assert await jobs.get_many(2) == expected
    assert results.empty()


async def test_killed_with_items_that_were_sent_ahead(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.get_then_stop_at, args=(jobs, results, 400), context=fork
    ) as worker:
        await jobs.put_many(range(500))
        assert await results.get() == 400
        worker.kill()
    await no_worker_is_left(broker)
    assert await jobs.get_many(500) == [*range(401, 500)]
    assert jobs.statistics().unfinished == 99  # what it took no one will deal with


async def test_killed_with_items_on_lease(broker, fork) -> None:
    jobs, results = broker.Queue(ack="manual"), broker.Queue()
    await jobs.put_many("abcde")
    async with aioipc.Process(
        target=peers.take_leases, args=(jobs, results, 4), context=fork
    ) as worker:
        assert await results.get() == [*"abcd"]
        assert jobs.qsize() == 1
        assert jobs.statistics().leased == 3  # one is done
        worker.kill()
    await no_worker_is_left(broker)
    assert jobs.statistics().unfinished == 4
    assert await jobs.get_many(5) == [*"abce"]


async def test_a_shut_queue_waits_for_what_may_come_back(broker, fork) -> None:
    jobs, results = broker.Queue(ack="manual"), broker.Queue()
    await jobs.put_many("abc")
    jobs.shutdown()
    async with aioipc.Process(
        target=peers.take_leases, args=(jobs, results, 2), context=fork
    ) as worker:
        assert await results.get() == ["a", "b"]  # and done with the last
        async with aioipc.Process(
            target=peers.work_on_lease, args=(jobs, results), context=fork
        ):
            assert await results.get() == "c"
            await waits_for(jobs)
            with pytest.raises(aioipc.QueueEmpty):
                jobs.get_nowait()
            worker.kill()
            with anyio.fail_after(10):
                assert await results.get_many(2) == ["a"]
                assert await results.get() == "end"


async def test_killed_before_it_has_taken_an_item_of_a_shut_queue(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.get_some, args=(jobs, results, 1), context=fork
    ) as worker:
        await waits_for(jobs)
        await stopped(worker)
        async with aioipc.Process(
            target=peers.double, args=(jobs, results), context=fork
        ):
            with anyio.fail_after(10):
                while jobs.statistics().getting < 2:
                    await anyio.lowlevel.checkpoint()
                await jobs.put(1)  # which is sent to the one that is stopped
                jobs.shutdown()
                worker.kill()
                assert [result async for result in results] == [2]


async def test_one_that_waits_leaves_when_the_last_item_is_taken(broker, fork) -> None:
    """Though who took it says no more, and lives on."""
    jobs, results, doubled = broker.Queue(), broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.get_then_stop, args=(jobs, results), context=fork
    ) as worker:
        await waits_for(jobs)
        async with aioipc.Process(
            target=peers.double, args=(jobs, doubled), context=fork
        ):
            with anyio.fail_after(10):
                while jobs.statistics().getting < 2:
                    await anyio.lowlevel.checkpoint()
                await jobs.put(1)
                jobs.shutdown()
                assert await results.get() == 1
                assert [result async for result in doubled] == []
        worker.kill()


async def test_killed_while_it_waits_to_put(broker, fork) -> None:
    jobs = broker.Queue(maxsize=1)
    async with aioipc.Process(
        target=peers.produce, args=(jobs, 0, 9), context=fork
    ) as worker:
        while not jobs.statistics().putting:
            await anyio.lowlevel.checkpoint()
        worker.kill()
    await no_worker_is_left(broker)
    assert jobs.statistics().putting == 0
    assert await jobs.get() == 0
    assert jobs.empty()


async def test_killed_in_the_middle_of_a_message(broker, fork) -> None:
    jobs = broker.Queue()
    async with aioipc.Process(
        target=peers.put_large_and_stop, args=(jobs,), context=fork
    ) as worker:
        assert await jobs.get() == "before"
        while not peers.is_stopped(worker.pid):
            await anyio.lowlevel.checkpoint()
        worker.kill()
    await no_worker_is_left(broker)
    assert jobs.empty()


# At random moments


@KILLS
async def test_killed_while_putting(broker, fork, kills) -> None:
    rng, jobs = random.Random(1), broker.Queue()
    first = 0
    for _ in range(kills):
        async with told_by(
            peers.put_for_ever, jobs, PIPE, first, rng.random(), context=fork
        ) as (_, told):
            await a_moment(rng)
        await no_worker_is_left(broker)
        numbers = await everything(jobs)
        assert numbers == [*range(first, first + len(numbers))]
        # What put() has returned from is there.
        assert len(numbers) >= (int(told[-1]) + 1 - first if told else 0)
        first += len(numbers)


@KILLS
@pytest.mark.parametrize("kind", ["Queue", "PriorityQueue"])
@pytest.mark.parametrize("how", ["one", "many", "manual"])
async def test_killed_while_getting(broker, fork, kind, how, kills) -> None:
    rng = random.Random(kind + how)
    jobs = getattr(broker, kind)(ack="manual" if how == "manual" else "auto")
    await jobs.put_many(range(20_000))
    taken: list[int] = []
    lost = doubled = 0
    for _ in range(kills):
        if how == "many":
            target, *args = peers.get_many_for_ever, jobs, PIPE, rng.random()
        else:
            target, *args = peers.get_for_ever, jobs, PIPE, how == "manual"
        async with told_by(target, *args, context=fork) as (_, told):
            await a_moment(rng)
        await no_worker_is_left(broker)
        some = [int(number) for line in told for number in line.split()]
        assert some == [*range(some[0], some[0] + len(some))] if some else True
        if some:
            gap = some[0] - (taken[-1] if taken else -1) - 1
            lost += max(0, gap)
            doubled += max(0, -gap)
        taken += some
    rest = await everything(jobs)
    gap = 20_000 - len(rest) - (taken[-1] if taken else -1) - 1
    lost += max(0, gap)
    doubled += max(0, -gap)
    assert rest == [*range(20_000 - len(rest), 20_000)]
    assert len({*taken, *rest}) == 20_000 - lost
    if how == "manual":
        assert lost == 0
        assert doubled <= kills
    else:
        assert lost <= kills * (8 if how == "many" else 1)
        assert doubled == 0


@KILLS
async def test_several_are_killed_while_getting(broker, fork, kills) -> None:
    rng, jobs = random.Random(2), broker.Queue()
    told_of: list[int] = []

    async def one(seed: int) -> None:
        for _ in range(kills // 2):
            async with told_by(
                peers.get_many_for_ever, jobs, PIPE, seed, context=fork
            ) as (_, told):
                await a_moment(rng)
            told_of.extend(int(number) for line in told for number in line.split())

    count = 0
    async with anyio.create_task_group() as killers:
        ended = False

        async def put() -> None:
            nonlocal count
            while not ended:
                await jobs.put(count)
                count += 1

        killers.start_soon(put)
        async with anyio.create_task_group() as group:
            group.start_soon(one, 1)
            group.start_soon(one, 2)
        ended = True
    await no_worker_is_left(broker)
    rest = await everything(jobs)
    seen = [*told_of, *rest]
    assert len({*seen}) == len(seen), "doubled"
    assert count - len(seen) <= 8 * kills


@KILLS
async def test_killed_with_a_lock(broker, fork, kills) -> None:
    rng, lock = random.Random(3), broker.Lock()
    reader, writer = os.pipe()

    async def one() -> None:
        while len(killed) < kills or not lines:
            async with aioipc.Process(
                target=peers.lock_for_ever, args=(lock, writer), context=fork
            ) as worker:
                await a_moment(rng)
                worker.kill()
                killed.add(str(worker.pid))

    killed: set[str] = set()
    lines: list[str] = []
    with os.fdopen(reader) as told:

        async def read() -> None:
            while line := await anyio.to_thread.run_sync(told.readline):
                lines.append(line)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            async with anyio.create_task_group() as killers:
                killers.start_soon(one)
                killers.start_soon(one)
            with anyio.fail_after(10):
                await lock.acquire()
            os.close(writer)
    inside = None
    for what, who in map(str.split, lines):
        if what == "leave":
            assert inside == who
            inside = None
        else:
            assert inside is None or inside in killed
            inside = who


@KILLS
async def test_killed_with_a_permit(broker, fork, kills) -> None:
    rng, semaphore = random.Random(4), broker.Semaphore(2)
    async with anyio.create_task_group() as group:

        async def one() -> None:
            for _ in range(kills // 2):
                async with told_by(peers.lock_for_ever, semaphore, PIPE, context=fork):
                    await a_moment(rng)

        for _ in range(3):
            group.start_soon(one)
    await no_worker_is_left(broker)
    assert semaphore.get_value() == 2
