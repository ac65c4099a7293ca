"""Draws the results, once for light backgrounds and once for dark ones.

- `style`: colours, and how a picture becomes a file that is the same each time
- `rankings`: who takes how long: a row for each, a panel for each case
- `latency`: the median of single calls, and how far the slowest are from it
- `growth`: lines from 1,000 tasks to 1,000,000
- `bridge`: everyone who carries messages, relative to blocking calls
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import Results
from benchmarks.plots import bridge, growth, latency, rankings
from benchmarks.plots.style import THEMES, save

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = {
    "overview": rankings.overview,
    "arrays": rankings.arrays,
    "latency": latency.draw,
    "growth": growth.draw,
    "bridge": bridge.draw,
}


def draw_all(results: Path, directory: Path) -> None:
    """Write every picture, of what was measured."""
    directory.mkdir(parents=True, exist_ok=True)
    measured = Results.read(results)
    for name, draw in PICTURES.items():
        for theme in THEMES:
            save(draw, measured, theme, directory / f"{name}-{theme.name}.svg")
