"""AsyncQueue over each kind of queue, as the queue and as anyio streams."""

import contextlib
import itertools
import multiprocessing
import threading

import anyio
import bridge_peers as peers
import pytest
from anyio.lowlevel import checkpoint

import aioipc

KINDS = {
    "queue": aioipc.Queue,
    "simple": aioipc.SimpleQueue,
    "joinable": aioipc.JoinableQueue,
}


@pytest.fixture(params=KINDS)
def make(request, transport):
    def make(*args, context, **kwargs):
        return KINDS[request.param](
            *args, context=context, transport=transport, **kwargs
        )

    return make


async def test_items_to_and_from_workers(make, context) -> None:
    tasks, results = make(context=context), make(context=context)
    process = aioipc.Process(target=peers.work, args=(tasks, results), context=context)
    items = [1, "é" * 5000, b"x" * 300_000, list(range(100_000)), {"a": None}]
    async with tasks, results, process, anyio.create_task_group() as group:

        async def put_all() -> None:
            for item in items:
                await tasks.put(item)
            await tasks.put(None)

        group.start_soon(put_all)
        for item in items:
            assert await results.get() == item


async def test_a_large_backlog_needs_no_reader(transport, fork) -> None:
    queue = aioipc.Queue(transport=transport, context=fork)
    async with queue:
        for n in range(3000):
            await queue.put((n, b"x" * 1000))
        await queue.put(b"big" * 1_000_000)
        assert queue.statistics().unwritten_items > 0
        for n in range(3000):
            assert await queue.get() == (n, b"x" * 1000)
        assert await queue.get() == b"big" * 1_000_000


async def test_what_is_put_is_what_arrives_whatever_becomes_of_it(make, fork) -> None:
    async with make(context=fork) as queue:
        item = [1]
        await queue.put(item)
        item.append(2)
        assert await queue.get() == [1]


async def test_it_is_two_anyio_streams_and_until_a_sentinel(make, fork) -> None:
    async with make(context=fork) as queue:
        send: anyio.abc.ObjectSendStream = queue
        for n in (1, 2, 3, None, 4):
            await send.send(n)
        assert [n async for n in queue.until(None)] == [1, 2, 3]
        receive: anyio.abc.ObjectReceiveStream = queue
        assert await receive.receive() == 4
        until = queue.until(0)
        await queue.put(0)
        assert [n async for n in until] == []
        assert [n async for n in until] == []


async def test_a_hundred_gets_and_puts_on_eight_queues_make_progress(
    make, fork
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        queues = [await stack.enter_async_context(make(context=fork)) for _ in range(8)]
        got = [0] * 8

        async def get_one(which: int) -> None:
            item = await queues[which].get()
            got[which] += item

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(get_one, n % 8)
            await anyio.wait_all_tasks_blocked()
            for n in range(100):
                await queues[n % 8].put(1)
        assert sum(got) == 100


async def test_bounded_queues_wait_for_a_slot_in_order(transport, fork) -> None:
    async with aioipc.Queue(1, transport=transport, context=fork) as queue:
        await queue.put(0)
        assert queue.full()
        async with anyio.create_task_group() as group:
            for n in range(1, 5):
                group.start_soon(queue.put, n)
                await anyio.wait_all_tasks_blocked()
            assert [await queue.get() for _ in range(5)] == list(range(5))


async def test_get_nowait_leaves_what_another_task_is_about_to_get(
    transport, fork
) -> None:
    async with aioipc.Queue(transport=transport, context=fork) as queue:
        got: list[object] = []

        async def get() -> None:
            got.append(await queue.get())

        async with anyio.create_task_group() as group:
            large = [{"n": n} for n in range(100_000)]  # to be unpickled in a thread
            await queue.put(large)
            await queue.put("next")
            group.start_soon(get)
            while not queue.statistics().buffered_items:
                await checkpoint()
            with pytest.raises(aioipc.QueueEmpty):
                queue.get_nowait()
        assert got == [large]
        assert await queue.get() == "next"


async def test_a_put_that_still_pickles_when_the_queue_is_closed_puts_nothing(
    make, fork
) -> None:
    queue = make(context=fork)

    async def put() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await queue.put([{"n": n} for n in range(200_000)])

    async with anyio.create_task_group() as group:
        group.start_soon(put)
        await anyio.wait_all_tasks_blocked()  # until the thread has done its work
        queue.close()


async def test_a_timeout_of_zero_finds_every_item_that_is_there(make, fork) -> None:
    async with make(context=fork) as queue:
        for n in range(200):
            await queue.put(n)
        for n in range(200):
            with anyio.fail_after(10):
                while queue.empty():
                    await checkpoint()
            assert await queue.get(timeout=0) == n
        with pytest.raises(aioipc.QueueEmpty):
            await queue.get(timeout=0)


async def test_a_put_that_has_begun_when_its_time_is_up_is_done(
    transport, fork
) -> None:
    async with aioipc.SimpleQueue(transport=transport, context=fork) as queue:
        await queue.put(b"x" * 300_000, timeout=0.1)
        with pytest.raises(aioipc.QueueFull):
            await queue.put("behind it", timeout=0.01)
        assert await queue.get() == b"x" * 300_000
        assert queue.empty()


async def test_sizes(transport, fork) -> None:
    async with aioipc.Queue(3, transport=transport, context=fork) as queue:
        assert queue.empty()
        assert (queue.qsize(), queue.full()) == (0, False)
        for n in range(3):
            queue.put_nowait(n)
        assert (queue.qsize(), queue.full(), queue.empty()) == (3, True, False)
        assert [queue.get_nowait() for _ in range(3)] == [0, 1, 2]
        assert queue.empty()


async def test_a_simple_queue_says_what_it_does_not_know(transport, fork) -> None:
    async with aioipc.SimpleQueue(transport=transport, context=fork) as queue:
        with pytest.raises(NotImplementedError):
            queue.qsize()
        assert not queue.full()
        with pytest.raises(aioipc.QueueFull):  # noqa: PT012
            while True:
                queue.put_nowait(b"x" * 1000)
        assert queue.full()
        with pytest.raises(aioipc.QueueFull):
            await queue.put(b"x" * 1000, timeout=0.01)
        while not queue.empty():
            assert await queue.get() == b"x" * 1000
        queue.cancel_join_thread()


async def test_join_waits_for_every_task_done(transport, fork) -> None:
    queue = aioipc.JoinableQueue(transport=transport, context=fork)
    process = aioipc.Process(target=peers.do_tasks, args=(queue, 20), context=fork)
    async with queue:
        for n in range(20):
            await queue.put(n)
        with anyio.move_on_after(0.01):
            await queue.join()
            raise AssertionError
        async with process:
            await queue.join()
        await queue.join()
        with pytest.raises(ValueError, match="too many times"):
            await queue.task_done()


async def test_task_done_here_wakes_a_join_there(transport, fork) -> None:
    queue = aioipc.JoinableQueue(transport=transport, context=fork)
    connection, child = aioipc.Pipe(transport=transport, context=fork)
    process = aioipc.Process(
        target=peers.join_and_tell, args=(queue, child), context=fork
    )
    async with queue, connection:
        await queue.put(1)
        async with process:
            assert await connection.recv() == "joining"
            assert await queue.get() == 1
            await queue.task_done()
            assert await connection.recv() == "joined"


async def test_close_wakes_those_who_wait(make, fork) -> None:
    queue = make(context=fork)

    async def get() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await queue.get()

    async with anyio.create_task_group() as group:
        group.start_soon(get)
        group.start_soon(get)
        await anyio.wait_all_tasks_blocked()
        queue.close()
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        await queue.put(1)
    with pytest.raises(ValueError, match="closed"):
        queue.get_nowait()


async def test_join_thread_waits_until_all_is_written(transport, fork) -> None:
    queue = aioipc.Queue(transport=transport, context=fork)
    with pytest.raises(ValueError, match="not closed"):
        await queue.join_thread()
    connection, child = aioipc.Pipe(transport=transport, context=fork)
    process = aioipc.Process(
        target=peers.drain_queue, args=(queue, child), context=fork
    )
    async with connection, process:
        for _ in range(1000):
            await queue.put(b"x" * 1000)
        await queue.put(None)
        queue.close()
        await queue.join_thread()
        assert len(await connection.recv()) == 1000


async def test_items_put_before_wrap_come_first(transport, fork) -> None:
    plain = fork.Queue()
    for n in range(100):
        plain.put((n, "x" * 3000))
    async with aioipc.wrap(plain, transport=transport) as queue:
        for n in range(100, 200):
            await queue.put((n, "x" * 3000))
        assert [(await queue.get())[0] for _ in range(200)] == list(range(200))


async def test_an_item_is_taken_only_when_asked_for(transport, fork) -> None:
    plain = fork.Queue()
    async with aioipc.wrap(plain, transport=transport) as queue:
        with anyio.move_on_after(0.01):
            await queue.get()
        for n in range(3):
            await queue.put(n)
        assert await queue.get() == 0
        await anyio.wait_all_tasks_blocked()
        assert await anyio.to_thread.run_sync(plain.get) == 1
        assert await queue.get() == 2


async def test_consumers_in_three_processes_share_without_loss(
    transport, fork, anyio_backend
) -> None:
    """Two AsyncQueues and a blocking consumer: each item goes to exactly one."""
    items = 3000
    plain = fork.Queue()
    ends = [fork.Pipe(duplex=False) for _ in range(2)]
    others = [
        fork.Process(target=peers.drain_queue, args=(plain, ends[0][1])),
        fork.Process(
            target=peers.drain_awaiting,
            args=(plain, ends[1][1], anyio_backend, transport),
        ),
    ]
    mine: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        for process in others:
            await stack.enter_async_context(aioipc.wrap(process))
        queue = await stack.enter_async_context(aioipc.wrap(plain, transport=transport))
        async with anyio.create_task_group() as group:

            async def produce() -> None:
                for n in range(items):
                    await queue.put(n)
                for _ in range(3):
                    await queue.put(None)

            group.start_soon(produce)
            mine.extend([n async for n in queue.until(None)])
        shares = [mine]
        for receiver, sender in ends:
            sender.close()
            async with aioipc.wrap(receiver) as report:
                shares.append(await report.recv())
    assert sorted(itertools.chain(*shares)) == list(range(items))
    assert all(share == sorted(share) for share in shares)


@pytest.fixture
def manager(fork):
    with multiprocessing.Manager() as manager:
        yield manager
    manager._process.close()


async def test_a_managers_queue(manager) -> None:
    plain = await anyio.to_thread.run_sync(manager.Queue, 2)
    async with aioipc.wrap(plain) as queue:
        assert isinstance(queue, aioipc.AsyncQueueProxy)
        await queue.put(1)
        await queue.send(2)
        assert await queue.full()
        assert await queue.qsize() == 2
        with pytest.raises(aioipc.QueueFull):
            await queue.put_nowait(3)
        with pytest.raises(aioipc.QueueFull):
            await queue.put(3, timeout=0.01)
        assert [await queue.get(), await queue.receive()] == [1, 2]
        assert await queue.empty()
        with pytest.raises(aioipc.QueueEmpty):
            await queue.get_nowait()
        with pytest.raises(aioipc.QueueEmpty):
            await queue.get(timeout=0.01)
        await queue.put(None)
        assert [n async for n in queue.until(None)] == []
        for _ in range(3):
            await queue.task_done()
        await queue.join()
    with pytest.raises(ValueError, match="closed"):
        await queue.get()


async def test_a_managers_get_nowait_leaves_what_another_task_waits_for(
    manager,
) -> None:
    plain = await anyio.to_thread.run_sync(manager.Queue)
    got: list[object] = []
    async with aioipc.wrap(plain) as queue:

        async def get() -> None:
            got.append(await queue.get())

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            await queue.put("only")
            with pytest.raises(aioipc.QueueEmpty):
                await queue.get_nowait()
        assert got == ["only"]
        assert await queue.empty()


async def test_cancelled_gets_from_a_manager_lose_nothing(manager) -> None:
    plain = await anyio.to_thread.run_sync(manager.Queue)
    producer = threading.Thread(
        target=peers.count_up, args=(plain.put, 300), daemon=True
    )
    producer.start()
    got: list[int] = []
    async with aioipc.wrap(plain) as queue:
        while len(got) < 300:
            with anyio.move_on_after(0.0003):
                got.append(await queue.get())
        assert got == list(range(300))
        await anyio.to_thread.run_sync(producer.join)


async def test_a_manager_that_is_gone(manager) -> None:
    plain = await anyio.to_thread.run_sync(manager.Queue)
    async with aioipc.wrap(plain) as queue:
        await queue.put(1)
        await anyio.to_thread.run_sync(manager.shutdown)
        with pytest.raises(aioipc.BrokenResourceError):
            await queue.get()
