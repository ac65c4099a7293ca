"""One measurement of one contestant, from the fork of its peer to the number."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.isolation import fork
from benchmarks.loops import run_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contestants import LinkContestant
    from benchmarks.exchanges import Exchange
    from benchmarks.media import Medium

TICK = 0.001


@dataclass(frozen=True)
class Timing:
    """Seconds for each message of an exchange with a plain peer.

    :param payload: makes the message, in the process that is measured
    :param pinned: keep both processes on one CPU, so that waking the other one costs
        the same each time; else the kernel decides
    """

    exchange: Exchange
    medium: Medium
    payload: Callable[[], Any]
    count: int
    pinned: bool = False

    def __call__(self, contestant: LinkContestant) -> float:
        if self.pinned:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        message = self.payload()
        count = max(1, self.count // contestant.slowness)
        with _peer(self.exchange, self.medium, message) as ours:
            if contestant.loop is None:
                seconds = self._blocking(ours, message, count)
            else:
                seconds = run_on(
                    contestant.loop, self._awaiting, contestant, ours, message, count
                )
        return seconds / count

    def _blocking(self, ours: Any, message: Any, count: int) -> float:
        link = self.medium.plain(ours)
        self.exchange.blocking(link, message, _warm_up(count))
        started = time.perf_counter()
        self.exchange.blocking(link, message, count)
        seconds = time.perf_counter() - started
        link.send(None)
        return seconds

    async def _awaiting(
        self, contestant: LinkContestant, ours: Any, message: Any, count: int
    ) -> float:
        async with self.medium.awaited(ours, contestant) as link:
            await self.exchange.awaiting(link, message, _warm_up(count))
            started = time.perf_counter()
            await self.exchange.awaiting(link, message, count)
            seconds = time.perf_counter() - started
            await link.send(None)
        return seconds


def _warm_up(count: int) -> int:
    return max(1, count // 10)


@dataclass(frozen=True)
class Lag:
    """The longest that the loop stood still during one exchange, in milliseconds."""

    exchange: Exchange
    medium: Medium
    payload: Callable[[], Any]

    def __call__(self, contestant: LinkContestant) -> float:
        message = self.payload()
        with _peer(self.exchange, self.medium, message) as ours:
            return run_on(contestant.loop, self._watch, contestant, ours, message)

    async def _watch(
        self, contestant: LinkContestant, ours: Any, message: Any
    ) -> float:
        async with self.medium.awaited(ours, contestant) as link:
            async with anyio.create_task_group() as tasks:
                clock = _Clock()
                tasks.start_soon(clock.tick)
                await anyio.sleep(10 * TICK)
                kept = await self.exchange.awaiting(link, message, 1)
                clock.note()
                tasks.cancel_scope.cancel()
            await link.send(None)
        del kept  # until here, since to free it takes the loop's time but not ours
        return clock.worst * 1000


class _Clock:
    """Ticks on the loop, and remembers the latest of its ticks."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._due = time.perf_counter() + TICK

    async def tick(self) -> None:
        while True:
            self._due = time.perf_counter() + TICK
            await anyio.sleep(TICK)
            self.note()

    def note(self) -> None:
        self.worst = max(self.worst, time.perf_counter() - self._due)


@contextmanager
def _peer(exchange: Exchange, medium: Medium, message: Any) -> Iterator[Any]:
    """Start the plain peer of an exchange, and give our end of the link to it."""
    ours, theirs = medium.ends()
    process = fork.Process(
        target=_serve, args=(exchange, medium, ours, theirs, message)
    )
    process.start()
    medium.close(theirs)
    try:
        yield ours
    finally:
        process.join(1)
        process.kill()
        process.join()


def _serve(
    exchange: Exchange, medium: Medium, ours: Any, theirs: Any, message: Any
) -> None:
    medium.close(ours)
    with suppress(EOFError):  # the coordinator failed, and says so itself
        exchange.peer(medium.plain(theirs), message)
