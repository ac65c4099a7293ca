"""Colours for both backgrounds, and files that are the same each time.

The colours are Okabe and Ito's, which the colour-blind can tell apart; what they say is
also said by a shape. Text stays text: it is drawn by the fonts of who looks at it, but
laid out with one that every matplotlib has.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.figures import Results

FONTS = "text{font-family: system-ui, -apple-system, 'Segoe UI', Arial, sans-serif}"
WIDTH = 8.6
"""Inches: with 96 pixels each, about as wide as a README is."""


@dataclass(frozen=True)
class Theme:
    """The colours for a background, which itself is left transparent."""

    name: str
    text: str
    muted: str
    faint: str
    ours: str
    peers: str
    limit: str
    background: str


THEMES = (
    Theme(
        "light",
        text="#1f2328",
        muted="#59636e",
        faint="#d1d9e0",
        ours="#0072b2",
        peers="#818b98",
        limit="#d55e00",
        background="#ffffff",
    ),
    Theme(
        "dark",
        text="#f0f6fc",
        muted="#9198a1",
        faint="#3d444d",
        ours="#56b4e9",
        peers="#818b98",
        limit="#e69f00",
        background="#0d1117",
    ),
)

SETTINGS = {
    "svg.hashsalt": "aioipc",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "axes.axisbelow": True,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.labelsize": 8.0,
    "legend.frameon": False,
    "savefig.transparent": True,
}


def colours(theme: Theme) -> dict[str, str]:
    return {
        "text.color": theme.text,
        "axes.titlecolor": theme.text,
        "axes.labelcolor": theme.muted,
        "xtick.color": theme.muted,
        "ytick.color": theme.text,
        "grid.color": theme.faint,
    }


def save(
    draw: Callable[[Results, Theme], Figure], results: Results, theme: Theme, path: Path
) -> None:
    """Draw a picture in a theme, and write it without date, as short as it can be."""
    with mpl.rc_context({**SETTINGS, **colours(theme)}):
        figure = draw(results, theme)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(tidy(written.getvalue()))


def tidy(svg: str) -> str:
    """Name the fonts once, and drop what nobody sees."""
    for pattern, instead in (
        (r" font-family: [^;\"]*;", ""),
        (r"(?=</style>)", FONTS),
        (r" transform=\"rotate\(-?0 [^\"]*\"", ""),
        (r"(\d+\.\d\d)\d+", r"\1"),
        (r"(?s)\s*<!--.*?-->", ""),
        (r"(?s)\s*<metadata>.*?</metadata>", ""),
        (r"\s*<g id=\"\w+\"/>", ""),
    ):
        svg = re.sub(pattern, instead, svg)
    return "".join(f"{line.strip()}\n" for line in svg.splitlines())


def figure(height: float) -> Figure:
    """A picture as wide as a README."""
    return Figure(figsize=(WIDTH, height))


def time_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of times, with a little room at both ends."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_time(value)))
    axes.grid(axis="x", linewidth=0.6)


def short_time(value: float) -> str:
    """A power of ten, in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size * 0.999:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"
