"""What a run of the demo found, as numbers and as one JSON document."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioipc.cli._tally import Failure, Hotspot, Tally


@dataclass(frozen=True, slots=True)
class Run:
    """The same files measured twice: one after the other, and fanned out.

    Times are in seconds. The parallel one includes the start and the end of the
    workers; `longest_standstill` is of the event loop while they ran.
    """

    root: str
    cpus: int
    workers: int
    start_method: str
    loop: str
    serial: Tally
    serial_seconds: float
    parallel: Tally
    parallel_seconds: float
    longest_standstill: float

    @property
    def speed_up(self) -> float:
        """How many times faster the parallel run was."""
        return self.serial_seconds / self.parallel_seconds

    @property
    def totals_match(self) -> bool:
        """Whether both runs counted the same, to the last failure."""
        return self.serial == self.parallel

    def relative(self, path: str) -> str:
        """Shorten a path: how it goes on from `root`."""
        return os.path.relpath(path, self.root)


def as_json(run: Run) -> dict[str, Any]:
    """Make the run one JSON document, with paths relative to `root`."""
    totals = run.parallel

    def row(it: Hotspot | Failure) -> dict[str, Any]:
        return it._asdict() | {"path": run.relative(it.path)}

    return {
        "root": run.root,
        "files": totals.files,
        "lines": totals.lines,
        "names": totals.names,
        "functions": totals.functions,
        "complexity": totals.complexity,
        "most_complex": [row(hotspot) for hotspot in totals.most_complex],
        "failures": [row(failure) for failure in totals.failures],
        "cpus": run.cpus,
        "workers": run.workers,
        "start_method": run.start_method,
        "loop": run.loop,
        "serial_seconds": round(run.serial_seconds, 6),
        "parallel_seconds": round(run.parallel_seconds, 6),
        "speed_up": round(run.speed_up, 3) if totals.files else None,
        "longest_standstill_seconds": round(run.longest_standstill, 6),
        "totals_match": run.totals_match,
    }
