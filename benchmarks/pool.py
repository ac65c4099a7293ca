"""The pool beside others whose calls are awaited: cases and targets.

Two workers each. Times are for each call, unless the unit says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.calls import (
    Computations,
    Gathered,
    InTasks,
    OfTheIdeal,
    OneByOne,
    Spins,
    Trial,
)
from benchmarks.contestants.aioipc import AIOIPC_POOL
from benchmarks.contestants.limits import futures, in_this_process, ping_pong, tasks
from benchmarks.contestants.roster import EVERYONE, EXECUTOR, OTHERS, PEERS
from benchmarks.contestants.threads import THREADS
from benchmarks.harness import Case, Claim
from benchmarks.lags import CallLag, StartLag
from benchmarks.life import FirstResult, IdleCPU
from benchmarks.maps import Map, MapMemory, mpire_map, stdlib_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Effort

ASYNCIO, UVLOOP, TRIO = (AIOIPC_POOL[it] for it in ("asyncio", "uvloop", "trio"))
AWAITED = [EXECUTOR, *PEERS]


def durations(count: int) -> list[float]:
    """So many tasks of 10 to 20 ms."""
    return [0.010 + 0.010 * (n * 37 % 200) / 200 for n in range(count)]


def mixed(count: int) -> list[float]:
    """So many tasks of 0.2 ms, with one of 200 ms in every 400."""
    return [0.2 if n % 400 == 200 else 0.0002 for n in range(count)]


def cases(effort: Effort) -> Iterator[Case]:
    """Everything, in the order of the report."""
    yield from _many_calls(effort)
    yield from _single_calls(effort)
    yield from _maps(effort)
    yield from _work(effort)
    yield from _life(effort)
    yield from _lags(effort)


def _many_calls(effort: Effort) -> Iterator[Case]:
    count = effort.of(10_000)
    yield Case(
        "pool, 10,000 calls at once",
        Trial(Gathered(count)),
        (
            Claim(ASYNCIO, futures(count), 2.0),
            Claim(ASYNCIO, tasks(count)),
            Claim(ASYNCIO, EXECUTOR, 1 / 25),
            *(Claim(ASYNCIO, peer, 1 / 6) for peer in PEERS),
            *(Claim(ASYNCIO, other) for other in (*OTHERS, THREADS)),
            *(Claim(UVLOOP, peer) for peer in AWAITED),
            Claim(TRIO, EXECUTOR),
        ),
    )
    yield Case(
        "pool, 10,000 calls at once, a task for each",
        Trial(InTasks(count)),
        (
            Claim(ASYNCIO, tasks(count), 2.0),
            *(Claim(ASYNCIO, peer) for peer in AWAITED),
            Claim(UVLOOP, tasks(count)),
        ),
    )


def _single_calls(effort: Effort) -> Iterator[Case]:
    count = effort.of(4_000)
    yield Case(
        "pool, one call at a time, one CPU",
        Trial(OneByOne(count), pinned=True),
        (
            Claim(UVLOOP, ping_pong(count), 1.0),
            Claim(ASYNCIO, ping_pong(count), 1.2),
            Claim(TRIO, ping_pong(count)),
            *(Claim(ASYNCIO, peer) for peer in AWAITED),
        ),
    )
    yield Case(
        "pool, one call at a time",
        Trial(OneByOne(count)),
        (
            *(Claim(ASYNCIO, peer, 0.5) for peer in AWAITED),
            *(Claim(UVLOOP, peer, 0.5) for peer in AWAITED),
            Claim(ASYNCIO, ping_pong(count)),
        ),
    )


def _maps(effort: Effort) -> Iterator[Case]:
    count = effort.of(1_000_000)
    limit = stdlib_map(count)
    yield Case(
        "pool, map of 1,000,000 cheap items",
        Map(count),
        (
            *(Claim(pool, limit, 1.2) for pool in AIOIPC_POOL.values()),
            Claim(ASYNCIO, mpire_map(count)),
        ),
    )
    yield Case(
        "pool, memory of such a map",
        MapMemory(count),
        (Claim(ASYNCIO, None, 10.0),),
        unit="MB",
        most_rounds=3,
    )


def _work(effort: Effort) -> Iterator[Case]:
    yield Case(
        "pool, 200 tasks of 10 to 20 ms",
        Trial(Spins(durations(effort.of(200)))),
        (
            *(Claim(ASYNCIO, peer, 1.03) for peer in AWAITED),
            *(Claim(ASYNCIO, other) for other in OTHERS),
        ),
        most_rounds=5,
    )
    yield Case(
        "pool, 4,000 short tasks among long ones, of the ideal time",
        Trial(OfTheIdeal(mixed(effort.of(4_000)))),
        (
            *(Claim(pool, None, 1.15) for pool in AIOIPC_POOL.values()),
            Claim(EXECUTOR, None),
        ),
        unit="x",
        most_rounds=5,
        in_sketch=False,  # with fewer tasks there are too few long ones
    )
    total, steps = effort.of(100), 150_000
    yield Case(
        "pool, 100 computations in pure Python",
        Trial(Computations(total, steps)),
        tuple(
            Claim(pool, in_this_process(total, steps))
            for pool in (*AIOIPC_POOL.values(), *EVERYONE, THREADS)
        ),
        most_rounds=3,
    )


def _life(effort: Effort) -> Iterator[Case]:
    for name, with_imports, target in (
        ("pool, first result", False, 1.0),
        ("pool, first result, from the program's start", True, None),
    ):
        yield Case(
            name,
            FirstResult(with_imports=with_imports),
            (
                Claim(ASYNCIO, EXECUTOR, target),
                *(Claim(pool, EXECUTOR) for pool in (UVLOOP, TRIO)),
                *(Claim(ASYNCIO, other) for other in (*PEERS, *OTHERS)),
            ),
            most_rounds=3,
            in_sketch=not with_imports,
        )
    yield Case(
        "pool, idle, CPU in each second",
        IdleCPU(seconds=3.0 if not effort.is_sketch else 0.5),
        tuple(Claim(pool, None) for pool in (*AIOIPC_POOL.values(), *EVERYONE)),
        unit="ms",
        most_rounds=1,
    )


def _lags(effort: Effort) -> Iterator[Case]:
    count = effort.of(10_000)
    yield Case(
        "loop lag, starting 8 workers",
        StartLag(),
        tuple(Claim(pool, None, 20.0) for pool in AIOIPC_POOL.values()),
        unit="ms",
        most_rounds=5,
    )
    yield Case(
        "loop lag, 10,000 calls at once",
        CallLag(Gathered(count)),
        (
            *(Claim(pool, None, 25.0) for pool in AIOIPC_POOL.values()),
            *(Claim(peer, None) for peer in AWAITED),
        ),
        unit="ms",
        most_rounds=5,
    )
    yield Case(
        "loop lag, 10,000 calls at once, a task for each",
        CallLag(InTasks(count)),
        (
            *(Claim(pool, None) for pool in AIOIPC_POOL.values()),
            Claim(ASYNCIO, tasks(count)),
        ),
        unit="ms",
        most_rounds=5,
    )
