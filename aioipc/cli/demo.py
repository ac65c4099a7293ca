"""`aioipc demo`: the main job, on real input, where anyone can watch it.

Every Python file of a directory is parsed and measured twice: in a plain loop in
this process, and by worker processes whose results an event loop awaits. The two
must agree, and the second should be faster, with a loop that never stands still.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from aioipc.cli import _progress
from aioipc.cli._compare import LOOPS, compare
from aioipc.cli._report import as_json
from aioipc.cli._tables import as_tables, counted, shown
from aioipc.pool.limits import usable_cpus

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_INSTALLED_APART = {"site-packages", "dist-packages"}


@click.command()
@click.option(
    "--path",
    "folder",
    metavar="DIR",
    default=sysconfig.get_path("stdlib"),
    show_default="this Python's standard library",
    help="Measure the .py files of this directory and of those below it.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=usable_cpus,
    show_default="one for each usable CPU",
    help="How many worker processes to start.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many of the most complex functions to show.",
)
@click.option(
    "--loop",
    type=click.Choice(list(LOOPS)),
    default="asyncio",
    show_default=True,
    help="The event loop that awaits the workers.",
)
@click.option("--plain", is_flag=True, help="No colours and no live bar, as in a pipe.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON document only.")
def demo(
    *, folder: str, workers: int, top: int, loop: str, plain: bool, to_json: bool
) -> None:
    """Measure a directory of Python files in worker processes.

    Each file is parsed, and the complexity of its functions (McCabe's), its lines
    and names are counted: first one by one in this process, then fanned out to
    workers through awaitable pipes. Shown are the most complex functions, the
    totals, what the workers saved, and the longest that the event loop stood still.

    Exits with 1 if the two runs differ, with 2 if DIR is no directory, and with 130
    after Ctrl-C.
    """
    _require_directory(folder)
    _require_loop(loop)
    root = str(Path(folder).absolute())
    paths = find_sources(root)
    console = _console(plain=plain)
    if not to_json:
        summary = f"{counted(len(paths), 'Python file')} under {shown(root)}"
        console.print(summary, markup=False, soft_wrap=True)
        if not paths:
            return
    with _progress_on(console, silent=to_json) as phase:
        run = compare(root, paths, workers=workers, top=top, loop=loop, phase=phase)
    if to_json:
        print(json.dumps(as_json(run), indent=2))
    else:
        console.print("", *as_tables(run), sep="\n")
    if not run.totals_match:
        sys.exit(1)


def find_sources(root: str) -> list[str]:
    """List the .py files under `root` in order, without packages installed apart."""
    found: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - _INSTALLED_APART)
        found += filter(_is_source, (Path(folder, name) for name in sorted(names)))
    return [str(path) for path in found]


def _is_source(path: Path) -> bool:
    # A broken link is a row in the report; a FIFO would block its reader for ever.
    return path.suffix == ".py" and (path.is_file() or not path.exists())


def _require_directory(folder: str) -> None:
    if not Path(folder).is_dir():
        raise _UsageError(f"not a directory: {shown(folder)}")


def _require_loop(loop: str) -> None:
    if loop != "asyncio" and importlib.util.find_spec(loop) is None:
        raise _UsageError(f"{loop} is not installed: pip install 'aioipc[{loop}]'")


def _console(*, plain: bool) -> Console:
    if plain or not sys.stdout.isatty():
        return Console(color_system=None, force_terminal=False, highlight=False)
    return Console(highlight=False)


def _progress_on(
    console: Console, *, silent: bool
) -> AbstractContextManager[_progress.Phase]:
    if silent:
        return _progress.silent()
    return _progress.live(console) if console.is_terminal else _progress.lines(console)


class _UsageError(click.ClickException):
    """Told in one line, without the usage that click would print above it."""

    exit_code = 2
