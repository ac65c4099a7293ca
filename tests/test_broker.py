"""The broker's queues: here awaited, in workers blocking."""

import asyncio
import pickle
import queue
import threading

import anyio
import broker_peers as peers
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

import aioipc
from aioipc import Broker
from aioipc.broker import remote
from aioipc.broker.services import ABSENT
from aioipc.broker.shelves import Item


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


async def gather(queue_, count: int) -> list:
    with anyio.fail_after(20):
        return [await queue_.get() for _ in range(count)]


# Here only


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Queue", [3, 1, 2]),
        ("LifoQueue", [2, 1, 3]),
        ("PriorityQueue", [1, 2, 3]),
        ("Deque", [3, 1, 2]),
    ],
)
async def test_the_order(broker, kind, expected) -> None:
    numbers = getattr(broker, kind)()
    await numbers.put_many([3, 1, 2])
    assert [await numbers.get() for _ in range(3)] == expected
    for number in (3, 1, 2):
        await numbers.put(number)
    assert await numbers.get_many(10) == expected


async def test_a_deque_has_two_ends(broker) -> None:
    deque = broker.Deque()
    await deque.append(2)
    await deque.appendleft(1)
    deque.appendleft_nowait(0)
    deque.put_nowait(3)
    assert await deque.pop() == 3
    assert await deque.popleft() == 0
    assert deque.pop_nowait() == 2
    assert deque.get_nowait() == 1
    deque.append_nowait(4)
    deque.append_nowait(5)
    assert deque.popleft_nowait() == 4


async def test_a_full_queue_waits_for_room(broker) -> None:
    one = broker.Queue(maxsize=1)
    await one.put("a")
    assert one.full()
    assert one.maxsize == 1
    with pytest.raises(aioipc.QueueFull):
        one.put_nowait("b")
    with pytest.raises(queue.Full):
        await one.put("b", block=False)
    with pytest.raises(asyncio.QueueFull):
        await one.put("b", timeout=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(one.put, "b")
        await wait_all_tasks_blocked()
        assert one.statistics().putting == 1
        assert one.get_nowait() == "a"
    assert await one.get() == "b"


async def test_an_empty_queue_waits_for_an_item(broker) -> None:
    items = broker.Queue()
    with pytest.raises(aioipc.QueueEmpty):
        items.get_nowait()
    with pytest.raises(queue.Empty):
        await items.get(block=False)
    with pytest.raises(asyncio.QueueEmpty):
        await items.get(timeout=0.01)
    with pytest.raises(aioipc.QueueEmpty):
        await items.get_many(2, timeout=0.01)
    got = []

    async def get() -> None:
        got.append(await items.get())

    async with anyio.create_task_group() as group:
        group.start_soon(get)
        await wait_all_tasks_blocked()
        assert items.statistics().getting == 1
        await items.put(None)
    assert got == [None]


def test_a_cancel_after_the_shutdown_leaves_the_item_to_the_next() -> None:
    """By asyncio itself: a task that has been given an item can be cancelled."""

    async def consume(jobs, got: list) -> None:
        async for job in jobs:
            got.append(job)  # noqa: PERF401 - a cancel would lose it

    async def main() -> None:
        async with Broker() as broker:
            jobs, first, second = broker.Queue(), [], []
            tasks = [
                asyncio.ensure_future(consume(jobs, got)) for got in (first, second)
            ]
            await wait_all_tasks_blocked()
            jobs.put_nowait("job")
            jobs.shutdown()
            tasks[0].cancel()
            await asyncio.wait(tasks, timeout=10)
            assert (first, second) == ([], ["job"])
            assert tasks[1].done()

    asyncio.run(main())


async def test_a_closed_queue_that_is_empty_is_forgotten(broker) -> None:
    for _ in range(3):
        reply = broker.Queue(name="reply")
        await reply.put("done")
        await reply.aclose()
        assert broker.statistics().objects == 1
        assert reply.sync is reply.sync
        with pytest.raises(ValueError, match="called"):
            broker.Queue(name="reply")
        assert await reply.get() == "done"
        await reply.aclose()
        assert broker.statistics().objects == 0
        await reply.aclose()
        assert [item async for item in reply] == []
        assert reply._spec not in remote._known.objects


async def test_a_worker_does_not_keep_queues_that_are_forgotten(broker, fork) -> None:
    requests, counts = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.answer_each, args=(requests, counts), context=fork
    ):
        for number in range(50):
            reply = broker.Queue()
            await requests.put((number, reply))
            assert await reply.get() == number
            await reply.aclose()
        requests.shutdown()
        assert await counts.get() <= 4  # the last reply may not have been noticed


async def test_no_one_leaves_while_what_is_large_is_unpickled(
    broker, monkeypatch
) -> None:
    """For it goes back if that is cancelled."""
    large, got = bytes(1 << 19), []
    jobs, may_go_on = broker.Queue(), threading.Event()
    monkeypatch.setattr(
        "aioipc.broker.queues._load", lambda _: may_go_on.wait(10), raising=True
    )
    jobs._store.put_late([Item(ABSENT, pickle.dumps(large))])
    jobs.shutdown()
    scope = anyio.CancelScope()

    async def give_up() -> None:
        with scope:
            await jobs.get()

    async def get() -> None:
        got.append(await jobs.get())

    async with anyio.create_task_group() as group:
        group.start_soon(give_up)
        await wait_all_tasks_blocked()
        group.start_soon(get)
        await wait_all_tasks_blocked()
        with pytest.raises(aioipc.QueueEmpty):
            jobs.get_nowait()
        scope.cancel()
        may_go_on.set()
    assert got == [large]
    with pytest.raises(aioipc.QueueShutDown):
        jobs.get_nowait()


async def test_a_cancelled_get_takes_nothing(broker) -> None:
    items = broker.Queue()
    got = []

    async def get() -> None:
        got.append(await items.get())

    for put_first in (True, False):
        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await wait_all_tasks_blocked()
            if put_first:  # then the item is given to the task, which is cancelled
                items.put_nowait(1)
            group.cancel_scope.cancel()
        if not put_first:
            items.put_nowait(1)
        items.put_nowait(2)
        assert got + await items.get_many(2 - len(got)) == [1, 2]
        got.clear()
    assert items.statistics().getting == 0


async def test_asyncio_s_own_cancel_takes_nothing(broker, anyio_backend_name) -> None:
    if anyio_backend_name != "asyncio":
        return
    items = broker.Queue()
    task = asyncio.create_task(items.get())
    await asyncio.sleep(0)
    items.put_nowait(1)  # which is given to the task
    task.cancel()
    items.put_nowait(2)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await items.get_many(2) == [1, 2]


async def test_a_cancelled_put_leaves_no_one_waiting(broker) -> None:
    items = broker.Queue(maxsize=1)
    items.put_nowait(1)
    async with anyio.create_task_group() as group:
        group.start_soon(items.put, 2)
        await wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert items.statistics().putting == 0
    assert await items.get() == 1
    assert items.empty()


async def test_put_many_into_a_bounded_queue(broker) -> None:
    items = broker.Queue(maxsize=2)
    async with anyio.create_task_group() as group:
        group.start_soon(items.put_many, range(7))
        assert await gather(items, 7) == [*range(7)]
    with pytest.raises(aioipc.QueueFull):
        await items.put_many(range(7), timeout=0.01)
    assert await items.get_many(9) == [0, 1]


async def test_join_waits_for_all_tasks(broker) -> None:
    items = broker.Queue()
    await items.join()
    await items.put_many("ab")
    async with anyio.create_task_group() as group:
        group.start_soon(items.join)
        await items.get_many(2)
        items.task_done()
        await wait_all_tasks_blocked()
        assert items.statistics().unfinished == 1
        items.task_done()
    with pytest.raises(ValueError, match="too many times"):
        items.task_done()


async def test_shutdown_leaves_what_is_there(broker) -> None:
    items = broker.Queue()
    await items.put_many("ab")
    items.shutdown()
    with pytest.raises(aioipc.QueueShutDown):
        await items.put("c")
    with pytest.raises(aioipc.ShutDown):
        items.put_nowait("c")
    assert [item async for item in items] == ["a", "b"]
    with pytest.raises(anyio.EndOfStream):
        await items.receive()
    with pytest.raises(aioipc.QueueShutDown):
        items.get_nowait()


async def test_an_immediate_shutdown_leaves_nothing(broker) -> None:
    items = broker.Queue(maxsize=2)
    await items.put_many("ab")
    async with anyio.create_task_group() as group:

        async def put() -> None:
            with pytest.raises(aioipc.QueueClosed):
                await items.put("c")

        group.start_soon(put)
        group.start_soon(items.join)
        await wait_all_tasks_blocked()
        items.shutdown(immediate=True)
    with pytest.raises(aioipc.QueueShutDown):
        await items.get()


async def test_what_a_sender_expects_when_it_has_closed_the_queue(broker) -> None:
    items = broker.Queue()
    await items.put("a")
    await items.aclose()
    for put in (items.send, items.put, lambda item: items.put_many([item])):
        with pytest.raises(anyio.ClosedResourceError, match="shut down") as caught:
            await put("b")
        assert isinstance(caught.value, aioipc.QueueShutDown)
    with pytest.raises(aioipc.QueueClosed):
        items.put_nowait("b")
    assert await items.receive() == "a"
    with pytest.raises(anyio.EndOfStream) as caught:
        await items.receive()
    assert not isinstance(caught.value, anyio.ClosedResourceError)


async def test_another_thread_is_told_that_it_is_wrong(broker) -> None:
    items, lock, event = broker.Queue(), broker.Lock(), broker.Event()
    semaphore, barrier = broker.Semaphore(), broker.Barrier(2)
    condition = broker.Condition()
    for use in (
        *(items.get_nowait, items.task_done, items.shutdown, lock.release),
        *(event.set, event.clear, semaphore.release, barrier.abort, barrier.reset),
        *(condition.notify, condition.notify_all, condition.release),
    ):
        with pytest.raises(aioipc.EventLoopError):
            await anyio.to_thread.run_sync(use)


async def test_shutdown_ends_those_who_wait(broker) -> None:
    items = broker.Queue()
    ended = []

    async def get() -> None:
        with pytest.raises(aioipc.QueueShutDown):
            await items.get()
        ended.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(get)
        group.start_soon(get)
        await wait_all_tasks_blocked()
        items.shutdown()
    assert ended == [True, True]


async def test_items_that_are_not_comparable(broker) -> None:
    items = broker.PriorityQueue()
    await items.put((1, "a"))
    with pytest.raises(TypeError):
        await items.put("b")
    await items.put((0, "c"))
    assert await items.get_many(3) == [(0, "c"), (1, "a")]


async def test_items_that_stay_here_need_not_be_pickled(broker) -> None:
    items = broker.Queue()
    item = threading.Lock()
    await items.put(item)
    assert await items.get() is item


async def test_a_closed_broker_ends_all_who_wait_here() -> None:
    async with Broker() as broker, anyio.create_task_group() as group:
        empty, full, joined = broker.Queue(), broker.Queue(1), broker.Queue()
        lock, event, barrier = broker.Lock(), broker.Event(), broker.Barrier(2)
        semaphore, condition = broker.Semaphore(0), broker.Condition()
        full.put_nowait(1)
        joined.put_nowait(1)
        await lock.acquire()
        await condition.acquire()

        async def ended(wait, *args) -> None:
            with pytest.raises(aioipc.ClosedResourceError):
                await wait(*args)

        for wait, *args in [
            (empty.get,),
            (full.put, 2),
            (joined.join,),
            (lock.acquire,),
            (event.wait,),
            (barrier.wait,),
            (semaphore.acquire,),
            (condition.wait,),
        ]:
            group.start_soon(ended, wait, *args)
        await wait_all_tasks_blocked()
        await broker.aclose()
    for obj in (empty.get, lock.acquire, event.wait, semaphore.acquire):
        with pytest.raises(aioipc.ClosedResourceError):
            await obj()
    with pytest.raises(aioipc.ClosedResourceError):
        broker.Queue()
    assert repr(broker) == "<Broker closed>"


async def test_what_is_shown(broker) -> None:
    items = broker.Queue(maxsize=3)
    await items.put(1)
    assert repr(items) == "<BrokerQueue 1/3 items>"
    items.shutdown()
    assert repr(items) == "<BrokerQueue 1/3 items shut down>"
    assert repr(broker.Lock()) == "<BrokerLock unlocked, 0 waiting>"
    assert broker.statistics().objects == 2
    assert "2 objects 0 workers" in repr(broker)
    assert repr(broker.authkey) not in repr(items.sync)


# With workers


async def test_items_there_and_back(broker, context) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.double, args=(jobs, results), context=context
    ) as worker:
        for number in range(1000):
            await jobs.put(number)
        jobs.shutdown()
        with anyio.fail_after(20):
            assert [item async for item in results] == [*range(0, 2000, 2)]
            assert await worker.join() == 0


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "Deque"])
async def test_what_a_worker_sees_of_a_queue(broker, fork, kind) -> None:
    jobs, results = getattr(broker, kind)(maxsize=1), broker.Queue()
    async with aioipc.Process(target=peers.try_all, args=(jobs, results), context=fork):
        assert await gather(results, 13) == [
            *["Empty"] * 4,
            (True, False, 0),
            *["Full"] * 3,
            (False, True, 1),
            "only",
            "ValueError",
            *["ShutDown"] * 2,
        ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Queue", [3, 1, 2]),
        ("LifoQueue", [2, 1, 3]),
        ("PriorityQueue", [1, 2, 3]),
        ("Deque", [3, 1, 2]),
    ],
)
async def test_the_order_in_a_worker(broker, fork, kind, expected) -> None:
    jobs, results = getattr(broker, kind)(), broker.Queue()
    await jobs.put_many([3, 1, 2])
    async with aioipc.Process(
        target=peers.get_some, args=(jobs, results, 3), context=fork
    ):
        assert await gather(results, 3) == expected


async def test_a_pool_s_tasks_use_a_queue(broker, pool) -> None:
    items = broker.Queue()
    async with anyio.create_task_group() as group:
        for first in range(0, 100, 25):
            group.start_soon(pool.run, peers.produce, items, first, 25)
    assert sorted(await gather(items, 100)) == [*range(100)]
    assert len(broker.statistics().workers) <= 2  # one connection for each


@pytest.mark.parametrize("size", [0, 10_000, 3_000_000])
async def test_items_of_any_size(broker, fork, size) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    item = {"data": bytes(size), "more": "x" * size}
    async with aioipc.Process(
        target=peers.get_some, args=(jobs, results, 3), context=fork
    ):
        await jobs.put_many([item] * 3)
        assert await gather(results, 3) == [item] * 3


async def test_a_large_graph_is_pickled_elsewhere(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    graph = [{"n": n} for n in range(100_000)]
    async with aioipc.Process(
        target=peers.get_some, args=(jobs, results, 2), context=fork
    ):
        await jobs.put(graph)
        await jobs.put("next")
        assert await gather(results, 2) == [graph, "next"]


async def test_an_item_that_cannot_be_pickled(broker, fork, caplog) -> None:
    jobs, results = broker.Queue(), broker.Queue()

    async with aioipc.Process(
        target=peers.say_and_wait,
        args=(results, *[jobs_outcome(jobs)] * 2),
        context=fork,
    ) as worker:
        await jobs.put_many([peers.Unpicklable(), "next"])
        assert await gather(results, 2) == ["PicklingError", "next"]
        worker.kill()
    assert "not this one" in caplog.text


class jobs_outcome:  # noqa: N801 - a call, with its argument
    def __init__(self, jobs) -> None:
        self.jobs = jobs.sync

    def __call__(self):
        return peers.outcome_of(self.jobs.get)


async def test_an_item_that_cannot_be_unpickled(broker, fork) -> None:
    results = broker.Queue()
    async with aioipc.Process(
        target=peers.say_and_wait, args=(results, peers.Unloadable, str), context=fork
    ) as worker:
        with anyio.fail_after(10):
            with pytest.raises(aioipc.DecodeError, match="no number"):
                await results.get()
            assert await results.get() == ""
        worker.kill()


async def test_threads_of_a_worker_share_its_connection(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.in_threads, args=(jobs, results, 4), context=fork
    ):
        for number in range(500):
            await jobs.put(number)
            if not number % 50:
                await checkpoint()
        jobs.shutdown()
        with anyio.fail_after(20):
            got = [item async for item in results]
        assert sorted(number for _, number in got) == [*range(500)]
        assert len(broker.statistics().workers) <= 1


async def test_a_fork_of_a_worker_has_a_connection_of_its_own(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.in_a_fork, args=(jobs, results), context=fork
    ):
        await jobs.put(1)
        assert await gather(results, 1) == [("parent", 1)]
        await jobs.put(2)
        assert await gather(results, 1) == [("child", 2)]
        await jobs.put(3)
        assert await gather(results, 1) == [("parent", 3)]


async def test_a_worker_loads_no_event_loop(broker) -> None:
    import multiprocessing

    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.what_is_loaded,
        args=(jobs, results),
        context=multiprocessing.get_context("spawn"),
    ):
        await jobs.put(1)
        assert await gather(results, 1) == [[]]


async def test_an_idle_worker_gets_what_waits_with_a_busy_one(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    # The first is quick with many, and so is sent more ahead, until it stops.
    async with aioipc.Process(
        target=peers.get_then_stop_at, args=(jobs, results, 400), context=fork
    ) as stopped:
        await jobs.put_many(range(500))
        assert await gather(results, 1) == [400]
        async with aioipc.Process(
            target=peers.get_some, args=(jobs, results, 99), context=fork
        ):
            assert await gather(results, 99) == [*range(401, 500)]
        assert jobs.empty()
        stopped.kill()


async def test_get_nowait_has_what_waits_with_a_busy_worker(broker, fork) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    async with aioipc.Process(
        target=peers.get_then_stop_at, args=(jobs, results, 400), context=fork
    ) as stopped:
        await jobs.put_many(range(500))
        assert await gather(results, 1) == [400]
        assert jobs.qsize() == 99
        # What no one had been sent may come first: for a moment it overtakes the rest.
        assert sorted(jobs.get_nowait() for _ in range(99)) == [*range(401, 500)]
        with pytest.raises(aioipc.QueueEmpty):
            jobs.get_nowait()
        stopped.kill()


async def test_the_broker_goes_while_a_worker_waits(fork) -> None:
    connection, child = aioipc.Pipe(context=fork)
    async with Broker() as broker, connection:
        process = aioipc.Process(
            target=peers.gone, args=(broker.Queue(), child), context=fork
        )
        async with process:
            child.close()
            assert await connection.recv() == "ready"
            while not broker.statistics().workers:
                await checkpoint()
            await broker.aclose()
            with anyio.fail_after(10):
                assert await connection.recv() == "BrokenPipeError"
                assert await connection.recv() in {
                    "BrokenPipeError",
                    "FileNotFoundError",
                    "ConnectionRefusedError",
                }


async def test_an_unclosed_broker_warns() -> None:
    broker = await Broker().__aenter__()
    path = broker.address
    with pytest.warns(ResourceWarning, match="unclosed <Broker at"):
        del broker
    assert not await anyio.Path(path).exists()


async def test_a_broker_may_be_opened_again() -> None:
    broker = Broker()
    for _ in range(2):
        async with broker:
            items = broker.Queue(name="items")
            await items.put(1)
            assert await items.get() == 1
            assert broker.statistics().objects == 1
            with pytest.raises(RuntimeError, match="open"):
                await broker.__aenter__()
