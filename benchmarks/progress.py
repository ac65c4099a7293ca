"""Where the run is: suite, case, round, and how long it will still take.

What remains is guessed from how long each case took in the results that are there, and
else from how many measurements it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import rich.progress
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from benchmarks.figures import Results

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import Task

    from benchmarks.harness import Case, Contestant

SECONDS_PER_TRIAL = 0.7


class _Remaining(rich.progress.ProgressColumn):
    """What remains, if it goes on as it went on average."""

    max_refresh = 0.5

    def render(self, task: Task) -> str:
        if not task.completed or task.elapsed is None:
            return "..."
        left = task.elapsed / task.completed * ((task.total or 0) - task.completed)
        return f"{left // 60:.0f}:{left % 60:02.0f} left"


class Progress:
    """A line below the tables, with a bar.

    :param rounds: by suite
    """

    def __init__(
        self, console: Console, chosen: dict[str, list[Case]], rounds: dict[str, int]
    ) -> None:
        self._rounds = rounds
        self._known = Results.committed()
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TimeElapsedColumn(),
            _Remaining(),
            console=console,
        )
        total = sum(
            self._trials(suite, case) * self._weight(case)
            for suite, cases in chosen.items()
            for case in cases
        )
        self._task = self._bar.add_task("", total=total)
        self._began = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, suite: str, case: Case) -> Callable[[int, Contestant], None]:
        """Go on to a case; what is returned is to be told of each measurement."""
        self._bar.update(self._task, completed=self._began)
        weight, rounds = self._weight(case), self._trials(suite, case)
        self._began += weight * rounds
        rounds //= max(1, len(case.contestants()))
        started = False

        def on_trial(number: int, _: Contestant) -> None:
            nonlocal started
            self._bar.update(
                self._task,
                description=f"{suite}, round {number + 1}/{rounds}: {case.name}"[:66],
                advance=weight if started else 0,
            )
            started = True

        return on_trial

    def _trials(self, suite: str, case: Case) -> int:
        return min(self._rounds[suite], case.most_rounds) * len(case.contestants())

    def _weight(self, case: Case) -> float:
        """Seconds of one measurement, as far as is known."""
        known = sum(map(self._known.seconds_per_trial, case.names()))
        return known or SECONDS_PER_TRIAL
