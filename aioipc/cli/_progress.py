"""How the demo shows that it is getting on: live bars, lines for a log, or nothing.

Each manner is a context manager, which yields a `Phase`: call it with a label and a
number of files when a phase begins, and call what it returns after each file.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

Phase = Callable[[str, int], Callable[[], None]]


@contextmanager
def live(console: Console) -> Generator[Phase]:
    """Draw one bar for each phase, redrawn ten times a second by a thread.

    The bars leave room at the right: what a terminal echoes there, as ^C, would
    otherwise wrap and be taken for a line of theirs.
    """
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}", justify="right"),
        TimeElapsedColumn(),
        console=console,
    )

    def phase(label: str, total: int) -> Callable[[], None]:
        bar = progress.add_task(label, total=total)
        return lambda: progress.advance(bar)

    with progress:
        yield phase


@contextmanager
def lines(console: Console) -> Generator[Phase]:
    """Print one line for each phase."""

    def phase(label: str, total: int) -> Callable[[], None]:
        console.print(f"{label}: {total:,} files")
        return _nothing

    yield phase


@contextmanager
def silent() -> Generator[Phase]:
    """Show nothing."""
    yield lambda _label, _total: _nothing


def _nothing() -> None:
    pass
