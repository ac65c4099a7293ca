"""Queues, of one producer or two, towards one consumer or two: cases and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants.aioipc import AIOIPC
from benchmarks.contestants.aioprocessing import AIOPROCESSING
from benchmarks.contestants.faster_fifo import FASTER_FIFO, FASTER_FIFO_IN_THREAD
from benchmarks.contestants.limits import stream
from benchmarks.contestants.pyzmq import PYZMQ
from benchmarks.contestants.threads import ASYNCIO_TO_THREAD
from benchmarks.exchanges import FAN_IN, FAN_OUT, RECEIVE, SEND
from benchmarks.harness import Case, Claim
from benchmarks.media import QUEUE, SIMPLE_QUEUE
from benchmarks.messages import RECORD_SIZE, record
from benchmarks.trial import Timing
from benchmarks.versus import beside_blocking, each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Effort

EIGHT_TIMES_FASTER = 1 / 8


def queues(effort: Effort) -> Iterator[Case]:
    """Streams through queues."""
    count = effort.of(10_000)
    yield Case(
        "Queue, get from one producer",
        Timing(RECEIVE, QUEUE, record, count),
        (
            *beside_blocking(*[1.15] * 3),
            *each(AIOPROCESSING, EIGHT_TIMES_FASTER),
            *each(ASYNCIO_TO_THREAD),
            *_beside_others(),
            Claim(AIOIPC["asyncio"], stream(RECORD_SIZE, count)),
        ),
    )
    yield Case(
        "Queue, put towards one consumer",
        Timing(SEND, QUEUE, record, count),
        (
            *beside_blocking(),
            *each(AIOPROCESSING),
            *_beside_others(),
            Claim(AIOIPC["asyncio"], stream(RECORD_SIZE, count)),
        ),
    )
    for name, exchange in (
        ("get from two producers", FAN_IN),
        ("put towards two consumers", FAN_OUT),
    ):
        yield Case(
            f"Queue, {name}",
            Timing(exchange, QUEUE, record, count),
            (
                *beside_blocking(),
                Claim(AIOIPC["asyncio"], AIOPROCESSING["asyncio"]),
                Claim(AIOIPC["asyncio"], ASYNCIO_TO_THREAD["asyncio"]),
                *_beside_others(),
            ),
            most_rounds=7,
        )
    yield Case(
        "SimpleQueue, get from one producer",
        Timing(RECEIVE, SIMPLE_QUEUE, record, count),
        (*beside_blocking(), *each(AIOPROCESSING)),
    )
    yield Case(
        "SimpleQueue, put towards one consumer",
        Timing(SEND, SIMPLE_QUEUE, record, count),
        (*beside_blocking(), *each(AIOPROCESSING)),
    )


def _beside_others() -> Iterator[Claim]:
    """aioipc against queues that are not multiprocessing's."""
    ours = AIOIPC["asyncio"]
    for other in (FASTER_FIFO, FASTER_FIFO_IN_THREAD, PYZMQ["asyncio"]):
        yield Claim(ours, other)
