"""Is fanning out worth it? The same files twice, in a plain loop and in workers.

The plain loop has no event loop beside it, and both runs find the files in the
cache. The time of the workers is from before the first is started until the last
has ended.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from aioipc.cli._ctrl_c import cancel_at, held_back
from aioipc.cli._fanout import START_METHOD, fan_out, worker_context
from aioipc.cli._measure import measure
from aioipc.cli._report import Run
from aioipc.cli._standstill import Standstill
from aioipc.cli._tables import counted
from aioipc.cli._tally import Tally
from aioipc.pool.limits import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioipc.cli._measure import FileReport
    from aioipc.cli._progress import Phase

    OnResult = Callable[[FileReport], None]

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def compare(
    root: str, paths: Sequence[str], *, workers: int, top: int, loop: str, phase: Phase
) -> Run:
    """Measure `paths` in both ways, each with a progress phase of its own.

    :raises KeyboardInterrupt: after a Ctrl-C, when no worker is left.
    """
    workers = min(workers, len(paths))
    _warm_cache(paths)

    serial = Tally(top)
    advance = phase("serial, one process", len(paths))
    serial_seconds = _in_a_plain_loop(paths, _into(serial, advance))

    parallel = Tally(top)
    advance = phase(f"parallel, {counted(workers, 'worker')}", len(paths))
    parallel_seconds, longest_standstill = _in_workers(
        paths, _into(parallel, advance), workers, loop
    )

    return Run(
        root=root,
        cpus=usable_cpus(),
        workers=workers,
        start_method=START_METHOD,
        loop=loop,
        serial=serial,
        serial_seconds=serial_seconds,
        parallel=parallel,
        parallel_seconds=parallel_seconds,
        longest_standstill=longest_standstill,
    )


def _warm_cache(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            Path(path).read_bytes()


def _in_a_plain_loop(paths: Sequence[str], on_result: OnResult) -> float:
    """Measure one file after the other, and return the seconds that it took."""
    started = perf_counter()
    for path in paths:
        on_result(measure(path))
    return perf_counter() - started


def _in_workers(
    paths: Sequence[str], on_result: OnResult, workers: int, loop: str
) -> tuple[float, float]:
    """Fan out, and return the seconds that it took and the longest standstill."""
    standstill = Standstill()

    async def work() -> None:
        async with standstill.watched():
            await fan_out(paths, workers, on_result, context=context)

    started = perf_counter()
    with held_back() as press:
        context = worker_context()
        anyio.run(cancel_at, press, work, **LOOPS[loop])
    return perf_counter() - started, standstill.longest


def _into(tally: Tally, advance: Callable[[], None]) -> OnResult:
    def on_result(report: FileReport) -> None:
        tally.add(report)
        advance()

    return on_result
