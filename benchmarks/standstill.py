"""The longest that an event loop stood still."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TICK = 0.001


@dataclass
class Watch:
    """What `longest_standstill` has seen.

    :ivar worst: seconds
    """

    worst: float = 0.0


@contextlib.asynccontextmanager
async def longest_standstill() -> AsyncIterator[Watch]:
    """Watch how late a task is that wakes up in every tick."""
    watch = Watch()

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await anyio.sleep(TICK)
            watch.worst = max(watch.worst, time.perf_counter() - due)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await anyio.sleep(10 * TICK)
        yield watch
        await anyio.sleep(10 * TICK)
        group.cancel_scope.cancel()
