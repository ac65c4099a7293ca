"""What a type checker makes of locks and their like. Checked by pyright, never run."""

# ruff: noqa: TC003 - as in a user's module, imports stand at the top

import ctypes
import multiprocessing
from multiprocessing import synchronize
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from typing import Any, assert_type

import aioipc
from aioipc import (
    AsyncArray,
    AsyncBarrier,
    AsyncBoundedSemaphore,
    AsyncCondition,
    AsyncEvent,
    AsyncLock,
    AsyncRLock,
    AsyncSemaphore,
    AsyncValue,
    LockStatistics,
    wrap,
)


def wrap_gives_the_counterpart(
    barrier: synchronize.Barrier,
    value: "Synchronized[int]",
    array: "SynchronizedArray[float]",
) -> None:
    context = multiprocessing.get_context("spawn")
    assert_type(wrap(context.Lock()), AsyncLock)
    assert_type(wrap(context.RLock()), AsyncRLock)
    assert_type(wrap(context.Semaphore()), AsyncSemaphore)
    assert_type(wrap(context.BoundedSemaphore()), AsyncBoundedSemaphore)
    assert_type(wrap(context.Event()), AsyncEvent)
    assert_type(wrap(context.Condition()), AsyncCondition)
    assert_type(wrap(context.Barrier(2)), AsyncBarrier)
    assert_type(wrap(barrier), AsyncBarrier)
    assert_type(wrap(value), AsyncValue[int])
    assert_type(wrap(value).value, int)
    assert_type(wrap(array), AsyncArray[float])
    assert_type(wrap(array)[0], float)


async def factories_give_awaitables() -> None:
    context = multiprocessing.get_context("spawn")
    assert_type(aioipc.Lock(context=context), AsyncLock)
    assert_type(aioipc.RLock(), AsyncRLock)
    assert_type(aioipc.Semaphore(2), AsyncSemaphore)
    assert_type(aioipc.BoundedSemaphore(value=2), AsyncBoundedSemaphore)
    assert_type(aioipc.Event(), AsyncEvent)
    assert_type(aioipc.Condition(aioipc.Lock()), AsyncCondition)
    assert_type(aioipc.Barrier(2, print, 1.5), AsyncBarrier)
    assert_type(aioipc.Value(ctypes.c_int, 1), AsyncValue[int])
    assert_type(aioipc.Value("i", 1), AsyncValue[Any])
    assert_type(aioipc.Array(ctypes.c_double, 10), AsyncArray[float])
    assert_type(aioipc.Array("i", [1, 2], lock=aioipc.RLock()), AsyncArray[Any])
    aioipc.Lock(context)  # pyright: ignore[reportCallIssue]


async def methods(lock: AsyncLock, event: AsyncEvent, value: AsyncValue[int]) -> None:
    assert_type(await lock.acquire(timeout=2), bool)
    assert_type(lock.statistics(), LockStatistics)
    assert_type(await event.wait(1), bool)
    assert_type(event.is_set(), bool)
    condition = aioipc.Condition()
    async with lock, value, condition:
        value.value = 1
        value.value = "x"  # pyright: ignore[reportAttributeAccessIssue]
        assert_type(await condition.wait_for(lambda: "text"), str)
    async with aioipc.Barrier(2) as index:
        assert_type(index, int)
