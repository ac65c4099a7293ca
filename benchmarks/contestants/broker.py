"""`aioipc.Broker`: its queues awaited here, and blocking in the peers.

A broker lives in a loop, which is there only after the peers have been forked. So they
are sent its queues when it is open, as any other process would be.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from aioipc import Broker
from benchmarks.contestants import LinkContestant
from benchmarks.contestants.aioipc import queues
from benchmarks.exchanges import LOT, Link
from benchmarks.isolation import fork
from benchmarks.loops import LOOPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST_PEERS = 4


@dataclass(frozen=True)
class _BrokerQueues:
    """A broker's queue each way. An end is where the peers find out about them.

    :param kind: the broker's method that makes one
    """

    kind: str = "Queue"
    maxsize: int = 0

    def ends(self) -> tuple[Any, Any]:
        notices = fork.SimpleQueue()
        return notices, notices

    def plain(self, end: Any) -> Link:
        return self.blocking(*end.get())

    @asynccontextmanager
    async def awaited(self, end: Any, _: LinkContestant) -> AsyncIterator[Link]:
        async with Broker() as broker:
            make = getattr(broker, self.kind)
            there, back = make(self.maxsize), make(self.maxsize)
            for _ in range(MOST_PEERS):
                end.put((back, there))
            yield self.awaiting(there, back)

    def close(self, end: Any) -> None:
        """Do nothing: both processes use the same."""

    def blocking(self, outgoing: Any, incoming: Any) -> Link:
        return Link(outgoing.put, incoming.get)

    awaiting = blocking


@dataclass(frozen=True)
class _InLots(_BrokerQueues):
    """A list of items in each call."""

    def blocking(self, outgoing: Any, incoming: Any) -> Link:
        return Link(outgoing.put_many, lambda: incoming.get_many(LOT))

    awaiting = blocking


@dataclass(frozen=True)
class _ByPriority(_BrokerQueues):
    """Items are numbered, and the smallest number is the next."""

    kind: str = "PriorityQueue"

    def blocking(self, outgoing: Any, incoming: Any) -> Link:
        numbers = count()
        return Link(
            lambda item: outgoing.put((next(numbers), item)), lambda: incoming.get()[1]
        )

    def awaiting(self, outgoing: Any, incoming: Any) -> Link:
        numbers = count()

        async def recv() -> Any:
            return (await incoming.get())[1]

        return Link(lambda item: outgoing.put((next(numbers), item)), recv)


def _on_each_loop(
    library: str, brings: _BrokerQueues, slowness: int = 1
) -> dict[str, LinkContestant]:
    return {
        loop: LinkContestant(library, loop, brings=brings, slowness=slowness)
        for loop in LOOPS
    }


BROKER = _on_each_loop("aioipc.Broker", _BrokerQueues())
BROKER_IN_LOTS = _on_each_loop("aioipc.Broker, many", _InLots())
BROKER_BOUNDED = _on_each_loop(
    "aioipc.Broker, room for 100", _BrokerQueues(maxsize=100), slowness=4
)
BROKER_BY_PRIORITY = _on_each_loop(
    "aioipc.Broker, by priority", _ByPriority(), slowness=4
)
BRIDGE = {loop: LinkContestant("aioipc.Queue", loop, queues=queues) for loop in LOOPS}
