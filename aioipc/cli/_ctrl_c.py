"""Ctrl-C as an event to await, the same on every event loop.

By default it is an exception between any two instructions: in an import, in a loop that
is being set up or closed, in whatever task of trio's is running. asyncio makes a cancel
of the first one, and an exception in the middle of the tidying up of the second.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator


@contextmanager
def held_back() -> Generator[Callable[[], Awaitable[None]]]:
    """Let a Ctrl-C raise nothing in the block, but be awaited by what is yielded.

    :raises KeyboardInterrupt: on leaving the block, if there was one
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        if not pressed:
            pressed = True
            os.write(writer, b"!")

    async def press() -> None:
        await anyio.wait_readable(reader)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield press
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(reader)
        os.close(writer)
    if pressed:
        raise KeyboardInterrupt


async def cancel_at(
    press: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[None]]
) -> None:
    """Run `work`, or cancel it when `press` returns."""
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            await press()
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel)
        await work()
        tasks.cancel_scope.cancel()
