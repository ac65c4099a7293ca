"""Writes the figures of the README and the docs; ``--check`` only compares.

They stand between ``<!-- figures: NAME -->`` and ``<!-- /figures -->``, on lines of
their own or in the middle of one. Figures with a unit that stand elsewhere are told.
Tables that come from the code are written, too: see `from_code`.

A full run of the benchmarks does this by itself. Nothing but the standard library and
aioipc, so that the check runs wherever the tests do.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.blocks import BLOCKS
from benchmarks.figures import RESULTS, Results
from benchmarks.from_code import TABLES
from benchmarks.loose import loose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parent.parent
PLOTS = RESULTS / "plots"
BLOCK = re.compile(
    r"(?P<begin><!-- (?P<kind>figures|table): (?P<name>[^>]+) -->\n?).*?"
    r"(?P<end><!-- /(?P=kind) -->)",
    re.DOTALL,
)
PLOT = re.compile(r"[\w/.-]*results/plots/([\w-]+\.svg)")


def fill(
    text: str, writers: Mapping[str, Callable[[Results], str]], results: Results
) -> str:
    """Return a document with what each of its blocks should say.

    :raises KeyError: a block has a name that nobody writes
    """

    def write(block: re.Match[str]) -> str:
        written = writers[block["name"]](results)
        return f"{block['begin']}{written}{block['end']}"

    return BLOCK.sub(write, text)


def documents() -> list[Path]:
    """Where blocks may be."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def update(*, check: bool = False) -> list[str]:
    """Bring the documents in step with the results; return what was not."""
    results, wrong = Results.committed(), []
    for path in documents():
        text = path.read_text()
        wanted = fill(text, {**BLOCKS, **TABLES}, results)
        if wanted != text:
            wrong.append(f"{path.name}: its figures or tables are not up to date")
            if not check:
                path.write_text(wanted)
        wrong += (f"{path.name}: {name} is missing" for name in _missing_plots(text))
        wrong += (
            f"{path.name}: {figure!r} is typed, and in no block"
            for figure in loose(path.name, text)
        )
    return wrong


def _missing_plots(text: str) -> Iterator[str]:
    """Each plot is there for light and for dark backgrounds."""
    kinds = {name.rpartition("-")[0] for name in PLOT.findall(text)}
    for kind in sorted(kinds):
        for variant in (f"{kind}-light.svg", f"{kind}-dark.svg"):
            if not (PLOTS / variant).exists():
                yield variant


def main() -> int:
    is_check = "--check" in sys.argv
    for line in (wrong := update(check=is_check)):
        print(line)
    return int(bool(wrong) and is_check)


if __name__ == "__main__":
    sys.exit(main())
