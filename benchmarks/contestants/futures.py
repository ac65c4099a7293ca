"""Futures and callbacks of threads, made awaitable: how asyncio's users call pools."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import Calls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor


def awaiting(begin: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Make a coroutine function of one that returns a future."""

    async def run(*call: Any) -> Any:
        return await begin(*call)

    return run


def in_executor(executor: Executor) -> Calls:
    """Call an executor by `run_in_executor`."""
    begin = functools.partial(asyncio.get_running_loop().run_in_executor, executor)
    return Calls(awaiting(begin), begin)


def with_callbacks(apply_async: Callable[..., Any]) -> Calls:
    """Call a blocking pool by its `apply_async`, whose callbacks settle a future.

    No thread waits for a call, so this is the best that can be made of it.
    """
    loop = asyncio.get_running_loop()
    soon = loop.call_soon_threadsafe

    def begin(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        future = loop.create_future()
        apply_async(
            function,
            args,
            callback=lambda result: soon(future.set_result, result),
            error_callback=lambda error: soon(future.set_exception, error),
        )
        return future

    return Calls(awaiting(begin), begin)
