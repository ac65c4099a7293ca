"""The longest that an event loop stood still."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

# Short beside what a user would notice, long beside the cost of waking up for it.
_TICK = 0.002


@dataclass(slots=True)
class Standstill:
    """The `longest` time, in seconds, by which the loop was late for a timer."""

    longest: float = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Watch the running event loop while inside the block."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            yield
            tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        while True:
            due = perf_counter() + _TICK
            await anyio.sleep(_TICK)
            self.longest = max(self.longest, perf_counter() - due)
