"""What a type checker makes of the bridge. Checked by pyright, never run."""

# ruff: noqa: TC002, TC003 - as in a user's module, imports stand at the top

import multiprocessing
import queue
import threading
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager, BaseProxy
from multiprocessing.process import BaseProcess
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from typing import Any, assert_type

from anyio.abc import ObjectReceiveStream, ObjectSendStream, ObjectStream

import aioipc
from aioipc import (
    AsyncArrayProxy,
    AsyncBarrierProxy,
    AsyncConditionProxy,
    AsyncConnection,
    AsyncDictProxy,
    AsyncEventProxy,
    AsyncIteratorProxy,
    AsyncJoinableQueue,
    AsyncListProxy,
    AsyncLockProxy,
    AsyncManager,
    AsyncNamespaceProxy,
    AsyncProcess,
    AsyncProxy,
    AsyncQueue,
    AsyncQueueProxy,
    AsyncRLockProxy,
    AsyncSemaphoreProxy,
    AsyncSimpleQueue,
    AsyncValueProxy,
    ConnectionStatistics,
    QueueStatistics,
    wrap,
)


def wrap_gives_the_counterpart(
    connection: "Connection[str, int]",
    plain_queue: "Queue[int]",
    joinable: "JoinableQueue[int]",
    simple: "SimpleQueue[int]",
    process: BaseProcess,
    proxy: BaseProxy,
) -> None:
    assert_type(wrap(connection), AsyncConnection[int])
    assert_type(wrap(plain_queue), AsyncQueue[int])
    assert_type(wrap(joinable), AsyncJoinableQueue[int])
    assert_type(wrap(simple), AsyncSimpleQueue[int])
    assert_type(wrap(process), AsyncProcess)
    assert_type(wrap(proxy), AsyncProxy)


def wrap_takes_what_multiprocessing_makes() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    assert_type(wrap(ours), AsyncConnection[Any])
    assert_type(wrap(theirs, transport="threads"), AsyncConnection[Any])
    assert_type(wrap(context.Queue()), AsyncQueue[Any])
    assert_type(wrap(context.Queue(), max_message_size=1), AsyncQueue[Any])
    assert_type(wrap(context.JoinableQueue()), AsyncJoinableQueue[Any])
    assert_type(wrap(context.SimpleQueue()), AsyncSimpleQueue[Any])
    assert_type(wrap(context.Process()), AsyncProcess)
    assert_type(wrap(multiprocessing.Process()), AsyncProcess)
    annotated: Queue[int] = multiprocessing.Queue()
    assert_type(wrap(annotated), AsyncQueue[int])


def wrap_refuses() -> None:
    wrap(1)  # pyright: ignore[reportCallIssue, reportArgumentType]
    wrap(None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    wrap(  # pyright: ignore[reportCallIssue]
        multiprocessing.Lock(),  # pyright: ignore[reportArgumentType]
        transport="threads",
    )
    wrap(
        multiprocessing.Queue(),
        transport="pigeons",  # pyright: ignore[reportCallIssue, reportArgumentType]
    )


def factories_give_awaitables() -> None:
    context = multiprocessing.get_context("spawn")
    assert_type(aioipc.Pipe(), tuple[AsyncConnection[Any], "Connection[Any, Any]"])
    assert_type(aioipc.Pipe(False, context=context)[0], AsyncConnection[Any])
    assert_type(aioipc.Queue(), AsyncQueue[Any])
    assert_type(aioipc.Queue(3, context=context), AsyncQueue[Any])
    assert_type(aioipc.JoinableQueue(), AsyncJoinableQueue[Any])
    assert_type(aioipc.SimpleQueue(), AsyncSimpleQueue[Any])
    assert_type(aioipc.Process(target=print), AsyncProcess)


def connections_are_object_streams(connection: AsyncConnection[int]) -> None:
    both: ObjectStream[int] = connection
    sending: ObjectSendStream[int] = connection
    receiving: ObjectReceiveStream[int] = connection
    del both, sending, receiving


def queues_are_both_kinds_of_stream(
    plain_queue: AsyncQueue[int],
    joinable: AsyncJoinableQueue[int],
    simple: AsyncSimpleQueue[int],
    proxy: AsyncQueueProxy[int],
) -> None:
    sending: list[ObjectSendStream[int]] = [plain_queue, joinable, simple, proxy]
    receiving: list[ObjectReceiveStream[int]] = [plain_queue, joinable, simple, proxy]
    del sending, receiving


async def connections_carry_their_type(connection: AsyncConnection[int]) -> None:
    assert_type(await connection.recv(), int)
    assert_type(await connection.receive(), int)
    assert_type([item async for item in connection], list[int])
    assert_type(await connection.recv_bytes(), bytes)
    assert_type(await connection.poll(), bool)
    assert_type(connection.statistics(), ConnectionStatistics)
    await connection.send(1)
    await connection.send("1")  # pyright: ignore[reportArgumentType]
    async with connection as same:
        assert_type(same, AsyncConnection[int])
    with connection as same:
        assert_type(same, AsyncConnection[int])


async def queues_carry_their_type(
    plain_queue: AsyncQueue[int], proxy: AsyncQueueProxy[int]
) -> None:
    assert_type(await plain_queue.get(), int)
    assert_type(await plain_queue.get(timeout=1), int)
    assert_type(plain_queue.get_nowait(), int)
    assert_type([item async for item in plain_queue], list[int])
    assert_type(plain_queue.until(0), AsyncIterator[int])
    assert_type([item async for item in plain_queue.until(0)], list[int])
    assert_type(plain_queue.statistics(), QueueStatistics)
    await plain_queue.put(1)
    await plain_queue.put("1")  # pyright: ignore[reportArgumentType]
    assert_type(await proxy.get(), int)
    assert_type(await proxy.get_nowait(), int)
    assert_type(await proxy.qsize(), int)
    async with plain_queue as same:
        assert_type(same, AsyncQueue[int])


async def processes(process: AsyncProcess) -> None:
    async with process as same:
        assert_type(same, AsyncProcess)
        assert_type(await same.join(), int | None)
        assert_type(same.exitcode, int | None)


def wrap_takes_what_a_manager_makes() -> None:
    with multiprocessing.Manager() as manager:
        proxy: queue.Queue[int] = manager.Queue()  # as typeshed has it
        assert_type(wrap(proxy), AsyncQueueProxy[int])
        assert_type(wrap(manager), AsyncManager)
        assert_type(wrap(manager.dict(a=1)), AsyncDictProxy[str, int])
        assert_type(wrap(manager.list([1])), AsyncListProxy[int])
        assert_type(wrap(manager.Array("i", [1])), AsyncArrayProxy[int])
        assert_type(wrap(manager.Value("i", 1)), AsyncValueProxy[int])
        assert_type(wrap(manager.Namespace()), AsyncNamespaceProxy)
        lock: threading.Lock = manager.Lock()
        assert_type(wrap(lock), AsyncLockProxy)
        assert_type(wrap(manager.RLock()), AsyncRLockProxy)
        assert_type(wrap(manager.Semaphore(2)), AsyncSemaphoreProxy)
        assert_type(wrap(manager.BoundedSemaphore(2)), AsyncSemaphoreProxy)
        assert_type(wrap(manager.Event()), AsyncEventProxy)
        assert_type(wrap(manager.Condition()), AsyncConditionProxy)
        assert_type(wrap(manager.Barrier(2)), AsyncBarrierProxy)


async def managers_make_awaitables(plain: BaseManager) -> None:
    assert_type(wrap(plain), AsyncManager)
    async with aioipc.Manager() as manager:
        assert_type(manager, AsyncManager)
        assert_type(await manager.dict(), AsyncDictProxy[Any, Any])
        assert_type(await manager.dict(a=1), AsyncDictProxy[str, int])
        assert_type(await manager.dict({1: "a"}), AsyncDictProxy[int, str])
        pairs: list[tuple[int, str]] = []
        assert_type(await manager.dict(pairs), AsyncDictProxy[int, str])
        assert_type(await manager.list(), AsyncListProxy[Any])
        assert_type(await manager.list([1]), AsyncListProxy[int])
        assert_type(await manager.Value("i", 1), AsyncValueProxy[int])
        assert_type(await manager.Array("i", [1]), AsyncArrayProxy[int])
        assert_type(await manager.Queue(), AsyncQueueProxy[Any])
        assert_type(await manager.RLock(), AsyncRLockProxy)
        async with await manager.Lock() as lock:
            assert_type(lock, AsyncLockProxy)
            assert_type(await lock.acquire(timeout=1), bool)


async def proxies_carry_their_type(
    table: AsyncDictProxy[str, int],
    row: AsyncListProxy[int],
    value: AsyncValueProxy[int],
    numbers: AsyncArrayProxy[float],
    items: AsyncIteratorProxy[str],
    condition: AsyncConditionProxy,
) -> None:
    assert_type(await table["a"], int)
    assert_type(await table.get("a"), int | None)
    assert_type(await table.get("a", "none"), int | str)
    assert_type(await table.pop("a"), int)
    assert_type(await table.items(), list[tuple[str, int]])
    assert_type([key async for key in table], list[str])
    await table.set("a", "b")  # pyright: ignore[reportArgumentType]
    assert_type(await row[0], int)
    assert_type(await row[1:], list[int])
    assert_type([item async for item in row], list[int])
    assert_type(await value.get(), int)
    assert_type(await numbers[0], float)
    assert_type([item async for item in items], list[str])
    assert_type(await condition.wait_for(lambda: 1), int)
