"""One measurement of one contestant, from the fork of its peer to the number."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import Reference
from benchmarks.isolation import fork
from benchmarks.loops import run_on
from benchmarks.standstill import longest_standstill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from benchmarks.contestants import LinkContestant
    from benchmarks.exchanges import Exchange, Link
    from benchmarks.media import Medium


@dataclass(frozen=True)
class Timing:
    """Seconds for each message of an exchange with plain peers.

    :param payload: makes the message, in the process that is measured
    :param pinned: keep both processes on one CPU, so that waking the other one costs
        the same each time; else the kernel decides
    """

    exchange: Exchange
    medium: Medium
    payload: Callable[[], Any]
    count: int
    pinned: bool = False

    def __call__(self, contestant: Any) -> float:
        if self.pinned:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        if isinstance(contestant, Reference):
            return contestant.measure()
        message = self.payload()
        medium = contestant.brings or self.medium
        count = max(self.exchange.peers, self.count // contestant.slowness)
        with _peers(self.exchange, medium, message) as ours:
            if contestant.loop is None:
                seconds = self._blocking(medium.plain(ours), message, count)
            else:
                seconds = run_on(
                    contestant.loop,
                    self._awaiting,
                    lambda: medium.awaited(ours, contestant),
                    message,
                    count,
                )
        return seconds / count

    def _blocking(self, link: Link, message: Any, count: int) -> float:
        self.exchange.blocking(link, message, self._warm_up(count))
        started = time.perf_counter()
        self.exchange.blocking(link, message, count)
        seconds = time.perf_counter() - started
        for _ in range(self.exchange.peers):
            link.send(self.exchange.last)
        return seconds

    async def _awaiting(
        self,
        opened: Callable[[], AbstractAsyncContextManager[Link]],
        message: Any,
        count: int,
    ) -> float:
        async with opened() as link:
            await self.exchange.awaiting(link, message, self._warm_up(count))
            started = time.perf_counter()
            await self.exchange.awaiting(link, message, count)
            seconds = time.perf_counter() - started
            for _ in range(self.exchange.peers):
                await link.send(self.exchange.last)
        return seconds

    def _warm_up(self, count: int) -> int:
        return max(self.exchange.peers, count // 10)


@dataclass(frozen=True)
class Lag:
    """The longest that the loop stood still during an exchange, in milliseconds."""

    exchange: Exchange
    medium: Medium
    payload: Callable[[], Any]
    count: int = 1

    def __call__(self, contestant: LinkContestant) -> float:
        message = self.payload()
        medium = contestant.brings or self.medium
        with _peers(self.exchange, medium, message) as ours:
            return run_on(
                contestant.loop,
                self._watch,
                lambda: medium.awaited(ours, contestant),
                message,
            )

    async def _watch(
        self, opened: Callable[[], AbstractAsyncContextManager[Link]], message: Any
    ) -> float:
        async with opened() as link:
            async with longest_standstill() as watch:
                kept = await self.exchange.awaiting(link, message, self.count)
            await link.send(self.exchange.last)
        del kept  # until here, since to free it takes the loop's time but not ours
        return watch.worst * 1000


@contextmanager
def _peers(exchange: Exchange, medium: Medium, message: Any) -> Iterator[Any]:
    """Start the plain peers of an exchange, and give our end of the link to it."""
    ours, theirs = medium.ends()
    args = (exchange, medium, ours, theirs, message)
    processes = [fork.Process(target=_serve, args=args) for _ in range(exchange.peers)]
    for process in processes:
        process.start()
    medium.close(theirs)
    try:
        yield ours
    finally:
        for process in processes:
            process.join(1)
            process.kill()
            process.join()


def _serve(
    exchange: Exchange, medium: Medium, ours: Any, theirs: Any, message: Any
) -> None:
    medium.close(ours)
    # Should the coordinator fail, it says so itself.
    with suppress(EOFError, BrokenPipeError):
        exchange.peer(medium.plain(theirs), message)
