"""What a type checker makes of the bridge. Checked by pyright, never run."""

# ruff: noqa: TC002, TC003 - as in a user's module, imports stand at the top

import multiprocessing
import queue
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseProxy
from multiprocessing.process import BaseProcess
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from typing import Any, assert_type

from anyio.abc import ObjectReceiveStream, ObjectSendStream, ObjectStream

import aioipc
from aioipc import (
    AsyncConnection,
    AsyncJoinableQueue,
    AsyncProcess,
    AsyncQueue,
    AsyncQueueProxy,
    AsyncSimpleQueue,
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
    assert_type(wrap(proxy), AsyncQueueProxy[Any])


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
