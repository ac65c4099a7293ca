"""What the reports of many files add up to, in whatever order they arrive."""

from __future__ import annotations

import bisect
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioipc.cli._measure import FileReport


class Hotspot(NamedTuple):
    """A function, and where it stands."""

    path: str
    line: int
    name: str
    complexity: int


class Failure(NamedTuple):
    """A file that could not be measured, and why."""

    path: str
    error: str


@dataclass(slots=True)
class Tally:
    """The totals of all reports added so far.

    Two tallies of the same reports are equal, whatever the order of arrival.
    `most_complex` keeps the `top` most complex functions, the worst first; what
    could not be measured is in `failures`, by path, and counts as a file only.
    """

    top: int = 10
    files: int = 0
    lines: int = 0
    names: int = 0
    functions: int = 0
    complexity: int = 0
    most_complex: list[Hotspot] = field(default_factory=list[Hotspot])
    failures: list[Failure] = field(default_factory=list[Failure])

    def add(self, report: FileReport) -> None:
        """Count one file."""
        self.files += 1
        if report.error is not None:
            bisect.insort(self.failures, Failure(report.path, report.error))
            return
        self.lines += report.lines
        self.names += report.names
        self.functions += len(report.functions)
        self.complexity += sum(function.complexity for function in report.functions)
        self.most_complex = self._worst([*self.most_complex, *_hotspots(report)])

    def _worst(self, hotspots: list[Hotspot]) -> list[Hotspot]:
        return heapq.nsmallest(
            self.top, hotspots, key=lambda it: (-it.complexity, it.path, it.line)
        )


def _hotspots(report: FileReport) -> Iterable[Hotspot]:
    for function in report.functions:
        yield Hotspot(report.path, function.line, function.name, function.complexity)
