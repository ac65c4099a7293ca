"""Single figures, for the middle of a sentence: what each says, by its name.

They are written like blocks (see `documents`), without a line of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import NOT_MEASURED, digits, seconds
from benchmarks.labels import OURS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Results

    Writer = Callable[[Results], str]

EXECUTOR = "ProcessPoolExecutor on asyncio"
CALL = "latency of a call, p50"
ROUND_TRIP = "pipe, round trip, small object"
ARRAYS = "array, 100 MB in and 100 MB out"
AT_ONCE = "loop lag, 10,000 calls at once"
DICTS = "loop lag, 200 MB list of dicts there and back"


def _time(case: str, who: str = OURS, unit: float = 1.0, count: int = 1) -> Writer:
    """A median, of a case whose samples are so many seconds."""

    def write(results: Results) -> str:
        value = results.median(case, who)
        return NOT_MEASURED if value is None else seconds(value * unit / count)

    return write


def _times(case: str, subject: str, reference: str) -> Writer:
    def write(results: Results) -> str:
        ratio = results.ratio(case, subject, reference)
        return NOT_MEASURED if ratio is None else f"{digits(ratio)} times"

    return write


PHRASES: dict[str, Writer] = {
    "call": _time(CALL),
    "blocking call": _time(CALL, "blocking ping-pong"),
    "round trip": _time(ROUND_TRIP),
    "blocking round trip": _time(ROUND_TRIP, "blocking"),
    "1 MB beside blocking": _times("pipe, round trip, 1 MB", OURS, "blocking"),
    "first result": _time("pool, first result"),
    "beginning a call": _time(AT_ONCE, unit=1e-3, count=10_000),
    "standstill of dicts": _time(DICTS, unit=1e-3),
    "arrays beside bare copies": _times(ARRAYS, OURS, "bare shared memory"),
    "executor beside bare copies": _times(ARRAYS, EXECUTOR, "bare shared memory"),
}
