"""How soon the result of a single call is there: the median, and the slowest in 100."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.calls import Latency, Trial
from benchmarks.contestants.aioipc import AIOIPC_POOL
from benchmarks.contestants.limits import ping_pong_percentiles
from benchmarks.contestants.roster import EVERYONE
from benchmarks.contestants.threads import THREADS
from benchmarks.harness import Case, Claim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Effort

PERCENTILES = {"p50": 0.50, "p99": 0.99}


def cases(effort: Effort) -> Iterator[Case]:
    """Both, of the same calls."""
    # A percentile of few calls is their worst: everyone makes at least 100.
    count = max(1_600, effort.of(4_000))
    ours, shares = AIOIPC_POOL["asyncio"], tuple(PERCENTILES.values())
    limit = ping_pong_percentiles(count, shares)
    yield Case(
        "latency of a call",
        Trial(Latency(count, shares)),
        (
            *(Claim(pool, limit) for pool in AIOIPC_POOL.values()),
            *(Claim(ours, other) for other in (*EVERYONE, THREADS)),
        ),
        parts=tuple(PERCENTILES),
    )
