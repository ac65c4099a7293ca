"""What a run of the demo found, as tables for a terminal or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from aioipc.cli._report import Run

# The JSON document has all failures, and each in full.
_MAX_FAILURES = 20
_MAX_PATH = 40


def as_tables(run: Run) -> Iterator[RenderableType]:
    """Lay the run out, from the details to the summary."""
    if run.parallel.most_complex:
        yield _most_complex(run)
    if run.parallel.failures:
        yield _failures(run)
    yield _totals(run)
    yield _timing(run)
    yield _verdict(run)


def counted(number: int, noun: str) -> str:
    """Give the number with its noun, which is plural but for one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shown(text: str) -> str:
    """Escape what a terminal can't show, or would obey."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def _most_complex(run: Run) -> Table:
    hotspots = run.parallel.most_complex
    functions = counted(run.parallel.functions, "function")
    table = _table(f"The {len(hotspots)} most complex of {functions}")
    table.add_column("complexity", justify="right", style="bold magenta")
    table.add_column("function", overflow="fold", style="bold")
    table.add_column("file:line", overflow="fold", style="cyan")
    for path, line, name, complexity in hotspots:
        place = f"{shown(run.relative(path))}:{line}"
        table.add_row(f"{complexity:,}", Text(name), Text(place))
    return table


def _failures(run: Run) -> Table:
    failures = run.parallel.failures
    rows = [
        (Text(shown(run.relative(path))), Text(shown(error)))
        for path, error in failures[:_MAX_FAILURES]
    ]
    table = _table(f"{counted(len(failures), 'file')} could not be measured")
    width = min(_MAX_PATH, max(path.cell_len for path, _ in rows))
    table.add_column("file", overflow="fold", style="cyan", width=width)
    table.add_column("why", style="yellow")
    for path, error in rows:
        error.no_wrap = True
        table.add_row(path, error)
    if len(failures) > len(rows):
        table.add_row(f"and {len(failures) - len(rows):,} more", "see --json")
    return table


def _totals(run: Run) -> Table:
    table = _table("Totals")
    for heading in ("files", "lines", "names", "functions", "complexity"):
        table.add_column(heading, justify="right", style="bold")
    # Once will do for both runs, if they agree.
    for it in [run.parallel] if run.totals_match else [run.serial, run.parallel]:
        counts = (it.files, it.lines, it.names, it.functions, it.complexity)
        table.add_row(*(f"{count:,}" for count in counts))
    return table


def _timing(run: Run) -> Table:
    table = _table("Time", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", style="bold green")
    table.add_column(style="dim")
    workers = f"{counted(run.workers, 'worker')} by {run.start_method}"
    cpus = counted(run.cpus, "usable CPU")
    standstill = f"{run.longest_standstill * 1e3:.1f} ms"
    for row in (
        ("serial", f"{run.serial_seconds:.2f} s", "a plain loop in one process"),
        (
            "parallel",
            f"{run.parallel_seconds:.2f} s",
            f"{workers}, start and end included",
        ),
        ("speed-up", f"{run.speed_up:.2f}x", f"on {cpus}"),
        ("event loop", standstill, f"is the longest that {run.loop} stood still"),
    ):
        table.add_row(*row)
    return table


def _verdict(run: Run) -> Text:
    if run.totals_match:
        return Text("The totals of both runs are equal.", style="bold green")
    return Text(
        "MISMATCH: the totals of the serial and the parallel run differ.",
        style="bold red",
    )


def _table(title: str, *, show_header: bool = True) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=show_header,
        header_style="dim",
    )
