"""The bridge beside plain blocking calls, and beside threads: cases and targets.

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
from benchmarks.contestants.stdlib import BLOCKING
from benchmarks.contestants.threads import ANYIO_TO_THREAD, ASYNCIO_TO_THREAD
from benchmarks.exchanges import RECEIVE, ROUND_TRIP, SEND
from benchmarks.harness import Case, Claim
from benchmarks.media import ONE_WAY_PIPES, PIPE, QUEUE, SIMPLE_QUEUE, SLOW_PIPE
from benchmarks.trial import Lag, Timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contestants import LinkContestant

MB = 1 << 20
FIVE_TIMES_FASTER = 1 / 5
EIGHT_TIMES_FASTER = 1 / 8
MOST_LAG = 20.0


def small() -> object:
    return {"id": 1, "value": 2.5}


def record() -> object:
    """A dict whose pickle has about 100 bytes."""
    return {
        "id": 42,
        "job": "thumbnail",
        "path": "/srv/in/0042.png",
        "seconds": 0.125,
        "ok": True,
        "worker": 3,
    }


def blob(size: int) -> bytes:
    """Bytes in pages of their own; zeros would all be one page."""
    return b"\xa5" * size


def cases() -> Iterator[Case]:
    """Everything, in the order of the report."""
    yield from _round_trips()
    yield from _streams()
    yield from _queues()
    yield from _lags()


def _round_trips() -> Iterator[Case]:
    count = 4000
    yield Case(
        "pipe, round trip, small object, one CPU",
        Timing(ROUND_TRIP, PIPE, small, count, pinned=True),
        (
            *_beside_blocking(asyncio=1.15, uvloop=1.0, trio=1.8),
            *_beside_threads(at_most=FIVE_TIMES_FASTER),
        ),
    )
    yield Case(
        "pipe, round trip, small object",
        Timing(ROUND_TRIP, PIPE, small, count),
        (*_beside_blocking(asyncio=1.5, uvloop=1.5), *_beside_threads()),
    )
    payload = partial(blob, MB)
    yield Case(
        "pipe, round trip, 1 MB, one CPU",
        Timing(ROUND_TRIP, PIPE, payload, 100, pinned=True),
        _beside_blocking(),
    )
    yield Case(
        "pipe, round trip, 1 MB",
        Timing(ROUND_TRIP, PIPE, payload, 100),
        _beside_blocking(asyncio=0.75, uvloop=0.75),
    )
    yield Case(
        "pipe, round trip, 64 MB",
        Timing(ROUND_TRIP, PIPE, partial(blob, 64 * MB), 2),
        _beside_blocking(asyncio=0.9, uvloop=0.9, trio=0.9),
        most_rounds=7,
    )


def _streams() -> Iterator[Case]:
    count = 15_000
    for direction, exchange, target in (
        ("receiving", RECEIVE, 1.1),
        ("sending", SEND, 0.8),
    ):
        yield Case(
            f"one-way pipe, stream of records, {direction}",
            Timing(exchange, ONE_WAY_PIPES, record, count),
            _beside_blocking(*[target] * 3),
        )
        yield Case(
            f"pipe, stream of records, {direction}",
            Timing(exchange, PIPE, record, count),
            # On a socket pair the plain reader is the slower one, whoever sends.
            _beside_blocking(*[target if exchange is RECEIVE else None] * 3),
        )
        yield Case(
            f"pipe, stream of records, {direction}, one CPU",
            Timing(exchange, PIPE, record, count, pinned=True),
            _beside_blocking(),
        )


def _queues() -> Iterator[Case]:
    count = 10_000
    yield Case(
        "Queue, get from one producer",
        Timing(RECEIVE, QUEUE, record, count),
        (
            *_beside_blocking(*[1.15] * 3),
            *_each(AIOPROCESSING, EIGHT_TIMES_FASTER),
            *_each(ASYNCIO_TO_THREAD),
        ),
    )
    yield Case(
        "Queue, put towards one consumer",
        Timing(SEND, QUEUE, record, count),
        (*_beside_blocking(), *_each(AIOPROCESSING)),
    )
    yield Case(
        "SimpleQueue, get from one producer",
        Timing(RECEIVE, SIMPLE_QUEUE, record, count),
        (*_beside_blocking(), *_each(AIOPROCESSING)),
    )
    yield Case(
        "SimpleQueue, put towards one consumer",
        Timing(SEND, SIMPLE_QUEUE, record, count),
        (*_beside_blocking(), *_each(AIOPROCESSING)),
    )


def _lags() -> Iterator[Case]:
    huge = partial(blob, 200 * MB)
    for name, trial in (
        ("receiving 200 MB", Lag(RECEIVE, PIPE, huge)),
        ("sending 200 MB", Lag(SEND, PIPE, huge)),
        ("receiving 1 MB that takes 1 s", Lag(RECEIVE, SLOW_PIPE, partial(blob, MB))),
    ):
        claims = [Claim(ours, None, MOST_LAG) for ours in AIOIPC.values()]
        claims.append(Claim(ASYNCIO_TO_THREAD["asyncio"], None))
        yield Case(f"loop lag, {name}", trial, tuple(claims), unit="ms", most_rounds=5)


def _beside_blocking(
    asyncio: float | None = None,
    uvloop: float | None = None,
    trio: float | None = None,
) -> tuple[Claim, ...]:
    """aioipc against blocking calls, with a target for each loop."""
    targets = {"asyncio": asyncio, "uvloop": uvloop, "trio": trio}
    return tuple(Claim(AIOIPC[loop], BLOCKING, targets[loop]) for loop in targets)


def _beside_threads(at_most: float | None = None) -> Iterator[Claim]:
    """aioipc against everyone who hands the blocking call to a thread."""
    for others in (ASYNCIO_TO_THREAD, ANYIO_TO_THREAD, AIOPROCESSING):
        yield from _each(others, at_most)


def _each(
    others: dict[str, LinkContestant], at_most: float | None = None
) -> Iterator[Claim]:
    """aioipc against another library, on each loop that both run on."""
    for loop, other in others.items():
        yield Claim(AIOIPC[loop], other, at_most)
