"""From 1,000 tasks to 1,000,000: does one cost more, and where do they all lie?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Case, Claim
from benchmarks.maps import OURS, STREAMS, Growth, Streamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Effort

COUNTS = (1_000, 10_000, 100_000, 1_000_000)


def cases(effort: Effort) -> Iterator[Case]:
    """Time and memory of streams of each length; a sketch has the shorter ones."""
    for count in COUNTS:
        in_sketch = count * effort.divisor <= max(COUNTS)
        yield Case(
            f"growth, {count:,} tasks, time for each",
            Growth(count, _time),
            tuple(Claim(OURS, other) for other in STREAMS),
            most_rounds=3,
            in_sketch=in_sketch,
        )
        yield Case(
            f"growth, {count:,} tasks, memory",
            Growth(count, _memory),
            tuple(Claim(each, None) for each in (OURS, *STREAMS)),
            unit="MB",
            most_rounds=2,
            in_sketch=in_sketch,
        )


def _time(streamed: Streamed) -> float:
    return streamed.for_each


def _memory(streamed: Streamed) -> float:
    return streamed.megabytes
