"""An await happened or it did not: no item is lost, doubled or out of order."""

import array
import asyncio
import contextlib
import fcntl
import multiprocessing
import os
import pickle
import random
import termios
import threading

import anyio
import anyio.abc
import bridge_peers as peers
import pytest
from peers import Gate

import aioipc
from aioipc.wire.parts import LARGE

ITEMS = 10_000


@pytest.fixture
def count() -> int:
    return ITEMS


@pytest.fixture(params=["connection", "one-way", "queue", "simple", "joinable"])
async def source(request, transport, fork, count):
    """Something to receive from, and a process that counts up at its other end."""
    kind = request.param
    if kind in {"connection", "one-way"}:
        end, child = aioipc.Pipe(
            duplex=kind == "connection", transport=transport, context=fork
        )
        put = child.send
    else:
        make = {
            "queue": aioipc.Queue,
            "simple": aioipc.SimpleQueue,
            "joinable": aioipc.JoinableQueue,
        }[kind]
        end = make(transport=transport, context=fork)
        put = end.sync.put
    process = aioipc.Process(target=peers.count_up, args=(put, count), context=fork)
    async with end, process:
        if kind in {"connection", "one-way"}:
            child.close()
        yield end


@pytest.mark.slow
async def test_receives_cancelled_at_random_lose_nothing(source) -> None:
    rng = random.Random(1)
    got: list[int] = []
    cancelled = 0
    threads = threading.active_count()
    while len(got) < ITEMS:
        with anyio.move_on_after(rng.random() * 0.001) as scope:
            got.append(await source.receive())
        cancelled += scope.cancelled_caught
    assert got == list(range(ITEMS))
    assert cancelled > 20
    assert threading.active_count() <= threads + 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [ITEMS // 4])
@pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
async def test_native_cancels_lose_nothing(source, count) -> None:
    rng = random.Random(2)
    got: list[int] = []
    cancelled = 0
    while len(got) < count:
        try:
            got.append(await asyncio.wait_for(source.receive(), rng.random() * 0.001))
        except TimeoutError:
            cancelled += 1
    assert got == list(range(count))
    assert cancelled > 20


@pytest.mark.slow
@pytest.mark.parametrize("count", [ITEMS // 4])
async def test_many_tasks_and_cancels_lose_nothing(source, count) -> None:
    rng = random.Random(3)
    got: list[int] = []

    async def receive_some(group: anyio.abc.TaskGroup) -> None:
        while len(got) < count:
            with anyio.move_on_after(rng.random() * 0.002):
                got.append(await source.receive())
                if len(got) == count:
                    group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(receive_some, group)
    # Each task is served in its turn, so what they append is in order as well.
    assert got == list(range(count))


@pytest.mark.parametrize("duplex", [True, False])
async def test_a_big_send_cancelled_in_a_full_pipe_is_sent_whole_or_not_at_all(
    duplex, transport, fork
) -> None:
    reader, writer = fork.Pipe(duplex=duplex)
    big = b"b" * 10_000_000
    sender = aioipc.wrap(writer, transport=transport)
    report, result = fork.Pipe(duplex=False)
    try:
        async with sender:
            outcomes = []
            for n in range(6):
                with anyio.move_on_after(0.001 * n) as scope:
                    await sender.send_bytes(big + bytes([n]))
                outcomes.append(not scope.cancelled_caught)
                with anyio.move_on_after(0.001):
                    await sender.send_bytes(b"small%d" % n)
            assert not any(outcomes)  # no one reads
            drain = multiprocessing.get_context("fork").Process
            process = aioipc.wrap(
                drain(
                    target=peers.drain,
                    args=(reader.recv_bytes, result.send, b"end"),
                )
            )
            async with process:
                await sender.send_bytes(b"end")
                received = aioipc.wrap(report)
                async with received:
                    messages = await received.recv()
        # The first had begun, and so went out as a whole; no other had.
        assert [(m[:5], m[-1], len(m)) for m in messages] == [
            (b"bbbbb", 0, len(big) + 1)
        ]
    finally:
        reader.close()
        result.close()


async def test_a_send_cancelled_before_a_byte_is_out_is_not_sent(
    transport, fork
) -> None:
    mine, theirs = fork.Pipe()
    async with aioipc.wrap(mine, transport=transport) as connection:
        with anyio.move_on_after(0.01):
            while True:
                await connection.send_bytes(b"x" * 1000)
        whole = connection.statistics().unsent_bytes
        with anyio.move_on_after(0.001):
            await connection.send_bytes(b"never")
        assert connection.statistics().unsent_bytes == whole
        peer = aioipc.wrap(theirs, transport=transport)
        async with peer, anyio.create_task_group() as group:
            group.start_soon(connection.send_bytes, b"end")
            while (message := await peer.recv_bytes()) != b"end":
                assert message == b"x" * 1000


async def test_a_receive_cancelled_in_the_middle_of_a_frame_resumes_there(
    transport, fork
) -> None:
    mine, theirs = fork.Pipe()
    frame = (1_000_000).to_bytes(4, "big") + b"z" * 1_000_000
    async with aioipc.wrap(mine, transport=transport) as connection:
        for start in range(0, 900_000, 100_001):
            part = frame[start : start + 100_001]
            await anyio.to_thread.run_sync(_write, theirs, part)
            while _unread(connection):
                with anyio.move_on_after(0.002):
                    await connection.recv_bytes()
                    raise AssertionError
        rest = frame[start + 100_001 :]
        await anyio.to_thread.run_sync(_write, theirs, rest)
        assert await connection.recv_bytes() == b"z" * 1_000_000
    theirs.close()


async def test_a_large_pickle_is_loaded_once_however_often_recv_is_cancelled(
    transport, fork
) -> None:
    mine, theirs = fork.Pipe()
    graph = [{"n": n} for n in range(200_000)]
    async with aioipc.wrap(mine, transport=transport) as connection:
        sending = threading.Thread(target=lambda: theirs.send(graph), daemon=True)
        sending.start()
        received = None
        while received is None:  # loading takes far longer than each deadline
            with anyio.move_on_after(0.001):
                received = await connection.recv()
        assert received == graph
        await anyio.to_thread.run_sync(sending.join)
    theirs.close()


async def test_a_put_cancelled_on_a_full_queue_puts_nothing(transport, fork) -> None:
    queue = aioipc.Queue(maxsize=2, transport=transport, context=fork)
    async with queue:
        await queue.put("a")
        await queue.put("b")
        for _ in range(5):
            with anyio.move_on_after(0.01):
                await queue.put("never")
        with pytest.raises(aioipc.QueueFull):
            await queue.put("never", timeout=0.01)
        with pytest.raises(aioipc.QueueFull):
            queue.put_nowait("never")
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        await queue.put("c")
        assert await queue.get() == "c"
        assert queue.empty()
        with pytest.raises(aioipc.QueueEmpty):
            queue.get_nowait()


async def test_a_put_cancelled_in_a_full_pipe_is_written_whole_or_not_at_all(
    transport, fork
) -> None:
    async with aioipc.SimpleQueue(transport=transport, context=fork) as queue:
        big = [b"b" * 1_000_000]
        for _ in range(4):
            with anyio.move_on_after(0.01):
                await queue.put(big)
        async with anyio.create_task_group() as group:
            group.start_soon(queue.put, "end")
            assert await queue.get() == big
            assert await queue.get() == "end"


async def test_a_get_cancelled_while_another_process_has_the_lock(
    transport, fork
) -> None:
    queue = aioipc.Queue(transport=transport, context=fork)
    control, child = aioipc.Pipe(transport=transport, context=fork)
    process = aioipc.Process(
        target=peers.get_forever, args=(queue, child), context=fork
    )
    with contextlib.suppress(ZeroDivisionError):
        async with queue, control, process:
            assert await control.recv() == "started"
            for n in range(50):
                with anyio.move_on_after(0.001):
                    await queue.get()
                    raise AssertionError
                await queue.put(n)
                assert await control.recv() == n
            raise ZeroDivisionError  # ends the process


def _unread(connection) -> int:
    """Return the bytes that the kernel has for it."""
    count = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), termios.FIONREAD, count)
    return count[0]


def _write(connection, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(connection.fileno(), view) :]


async def test_a_queue_closed_in_the_middle_of_an_item_leaves_the_rest_to_others(
    transport, fork
) -> None:
    plain = fork.Queue()
    fd = os.dup(plain._writer.fileno())
    frame = len(b"mine").to_bytes(4, "big") + b"mine"
    queue = aioipc.wrap(plain, transport=transport)
    other = os.dup(plain._reader.fileno())
    await anyio.to_thread.run_sync(os.write, fd, frame[:6])
    with anyio.move_on_after(0.01):
        await queue.get()
        raise AssertionError
    assert not plain._rlock.acquire(False)  # others must not read here
    with pytest.warns(RuntimeWarning, match="1 items that it held for a get are lost"):
        queue.close()
    await anyio.to_thread.run_sync(os.write, fd, frame[6:] + b"next")
    assert await anyio.to_thread.run_sync(plain._rlock.acquire, True, 10)
    assert await anyio.to_thread.run_sync(os.read, other, 100) == b"next"
    os.close(other)
    os.close(fd)


async def test_a_fork_in_the_middle_of_an_item_leaves_it_to_the_parent(
    transport, fork
) -> None:
    plain = fork.SimpleQueue()
    frame = pickle.dumps("for the parent")
    frame = len(frame).to_bytes(4, "big") + frame
    async with aioipc.wrap(plain, transport=transport) as queue:
        await anyio.to_thread.run_sync(os.write, plain._writer.fileno(), frame[:6])
        with anyio.move_on_after(0.01):
            await queue.get()
            raise AssertionError

        def close() -> None:
            queue.close()  # the awaitable: this is no argument

        child = aioipc.Process(target=close, context=fork)
        async with child:
            assert await child.join() == 0
        await anyio.to_thread.run_sync(os.write, plain._writer.fileno(), frame[6:])
        assert await queue.get() == "for the parent"


async def test_an_item_of_a_cancelled_get_is_the_parents_in_a_fork(
    transport, fork
) -> None:
    async with aioipc.Queue(transport=transport, context=fork) as queue:
        item = await hold_an_item(queue)

        def close() -> None:
            queue.close()  # the awaitable: this is no argument

        child = aioipc.Process(target=close, context=fork)
        async with child:
            assert await child.join() == 0
        Gate.opened.set()
        assert await queue.get() == [item[0], "through the gate"]


async def test_a_fork_unpickles_its_own_item_and_not_the_one_its_parent_is_at(
    transport, fork
) -> None:
    queue = aioipc.Queue(transport=transport, context=fork)
    await hold_an_item(queue)

    async def put_and_get() -> None:
        queue.cancel_join_thread()  # or it would not exit if this fails
        item = [b"y" * LARGE, "of the child"]
        await queue.put(item)
        assert await queue.get() == item

    # A thread of the parent holds the queue's item, and will never come in the child.
    await run_in_fork(put_and_get, fork)
    Gate.opened.set()
    with pytest.warns(RuntimeWarning, match="lost"):
        queue.close()


async def test_a_fork_waits_for_a_slot_in_a_thread_of_its_own(transport, fork) -> None:
    async with aioipc.Queue(maxsize=1, transport=transport, context=fork) as queue:
        await queue.put("first")
        with pytest.raises(aioipc.QueueFull):
            await queue.put("second", timeout=0.01)  # starts a thread, which lingers

        async def get_while_putting() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.put, "third")
                await anyio.wait_all_tasks_blocked()
                assert await queue.get() == "first"
            assert await queue.get() == "third"

        await run_in_fork(get_while_putting, fork)


async def run_in_fork(function, fork) -> None:
    child = aioipc.Process(target=anyio.run, args=(function,), context=fork)
    async with child:
        assert await child.join() == 0


async def test_a_queue_that_holds_an_item_for_a_cancelled_get_warns_when_it_is_closed(
    transport, fork
) -> None:
    queue = aioipc.Queue(transport=transport, context=fork)
    await hold_an_item(queue)
    with pytest.warns(RuntimeWarning, match="1 items that it held for a get are lost"):
        queue.close()
    Gate.opened.set()


async def test_a_get_that_is_unpickling_when_the_queue_is_closed_gets_an_error(
    transport, fork
) -> None:
    queue = aioipc.Queue(transport=transport, context=fork)
    async with anyio.create_task_group() as tasks:
        await queue.put([b"x" * LARGE, Gate()])

        async def get() -> None:
            with pytest.raises(aioipc.ClosedResourceError):
                await queue.get()

        tasks.start_soon(get)
        await anyio.to_thread.run_sync(Gate.reached.wait)
        with pytest.warns(RuntimeWarning, match="lost"):
            queue.close()
        Gate.opened.set()


async def hold_an_item(queue: aioipc.AsyncQueue) -> list:
    """Cancel a get in the middle of unpickling, which a thread does if it is large."""
    item = [b"x" * LARGE, Gate()]
    await queue.put(item)
    async with anyio.create_task_group() as getting:
        getting.start_soon(queue.get)
        await anyio.to_thread.run_sync(Gate.reached.wait)
        getting.cancel_scope.cancel()
    return item
