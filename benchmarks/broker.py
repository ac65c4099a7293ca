"""The Broker's queues beside those of multiprocessing: cases and targets.

The peers are worker processes, which block. A target is the most that a ratio of times
may be, see `bridge`. Where a queue has room for 100 items, or sorts them, the figure is
only reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.contestants.broker import (
    BRIDGE,
    BROKER,
    BROKER_BOUNDED,
    BROKER_BY_PRIORITY,
    BROKER_IN_LOTS,
)
from benchmarks.contestants.stdlib import BOUNDED_QUEUE, MANAGER, QUEUE
from benchmarks.exchanges import (
    RECEIVE,
    RECEIVE_LOTS,
    ROUND_TRIP,
    SEND,
    SEND_LOTS,
    fan_in,
    fan_out,
)
from benchmarks.harness import Case, Claim
from benchmarks.media import QUEUE as QUEUES
from benchmarks.messages import RECORD_SIZE, blob, record
from benchmarks.trial import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contestants import LinkContestant
    from benchmarks.effort import Effort
    from benchmarks.exchanges import Exchange

ONE_AND_A_HALF_TIMES_FASTER = 1 / 1.5
THREE_TIMES_FASTER = 1 / 3
TEN_TIMES_FASTER = 1 / 10
FASTER = 1.0
WORKERS = 4
COUNT = 60_000

item = partial(blob, RECORD_SIZE)


def cases(effort: Effort) -> Iterator[Case]:
    """Both directions, round trips, and several workers."""
    yield from _streams(effort)
    yield from _round_trips(effort)
    yield from _workers(effort)


@dataclass(frozen=True)
class _Stream:
    """The time of each item, for those who pass on one in a call, or many."""

    one: Exchange
    lots: Exchange
    payload: Callable[[], Any]
    count: int

    def __call__(self, contestant: Any) -> float:
        is_in_lots = contestant in BROKER_IN_LOTS.values()
        exchange = self.lots if is_in_lots else self.one
        return Timing(exchange, QUEUES, self.payload, self.count)(contestant)


def _streams(effort: Effort) -> Iterator[Case]:
    count = effort.of(COUNT)
    for direction, one, lots in (
        ("worker to coordinator", RECEIVE, RECEIVE_LOTS),
        ("coordinator to worker", SEND, SEND_LOTS),
    ):
        yield Case(
            f"broker, {direction}",
            _Stream(one, lots, item, count),
            (
                *_each(BROKER, QUEUE, ONE_AND_A_HALF_TIMES_FASTER),
                *_each(BROKER_IN_LOTS, QUEUE, THREE_TIMES_FASTER),
                *_each(BROKER, MANAGER, TEN_TIMES_FASTER),
                *_each(BRIDGE, QUEUE),
                Claim(BROKER_BOUNDED["asyncio"], BOUNDED_QUEUE),
                Claim(BROKER_BY_PRIORITY["asyncio"], QUEUE),
            ),
        )
        yield Case(
            f"broker, {direction}, records",
            _Stream(one, lots, record, count),
            (*_each(BROKER, QUEUE), *_each(BROKER_IN_LOTS, QUEUE)),
            in_sketch=False,
        )


def _round_trips(effort: Effort) -> Iterator[Case]:
    for label, payload in (("1 int", int), ("100 bytes", item)):
        yield Case(
            f"broker, round trip, {label}",
            Timing(ROUND_TRIP, QUEUES, payload, effort.of(4_000)),
            (
                *_each(BROKER, QUEUE, FASTER),
                *_each(BROKER, MANAGER, FASTER),
                Claim(BRIDGE["asyncio"], QUEUE),
            ),
        )


def _workers(effort: Effort) -> Iterator[Case]:
    for direction, exchange in (
        (f"{WORKERS} workers to coordinator", fan_in(WORKERS)),
        (f"coordinator to {WORKERS} workers", fan_out(WORKERS)),
    ):
        yield Case(
            f"broker, {direction}",
            Timing(exchange, QUEUES, item, effort.of(COUNT)),
            (*_each(BROKER, QUEUE), Claim(BRIDGE["asyncio"], QUEUE)),
        )


def _each(
    ours: dict[str, LinkContestant],
    other: LinkContestant,
    at_most: float | None = None,
) -> Iterator[Claim]:
    """aioipc on each loop against what blocks."""
    for contestant in ours.values():
        yield Claim(contestant, other, at_most)
