"""Who takes how long: a row for each contestant, and a panel for each case.

Times are on a logarithmic axis, and so each row's distance from aioipc's line is a
ratio; it is written beside its dot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import NOT_MEASURED, seconds, short, times
from benchmarks.plots.style import figure, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.figures import Results
    from benchmarks.plots.style import Theme

OURS = "aioipc on asyncio"
ROW = 0.235
"""Inches."""


@dataclass(frozen=True)
class Panel:
    """A case.

    :param limits: what is no contestant but what the machine can do, and its label
    :param without: who has a place of its own elsewhere
    """

    case: str
    title: str
    limits: dict[str, str]
    without: tuple[str, ...] = ()


OVERVIEW = (
    Panel(
        "pool, 10,000 calls at once",
        "10,000 calls at once, time for each",
        {"asyncio's futures": "futures, no process"},
        ("asyncio's tasks", "asyncio.to_thread on asyncio"),
    ),
    Panel(
        "latency of a call, p50",
        "One call at a time, median",
        {"blocking ping-pong": "blocking Connection"},
        ("asyncio.to_thread on asyncio",),
    ),
    Panel(
        "array, 100 MB in and 100 MB out",
        "100 MB array to a worker, and 100 MB back",
        {"bare shared memory": "bare copies"},
    ),
    Panel(
        "Queue, get from one producer",
        "Queue.get, 100-byte records",
        {"socketpair, no pickling": "socket, no pickling", "blocking": "blocking get"},
    ),
)
ARRAYS = (
    Panel("array, 100 MB in", "100 MB in", {"memcpy": "memcpy"}),
    Panel("array, 100 MB out", "100 MB out", {"bare shared memory": "bare copies"}),
    Panel(
        "array, 100 MB in and 100 MB out",
        "100 MB in, and 100 MB out",
        {"bare shared memory": "bare copies"},
    ),
    Panel(
        "arrays, 1,000 of 1 MB in",
        "1,000 arrays of 1 MB in",
        {"1,000 copies": "bare copies"},
    ),
)


def overview(results: Results, theme: Theme) -> Figure:
    """The README's picture."""
    return _grid(results, theme, OVERVIEW)


def arrays(results: Results, theme: Theme) -> Figure:
    """Large arguments and results."""
    return _grid(results, theme, ARRAYS)


def _grid(results: Results, theme: Theme, panels: tuple[Panel, ...]) -> Figure:
    """Two panels in a row, each row as high as its longer panel needs."""
    rows = [[_ranked(results, it) for it in panels[n : n + 2]] for n in (0, 2)]
    heights = [max(3, *map(len, pair)) * ROW for pair in rows]
    total = sum(heights) + 1.9
    drawn = figure(total)
    top = total - 0.42
    for n, height in enumerate(heights):
        for column, ranked in enumerate(rows[n]):
            own = max(3, len(ranked)) * ROW
            axes = drawn.add_axes(
                (
                    0.185 + 0.505 * column,
                    (top - own) / total,
                    0.265,
                    own / total,
                )
            )
            _draw(axes, panels[2 * n + column], ranked, results, theme)
        top -= height + 0.9
    drawn.text(
        0.012,
        0.13 / total,
        "Further to the right is slower, each gridline by ten times; figures are "
        "relative to aioipc. Two workers, on asyncio; trio-parallel on trio.",
        color=theme.muted,
        fontsize=7.6,
    )
    return drawn


def _ranked(results: Results, panel: Panel) -> list[tuple[str, float]]:
    """Those in a panel, the quickest first; of aioipc one loop stands for all."""
    medians = {
        name: results.median(panel.case, name) or 0.0
        for name in results.contestants(panel.case)
        if name not in panel.without and not _is_another_loop(name)
    }
    return sorted(medians.items(), key=lambda it: it[1])


def _is_another_loop(name: str) -> bool:
    library, _, loop = name.partition(" on ")
    return loop == "uvloop" or (loop == "trio" and library != "trio-parallel")


def _draw(
    axes: Axes,
    panel: Panel,
    ranked: list[tuple[str, float]],
    results: Results,
    theme: Theme,
) -> None:
    axes.set_title(panel.title, x=-0.66)
    axes.set_ylim(max(3, len(ranked)) - 0.4, -0.6)
    ours = dict(ranked).get(OURS)
    if ours is None:
        axes.set_axis_off()
        axes.text(-0.66, 0.7, NOT_MEASURED, color=theme.muted, transform=axes.transAxes)
        return
    quickest, slowest = ranked[0][1], ranked[-1][1]
    span = slowest * 1.8 / quickest
    # On the left of whoever is quicker than aioipc there has to be room for a ratio.
    time_axis(
        axes, quickest / span ** (0.12 if quickest == ours else 0.3), slowest * 1.8
    )
    axes.axvline(ours, color=theme.ours, linewidth=1.2, alpha=0.55, zorder=1)
    axes.set_yticks(range(len(ranked)), [_label(panel, name) for name, _ in ranked])
    for row, (name, value) in enumerate(ranked):
        colour = _mark(axes, (value, row), ours, _role(name, panel), theme)
        weight = "bold" if name == OURS else "normal"
        ratio = results.ratio(panel.case, name, OURS)
        axes.get_yticklabels()[row].set(color=colour, fontweight=weight)
        axes.annotate(
            seconds(value) if name == OURS else times(ratio),
            (value, row),
            xytext=(-7 if value < ours else 7, 0),
            textcoords="offset points",
            ha="right" if value < ours else "left",
            va="center",
            color=colour,
            fontweight=weight,
            fontsize=8.4,
        )


def _role(name: str, panel: Panel) -> str:
    if name == OURS:
        return "ours"
    return "limit" if name in panel.limits else "peer"


def _label(panel: Panel, name: str) -> str:
    if name == "faster-fifo on asyncio":
        return "faster-fifo, in a thread"
    return panel.limits.get(name, short(name))


def _mark(
    axes: Axes, point: tuple[float, int], ours: float, role: str, theme: Theme
) -> str:
    """Draw a dot, and a peer's distance from aioipc; return the colour of its text."""
    value, row = point
    if role == "ours":
        axes.plot(value, row, "o", color=theme.ours, markersize=8.5, zorder=3)
        return theme.ours
    if role == "limit":
        axes.plot(
            value,
            row,
            "D",
            markerfacecolor="none",
            markeredgecolor=theme.limit,
            markersize=5.5,
            markeredgewidth=1.5,
            zorder=3,
        )
        return theme.limit
    axes.plot([ours, value], [row, row], color=theme.peers, linewidth=1.6, alpha=0.55)
    axes.plot(value, row, "o", color=theme.peers, markersize=6, zorder=3)
    return theme.text
