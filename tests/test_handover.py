"""What goes to a worker is the plain object, and what comes back is as it was."""

import asyncio
import collections
import dataclasses
import errno
import functools
import multiprocessing
import os
import pickle
import queue as stdlib_queue
import socket
import struct
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.managers import SyncManager
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import peers
import pytest
from anyio.to_thread import run_sync

import aioipc
from aioipc.bridge.handover import plain
from aioipc.transport.threads import run_in_thread
from aioipc.wire.parts import LARGE

PLAIN_TYPES = {
    "AsyncConnection": "multiprocessing.connection.Connection",
    "AsyncQueue": "multiprocessing.queues.Queue",
    "AsyncSimpleQueue": "multiprocessing.queues.SimpleQueue",
    "AsyncJoinableQueue": "multiprocessing.queues.JoinableQueue",
    "AsyncQueueProxy": "multiprocessing.managers.AutoProxy[JoinableQueue]",
}
QUEUES = [kind for kind in PLAIN_TYPES if "Queue" in kind]


@pytest.fixture(scope="module")
def manager() -> Iterator[SyncManager]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        manager = multiprocessing.get_context("fork").Manager()
    with manager:
        yield manager


def make(kind: str, context: BaseContext, manager: SyncManager) -> Iterator[object]:
    """The plain object for an awaitable's name."""
    # Not in the test, because a manager is asked for a queue by a blocking call.
    match kind:
        case "AsyncConnection":
            connection, other = context.Pipe()
            with connection, other:
                yield connection
        case "AsyncQueueProxy":
            yield manager.JoinableQueue()
        case _:
            queue = getattr(context, kind.removeprefix("Async"))()
            yield queue
            queue.close()
            if hasattr(queue, "join_thread"):
                queue.join_thread()
            # Only the end of its thread, or of the queue, would do that.
            queue._reader.close()
            queue._writer.close()


@pytest.fixture
def obj(kind: str, fork: BaseContext, manager: SyncManager) -> Iterator[object]:
    yield from make(kind, fork, manager)


@pytest.fixture
def obj_in_context(
    kind: str, context: BaseContext, manager: SyncManager
) -> Iterator[object]:
    yield from make(kind, context, manager)


@asynccontextmanager
async def worker(target, *args, context: BaseContext, **kwargs) -> AsyncIterator:
    """A worker that reports to the connection which this yields."""
    mine, theirs = aioipc.Pipe(context=context)
    async with mine, AsyncExitStack() as stack:
        with theirs:
            process = aioipc.Process(
                None, target, None, (theirs, *args), kwargs, context=context
            )
            await stack.enter_async_context(process)
        yield mine


@asynccontextmanager
async def plain_worker(target, *args, context: BaseContext) -> AsyncIterator:
    """The same in a program that starts its processes by itself."""
    mine, theirs = aioipc.Pipe(context=context)
    async with mine:
        with theirs:
            process = context.Process(target=target, args=(theirs, *args))
            await run_sync(process.start)
        yield mine
        await run_sync(process.join)
    process.close()


async def in_a_thread(function, *args):
    """Call in a thread that ends at once, and with it what a manager keeps for it."""
    job = run_in_thread(lambda: function(*args), "test")
    await job.wait()
    return job.result()


async def write(fd: int, data: bytes) -> None:
    assert await run_sync(os.write, fd, data) == len(data)


def frame(obj: object) -> bytes:
    body = pickle.dumps(obj)
    return struct.pack("!i", len(body)) + body


# Into a worker


@pytest.mark.parametrize("kind", PLAIN_TYPES)
async def test_in_arguments_of_any_shape_the_plain_object_arrives(
    kind, context, obj_in_context
) -> None:
    async with aioipc.wrap(obj_in_context) as awaitable:
        assert type(awaitable).__name__ == kind
        async with worker(
            peers.tell_shape,
            awaitable,
            [1, awaitable],
            (awaitable, [awaitable]),
            {"key": awaitable, "deep": {"er": (awaitable,)}},
            keyword=awaitable,
            other=None,
            context=context,
        ) as report:
            args, kwargs = await report.recv()
    one = PLAIN_TYPES[kind]
    assert args == (
        one,
        ["builtins.int", one],
        (one, [one]),
        {"key": one, "deep": {"er": (one,)}},
    )
    assert kwargs == {"keyword": one, "other": "builtins.NoneType"}


@pytest.mark.parametrize("kind", QUEUES)
async def test_a_queue_works_on_both_sides(kind, context, obj_in_context) -> None:
    async with aioipc.wrap(obj_in_context) as queue:
        await queue.put("used before")
        assert await queue.get() == "used before"
        if hasattr(queue, "task_done"):
            await queue.task_done()
        async with worker(peers.double, queue, context=context) as report:
            await queue.put(21)
            assert await report.recv() == 21
            if hasattr(queue, "join"):
                await queue.join()
            await report.send("go on")
            assert await queue.get() == 42


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
async def test_a_connection_is_blocking_in_the_worker(used, context, transport) -> None:
    first, second = context.Pipe()
    connection = aioipc.wrap(first, transport=transport)
    async with aioipc.wrap(second) as peer:
        if used:
            await ping_pong(connection, peer)
        async with worker(
            peers.tell_blocking_and_echo, connection, context=context
        ) as report:
            connection.close()
            assert await report.recv() is True
            await peer.send("hello")
            assert await peer.recv() == ("echo", "hello")


async def ping_pong(connection, peer) -> None:
    await peer.send("ping")
    assert await connection.recv() == "ping"
    await connection.send("pong")
    assert await peer.recv() == "pong"


@pytest.mark.parametrize("context", ["forkserver", "spawn"], indirect=True)
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
async def test_a_plain_process_gets_a_blocking_connection(
    used, context, transport
) -> None:
    first, second = context.Pipe()
    connection = aioipc.wrap(first, transport=transport)
    async with aioipc.wrap(second) as peer:
        if used:
            await ping_pong(connection, peer)
        async with plain_worker(
            peers.tell_blocking_and_echo, connection, context=context
        ) as report:
            connection.close()
            assert await report.recv() is True
            await peer.send("hello")
            assert await peer.recv() == ("echo", "hello")


@pytest.mark.parametrize("context", ["forkserver", "spawn"], indirect=True)
@pytest.mark.parametrize("kind", PLAIN_TYPES)
async def test_a_plain_process_gets_the_plain_object_also_inside_ones_own(
    kind, context, obj_in_context
) -> None:
    # By pickle alone, without `aioipc.Process` to look for awaitables
    async with aioipc.wrap(obj_in_context) as awaitable:
        job = peers.Job("name", awaitable)
        async with plain_worker(
            peers.tell_shape, awaitable, job, context=context
        ) as report:
            args, _ = await report.recv()
    one = PLAIN_TYPES[kind]
    assert args == (one, {"name": "builtins.str", "tool": one})


async def test_in_an_object_of_ones_own_it_arrives_by_our_process_too(
    context,
) -> None:
    async with aioipc.Queue(context=context) as queue:
        job = peers.Job("name", queue)
        target = functools.partial(peers.tell_shape, tool=job)
        async with worker(target, job, context=context) as report:
            args, kwargs = await report.recv()
        async with worker(job.tell, context=context) as report:
            assert await report.recv() == args[0]
        assert job.tool is queue
    assert args == ({"name": "builtins.str", "tool": PLAIN_TYPES["AsyncQueue"]},)
    assert kwargs == {"tool": args[0]}


async def test_what_a_process_object_has_is_converted_when_it_starts(fork) -> None:
    mine, theirs = aioipc.Pipe(context=fork)
    job = peers.Job("name", None)
    process = fork.Process(target=job.tell, args=(theirs,))
    job.tool = aioipc.Lock(context=fork)
    async with mine, aioipc.wrap(process):
        assert (await mine.recv())["tool"] == "multiprocessing.synchronize.Lock"


async def test_the_awaitable_can_be_used_on_after_a_plain_process_got_it(
    transport, manager
) -> None:
    context = multiprocessing.get_context("spawn")
    first, second = context.Pipe()
    async with (
        aioipc.wrap(first, transport=transport) as connection,
        aioipc.wrap(second) as peer,
    ):
        await ping_pong(connection, peer)
        async with plain_worker(
            peers.tell_shape, connection, context=context
        ) as report:
            await report.recv()
        await ping_pong(connection, peer)


class Shelf:
    """Not one of ours, although it has a method `sync`; as `shelve.Shelf` has."""

    def sync(self) -> str:
        return "synced"


Point = dataclasses.make_dataclass("Point", ["x"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        (1, [2]),
        {"a": (1,)},
        {1, 2},
        Point(1),
        Shelf(),
        os,
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_leaves_what_is_not_ours_alone(value) -> None:
    found = plain(value)
    assert found == value
    assert type(found) is type(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    inner: object


class Slotted:
    __slots__ = ("__dict__", "_inner")

    def __init__(self, inner) -> None:
        self._inner = inner
        self.other = "other"

    def inner(self) -> object:
        return self._inner


class Items(list):
    """One's own kind of list."""


Pair = collections.namedtuple("Pair", ["first", "second"])  # noqa: PYI024

HOLDERS = {
    "partial": (lambda it: functools.partial(print, it), lambda v: v.args[0]),
    "keyword": (lambda it: functools.partial(print, a=it), lambda v: v.keywords["a"]),
    "method": (lambda it: Slotted(it).inner, lambda v: v()),
    "dataclass": (Point, lambda v: v.x),
    "frozen": (Frozen, lambda v: v.inner),
    "slots": (Slotted, lambda v: v.inner()),
    "namedtuple": (lambda it: Pair(1, it), lambda v: v.second),
    "set": (lambda it: {it}, lambda v: next(iter(v))),
    "frozenset": (lambda it: frozenset([it]), lambda v: next(iter(v))),
    "deque": (lambda it: collections.deque([1, it], 2), lambda v: v[1]),
    "defaultdict": (
        lambda it: collections.defaultdict(list, a=[it]),
        lambda v: v["a"][0],
    ),
    "key": (lambda it: {it: 1}, lambda v: next(iter(v))),
    "list": (lambda it: Items([it]), lambda v: v[0]),
    "deep": (
        lambda it: Point([functools.partial(print, Slotted((it,)))]),
        lambda v: v.x[0].args[0].inner()[0],
    ),
}


@pytest.mark.parametrize(("make", "look"), HOLDERS.values(), ids=HOLDERS)
def test_plain_finds_an_awaitable_in(make, look, fork) -> None:
    lock = aioipc.Lock(context=fork)
    value, nothing = make(lock), make("nothing")
    found, both = plain(value), plain([nothing, value])
    assert look(found) is lock.sync
    assert look(value) is lock
    assert type(found) is type(value)
    assert both[0] is nothing
    assert look(both[1]) is lock.sync


def test_a_method_of_an_awaitable_is_the_plain_ones(fork) -> None:
    lock = aioipc.Lock(context=fork)
    acquire, release = plain((lock.acquire, lock.release))
    assert acquire() is True
    release()
    assert acquire.__self__ is lock.sync._semlock


class Single:
    """Of which there is one."""

    instance = None

    def __new__(cls):
        cls.instance = cls.instance or super().__new__(cls)
        return cls.instance


class Uncopied(dict):
    def __copy__(self):
        return self


class Checked:
    """Takes nothing that is not what it wants, and shows it by a property."""

    def __init__(self, inner) -> None:
        self.__dict__["inner"] = inner

    @property
    def inner(self) -> object:
        return self.__dict__["inner"]

    def __setattr__(self, name, value) -> None:
        raise TypeError(f"{value} is not what it wants")


def test_plain_changes_nothing_that_it_was_given(fork) -> None:
    lock = aioipc.Lock(context=fork)
    single, uncopied, checked = Single(), Uncopied(lock=lock), Checked(lock)
    single.lock = lock
    found = plain([single, uncopied, checked])
    assert single.lock is uncopied["lock"] is checked.inner is lock
    assert found[0].lock is found[2].inner is lock.sync
    assert found[1] is uncopied


def test_plain_keeps_what_refers_to_itself_in_shape(fork) -> None:
    lock = aioipc.Lock(context=fork)
    parent, child = Point({}), Point(lock)
    parent.x["child"], child.parent = child, parent
    found = plain(parent)
    assert found.x["child"].parent is found is not parent
    assert found.x["child"].x is lock.sync
    child.x = None
    assert plain(parent) is parent
    long: list = []
    for _ in range(10_000):
        long = [long]
    assert plain([long, lock])[0] is long


def test_plain_leaves_alone_whose_copy_would_be_more_than_its_attributes(fork) -> None:
    class Deleted(Slotted):
        def __del__(self) -> None:
            pass

    class Reduced(Slotted):
        def __getstate__(self) -> None:
            pass

    lock = aioipc.Lock(context=fork)
    for value in (Deleted(lock), Reduced(lock), lambda: lock, Mock(spec=dict)):
        assert plain(value) is value


def test_plain_does_not_change_the_callers_containers(fork) -> None:
    with aioipc.wrap(fork.Pipe()[0]) as connection:
        argument = [connection, {"key": connection}]
        found = plain(argument)
        assert argument == [connection, {"key": connection}]
        assert found == [connection.sync, {"key": connection.sync}]


# Back: detach() and .sync


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
async def test_a_detached_connection_is_as_it_was(
    used, blocking, transport, fork
) -> None:
    first, second = fork.Pipe()
    os.set_blocking(first.fileno(), blocking)
    connection = aioipc.wrap(first, transport=transport)
    async with aioipc.wrap(second) as peer:
        if used:
            await ping_pong(connection, peer)
            assert not os.get_blocking(first.fileno())
        assert connection.detach() is first
        assert os.get_blocking(first.fileno()) is blocking
        assert not first.closed
        # Once more, as a new owner
        await ping_pong(again := aioipc.wrap(first, transport=transport), peer)
        assert again.detach() is first
    first.close()


async def test_after_a_large_message_the_kernels_buffer_is_as_it_was(
    transport, fork
) -> None:
    theirs, mine = fork.Pipe()
    before = kernel_buffer(mine)
    connection = aioipc.wrap(mine, transport=transport)
    async with aioipc.wrap(theirs) as peer:
        await pass_on(connection, peer, b"small")
        assert kernel_buffer(mine) == before
        await pass_on(connection, peer, bytes(1_000_000))
        assert kernel_buffer(mine) > before
        assert connection.detach() is mine
    assert kernel_buffer(mine) == before
    mine.close()


async def pass_on(sender, receiver, message: bytes) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sender.send_bytes, message)
        assert await receiver.recv_bytes() == message


def kernel_buffer(connection: Connection) -> int:
    """How many bytes the kernel holds for the peer."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


@pytest.mark.parametrize("kind", PLAIN_TYPES)
async def test_sync_and_detach_give_the_same_object(kind, obj) -> None:
    awaitable = aioipc.wrap(obj)
    assert awaitable.sync is obj
    assert awaitable.sync is awaitable.detach() is obj
    if kind in QUEUES:
        await in_a_thread(obj.put, "mine")
        assert await in_a_thread(obj.get) == "mine"


async def test_sync_of_a_used_connection_is_blocking_and_it_can_be_used_on(
    transport, fork
) -> None:
    first, second = fork.Pipe()
    async with (
        aioipc.wrap(first, transport=transport) as connection,
        aioipc.wrap(second) as peer,
    ):
        for _ in range(2):
            await ping_pong(connection, peer)
            assert connection.sync is first
            assert os.get_blocking(first.fileno())


async def test_a_connection_in_use_has_no_sync(transport, fork) -> None:
    first, second = fork.Pipe()
    async with (
        aioipc.wrap(first, transport=transport) as connection,
        aioipc.wrap(second) as peer,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.recv)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError, match="tasks_receiving=1"):
                connection.sync  # noqa: B018
            await peer.send("to the one that waits")
        with anyio.move_on_after(0.001):
            await connection.send_bytes(bytes(4 << 20))
        with pytest.raises(RuntimeError, match="is in use here"):
            connection.sync  # noqa: B018
        assert len(await peer.recv_bytes()) == 4 << 20
        assert connection.sync is first


def test_a_task_of_a_loop_that_has_ended_does_not_use_it(transport, fork) -> None:
    first, second = fork.Pipe()
    connection = aioipc.wrap(first, transport=transport)

    async def begin() -> None:
        asyncio.ensure_future(connection.recv())  # noqa: RUF006 - left behind
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    # The loop may be resumed, and the task with it.
    assert connection.statistics().tasks_receiving == 1
    with pytest.raises(aioipc.BusyResourceError):
        connection.sync  # noqa: B018
    (task,) = asyncio.all_tasks(loop)
    loop.close()
    assert connection.statistics().tasks_receiving == 0
    assert connection.sync is first
    with warnings.catch_warnings():  # asyncio's own, of a task that it has lost
        warnings.simplefilter("ignore")
        task.get_coro().close()
    connection.close()
    second.close()


async def test_without_a_free_descriptor_it_still_sends_and_closes(
    transport, fork, monkeypatch
) -> None:
    first, second = fork.Pipe()
    async with aioipc.wrap(second) as peer:
        connection = aioipc.wrap(first, transport=transport)
        await pass_on(connection, peer, b"settle in this loop")

        def dup(fd: int) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "dup", dup)
        await pass_on(connection, peer, bytes(1_000_000))
        connection.close()
        assert first.closed


@pytest.mark.parametrize("kind", PLAIN_TYPES)
async def test_leaving_the_block_after_detach_leaves_the_object_open(kind, obj) -> None:
    async with aioipc.wrap(obj) as awaitable:
        obj = awaitable.detach()
    if kind == "AsyncConnection":
        assert not obj.closed
    else:
        await in_a_thread(obj.put, 1)
        async with aioipc.wrap(obj) as again:
            assert await again.get() == 1


AFTER_DETACH = {
    "AsyncConnection": [
        lambda it: it.send(1),
        lambda it: it.recv(),
        lambda it: it.receive(),
        lambda it: it.send_bytes(b"1"),
        lambda it: it.recv_bytes(),
        lambda it: it.recv_bytes_into(bytearray(9)),
        lambda it: it.poll(),
        lambda it: it.fileno(),
    ],
    "queue": [
        lambda it: it.get(),
        lambda it: it.receive(),
        lambda it: it.get_nowait(),
        lambda it: it.put(1),
        lambda it: it.send(1),
        lambda it: it.put_nowait(1),
    ],
}


@pytest.mark.parametrize("kind", PLAIN_TYPES)
async def test_use_after_detach_is_a_closed_resource_error(kind, obj) -> None:
    awaitable = aioipc.wrap(obj)
    obj = awaitable.detach()
    for use in AFTER_DETACH.get(kind, AFTER_DETACH["queue"]):
        with pytest.raises(aioipc.ClosedResourceError):
            await anyio.lowlevel.checkpoint() or await use(awaitable)
    with pytest.raises(aioipc.ClosedResourceError):
        awaitable.detach()
    assert repr(awaitable) == f"<{kind} closed>"
    await awaitable.aclose()


@pytest.mark.parametrize(
    "kind",
    PLAIN_TYPES,
)
def test_after_detach_it_is_closed_and_has_no_sync(kind, obj) -> None:
    awaitable = aioipc.wrap(obj)
    assert not awaitable.closed
    obj = awaitable.detach()
    assert awaitable.closed
    with pytest.raises(aioipc.ClosedResourceError):
        _ = awaitable.sync


async def test_detach_wakes_those_who_wait(transport, fork) -> None:
    first, second = fork.Pipe()
    connection = aioipc.wrap(first, transport=transport)

    async def receive() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await connection.recv()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        assert connection.detach() is first
    assert os.get_blocking(first.fileno())
    first.close()
    second.close()


# What would be lost is not detached


async def refuses_to_detach(awaitable, match: str) -> None:
    """Refused with the reason, and nothing has changed."""
    before = repr(awaitable)
    for _ in range(2):
        with pytest.raises(aioipc.UndeliveredError, match=match):
            awaitable.detach()
    assert repr(awaitable) == before


async def test_messages_received_but_not_taken_are_not_detached(
    transport, fork
) -> None:
    first, second = fork.Pipe()
    connection = aioipc.wrap(first, transport=transport)
    async with aioipc.wrap(second) as peer:
        for n in range(3):
            await peer.send(n)
        assert await connection.recv() == 0
        await refuses_to_detach(connection, "holds 2 messages that no one")
        assert [await connection.recv(), await connection.recv()] == [1, 2]
        assert connection.detach() is first
    first.close()


@pytest.mark.parametrize("size", [2, 6], ids=["of its header", "of its body"])
async def test_a_part_of_a_frame_is_not_detached(size, transport, fork) -> None:
    first, second = fork.Pipe()
    connection = aioipc.wrap(first, transport=transport)
    data = frame("whole")
    await write(second.fileno(), data[:size])
    assert not await connection.poll()
    await refuses_to_detach(connection, "holds 0 messages and a part of one")
    await write(second.fileno(), data[size:])
    assert await connection.recv() == "whole"
    assert connection.detach() is first
    first.close()
    second.close()


async def test_the_rest_of_a_cancelled_send_is_not_detached(transport, fork) -> None:
    first, second = fork.Pipe()
    connection = aioipc.wrap(first, transport=transport)
    message = os.urandom(4 << 20)
    async with aioipc.wrap(second) as peer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.send_bytes, message)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await refuses_to_detach(connection, r"and \d{7} bytes that are not yet sent")
        assert await peer.recv_bytes() == message
        assert connection.detach() is first
    assert os.get_blocking(first.fileno())
    first.close()


@pytest.mark.parametrize("kind", QUEUES[:3])
async def test_an_item_of_a_cancelled_get_is_not_detached(kind, obj, transport) -> None:
    # An item so large that a thread unpickles it, which the gate holds up
    gate = peers.Gate()
    item = [b"x" * LARGE, gate]
    queue = aioipc.wrap(obj, transport=transport)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.put, item)
        with anyio.CancelScope() as getting:
            async with anyio.create_task_group() as more:
                more.start_soon(queue.get)
                await run_sync(peers.Gate.reached.wait)
                getting.cancel()
    await until_written(queue)
    await refuses_to_detach(queue, "holds 1 items that no one has")
    peers.Gate.opened.set()
    assert await queue.get() == [b"x" * LARGE, "through the gate"]
    assert queue.detach() is obj


async def until_written(queue) -> None:
    while queue.statistics().unwritten_items:  # noqa: ASYNC110 - a thread writes
        await anyio.sleep(0.001)


@pytest.mark.parametrize("kind", ["AsyncSimpleQueue"])
async def test_a_part_of_an_item_is_not_detached(kind, obj, transport) -> None:
    queue = aioipc.wrap(obj, transport=transport)
    data = frame("whole")
    await write(obj._writer.fileno(), data[:7])
    with pytest.raises(stdlib_queue.Empty):
        queue.get_nowait()
    await refuses_to_detach(queue, "holds 1 items that no one has")
    await write(obj._writer.fileno(), data[7:])
    assert await queue.get() == "whole"
    assert queue.detach() is obj


@pytest.mark.parametrize("kind", ["AsyncQueue", "AsyncJoinableQueue"])
async def test_items_that_are_not_yet_written_are_not_detached(kind, obj) -> None:
    queue = aioipc.wrap(obj)
    large = b"x" * (1 << 20)
    await queue.put(large)
    await queue.put("small, but behind it")
    await refuses_to_detach(queue, "and 2 that are not yet written")
    assert await queue.get() == large
    assert await queue.get() == "small, but behind it"
    await until_written(queue)
    assert queue.detach() is obj


@pytest.mark.parametrize("kind", ["AsyncQueueProxy"])
async def test_a_cancelled_get_of_a_manager_is_not_detached(kind, obj) -> None:
    queue = aioipc.wrap(obj)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.get)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    await refuses_to_detach(queue, "may hold an item that no one has")
    await queue.put("mine")
    assert await queue.get() == "mine"
    assert queue.detach() is obj
