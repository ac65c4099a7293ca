"""Everyone who carries messages, relative to blocking calls of `multiprocessing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.labels import MESSAGES
from benchmarks.plots.style import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.figures import Results
    from benchmarks.plots.style import Theme

ROW = 0.3
MARKS = {
    "aioipc on asyncio": ("aioipc on asyncio", "o", "ours"),
    "aioipc on trio": ("on trio", "^", "ours"),
    "asyncio.to_thread on asyncio": ("asyncio.to_thread", "s", "peers"),
    "aioprocessing on asyncio": ("aioprocessing", "v", "peers"),
    "pyzmq on asyncio": ("pyzmq", "P", "peers"),
    "faster-fifo on asyncio": ("faster-fifo, in a thread", "X", "peers"),
    "socketpair, no pickling": ("socket, no pickling", "D", "limit"),
}
"""Label, shape and colour of each."""


def draw(results: Results, theme: Theme) -> Figure:
    """A row for each case, a mark for each contestant."""
    cases = [it for it in MESSAGES if results.median(it, "blocking")]
    total = max(3, len(cases)) * ROW + 1.3
    drawn = figure(total)
    axes = drawn.add_axes((0.265, 0.36 / total, 0.715, (total - 1.3) / total))
    axes.set_title("Time relative to blocking calls", x=-0.356, pad=46)
    axes.set_ylim(max(3, len(cases)) - 0.4, -0.6)
    if not cases:
        axes.set_axis_off()
        return drawn
    _axis(axes)
    axes.axvline(1, color=theme.muted, linewidth=1.4)
    labels = [MESSAGES[it].replace("`", "") for it in cases]
    axes.set_yticks(range(len(cases)), labels)
    for name, (label, shape, colour) in MARKS.items():
        points = [
            (ratio, row)
            for row, case in enumerate(cases)
            if (ratio := results.ratio(case, name, "blocking"))
        ]
        axes.scatter(
            [x for x, _ in points],
            [y for _, y in points],
            marker=shape,
            s=62 if colour == "ours" else 40,
            facecolor="none" if colour == "limit" else getattr(theme, colour),
            edgecolor=getattr(theme, colour),
            linewidth=1.4 if colour == "limit" else 0.6,
            label=label,
            zorder=4 if colour == "ours" else 3,
        )
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.37, 1.0),
        ncols=4,
        fontsize=8.2,
        columnspacing=1.4,
        handletextpad=0.2,
        borderaxespad=0.2,
    )
    return drawn


def _axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.grid(axis="both", linewidth=0.6)
