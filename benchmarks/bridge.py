"""The bridge beside plain blocking calls, and beside others: cases and targets.

A target is the most that a ratio of times may be: 0.2 is five times as fast. Where
there is none, the figure is only reported: small round trips that are left to the
scheduler depend on where it puts the two processes, so path lengths are compared with
both on one CPU.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.contestants.aioipc import AIOIPC
from benchmarks.contestants.aioprocessing import AIOPROCESSING
from benchmarks.contestants.limits import round_trips, stream
from benchmarks.contestants.pyzmq import PYZMQ
from benchmarks.contestants.threads import ANYIO_TO_THREAD, ASYNCIO_TO_THREAD
from benchmarks.exchanges import RECEIVE, ROUND_TRIP, SEND
from benchmarks.harness import Case, Claim
from benchmarks.media import ONE_WAY_PIPES, PIPE, QUEUE, SLOW_PIPE
from benchmarks.messages import MB, RECORD_SIZE, blob, record, small
from benchmarks.queues import queues
from benchmarks.trial import Lag, Timing
from benchmarks.versus import beside_blocking, each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Effort

FIVE_TIMES_FASTER = 1 / 5
MOST_LAG = 20.0


def cases(effort: Effort) -> Iterator[Case]:
    """Everything, in the order of the report."""
    yield from _round_trips(effort)
    yield from _sizes(effort)
    yield from _streams(effort)
    yield from queues(effort)
    yield from _lags(effort)


def _round_trips(effort: Effort) -> Iterator[Case]:
    count = effort.of(4000)
    yield Case(
        "pipe, round trip, small object, one CPU",
        Timing(ROUND_TRIP, PIPE, small, count, pinned=True),
        (
            *beside_blocking(asyncio=1.15, uvloop=1.0, trio=1.8),
            *_beside_threads(at_most=FIVE_TIMES_FASTER),
        ),
    )
    yield Case(
        "pipe, round trip, small object",
        Timing(ROUND_TRIP, PIPE, small, count),
        (*beside_blocking(asyncio=1.5, uvloop=1.5), *_beside_threads()),
    )
    payload = partial(blob, MB)
    yield Case(
        "pipe, round trip, 1 MB, one CPU",
        Timing(ROUND_TRIP, PIPE, payload, effort.of(100), pinned=True),
        beside_blocking(),
    )
    yield Case(
        "pipe, round trip, 1 MB",
        Timing(ROUND_TRIP, PIPE, payload, effort.of(100)),
        (
            *beside_blocking(asyncio=0.75, uvloop=0.75),
            *_beside_others(MB, effort.of(100)),
        ),
    )
    yield Case(
        "pipe, round trip, 64 MB",
        Timing(ROUND_TRIP, PIPE, partial(blob, 64 * MB), 2),
        (
            *beside_blocking(asyncio=0.9, uvloop=0.9, trio=0.9),
            *_beside_others(64 * MB, 2),
        ),
        most_rounds=7,
        in_sketch=False,
    )


def _sizes(effort: Effort) -> Iterator[Case]:
    """The other sizes, where what is left to the scheduler would hide the rest."""
    for label, size, payload, full in (
        ("1 int", 8, int, 4000),
        ("1 KB", 1 << 10, partial(blob, 1 << 10), 4000),
        ("64 KB", 1 << 16, partial(blob, 1 << 16), 1000),
    ):
        count = effort.of(full)
        yield Case(
            f"pipe, round trip, {label}, one CPU",
            Timing(ROUND_TRIP, PIPE, payload, count, pinned=True),
            (*beside_blocking(), *_beside_others(size, count)),
            most_rounds=7,
        )


def _streams(effort: Effort) -> Iterator[Case]:
    count = effort.of(15_000)
    limit = stream(RECORD_SIZE, count)
    for direction, exchange, target in (
        ("receiving", RECEIVE, 1.1),
        ("sending", SEND, 0.8),
    ):
        yield Case(
            f"one-way pipe, stream of records, {direction}",
            Timing(exchange, ONE_WAY_PIPES, record, count),
            beside_blocking(*[target] * 3),
        )
        yield Case(
            f"pipe, stream of records, {direction}",
            Timing(exchange, PIPE, record, count),
            (
                # On a socket pair the plain reader is the slower one, whoever sends.
                *beside_blocking(*[target if exchange is RECEIVE else None] * 3),
                *each(PYZMQ),
                *each(AIOPROCESSING),
                Claim(AIOIPC["asyncio"], limit),
            ),
        )
        yield Case(
            f"pipe, stream of records, {direction}, one CPU",
            Timing(exchange, PIPE, record, count, pinned=True),
            beside_blocking(),
        )


def _lags(effort: Effort) -> Iterator[Case]:
    huge = partial(blob, 200 * MB)
    for name, trial in (
        ("receiving 200 MB", Lag(RECEIVE, PIPE, huge)),
        ("sending 200 MB", Lag(SEND, PIPE, huge)),
        ("receiving 1 MB that takes 1 s", Lag(RECEIVE, SLOW_PIPE, partial(blob, MB))),
    ):
        claims = [Claim(ours, None, MOST_LAG) for ours in AIOIPC.values()]
        claims.append(Claim(ASYNCIO_TO_THREAD["asyncio"], None))
        yield Case(f"loop lag, {name}", trial, tuple(claims), unit="ms", most_rounds=5)
    # For as long as a stream goes on, the loop has to get its turns, too.
    for name, medium in (("pipe", PIPE), ("Queue", QUEUE)):
        for direction, exchange in (("receiving", RECEIVE), ("sending", SEND)):
            others = (AIOPROCESSING["asyncio"], PYZMQ["asyncio"])
            yield Case(
                f"loop lag, {name}, stream of records, {direction}",
                Lag(exchange, medium, record, effort.of(30_000)),
                tuple(Claim(it, None) for it in (*AIOIPC.values(), *others)),
                unit="ms",
                most_rounds=5,
            )


def _beside_threads(at_most: float | None = None) -> Iterator[Claim]:
    """aioipc against everyone who hands the blocking call to a thread."""
    for others in (ASYNCIO_TO_THREAD, ANYIO_TO_THREAD, AIOPROCESSING):
        yield from each(others, at_most)


def _beside_others(size: int, count: int) -> Iterator[Claim]:
    """aioipc against what else carries messages, and against what no pickle slows."""
    ours = AIOIPC["asyncio"]
    for other in (ASYNCIO_TO_THREAD, AIOPROCESSING, PYZMQ):
        yield Claim(ours, other["asyncio"])
    yield Claim(ours, round_trips(size, count))
