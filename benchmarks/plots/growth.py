"""From 1,000 tasks to 1,000,000: time for each, and memory of the coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.figures import seconds
from benchmarks.labels import COUNTS
from benchmarks.plots.style import figure, short_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.figures import Results
    from benchmarks.plots.style import Theme

LABELS = {
    "aioipc": "aioipc",
    "multiprocessing.Pool.imap": "Pool.imap",
    "ProcessPoolExecutor.map": "Executor.map",
    "mpire's imap": "mpire",
}
MARKERS = {"aioipc": "o", "multiprocessing.Pool.imap": "s"}
MARKERS |= {"ProcessPoolExecutor.map": "^", "mpire's imap": "D"}
LEAST_MB = 0.1
"""Growth below this is drawn as this: it is within a few pages of nothing."""


def draw(results: Results, theme: Theme) -> Figure:
    """Both on logarithmic axes."""
    height = 3.1
    drawn = figure(height)
    for column, (title, what, write) in enumerate(
        (
            ("Time for each task of a map", "time for each", seconds),
            ("Memory by which the coordinator grows", "memory", _megabytes),
        )
    ):
        axes = drawn.add_axes((0.075 + 0.51 * column, 0.13, 0.255, 0.71))
        axes.set_title(title, x=-0.24)
        lines = {name: _line(results, what, name) for name in LABELS}
        _draw(axes, lines, write, theme)
    return drawn


def _line(results: Results, what: str, name: str) -> list[tuple[int, float]]:
    medians = (
        (
            int(count.replace(",", "")),
            results.median(f"growth, {count} tasks, {what}", name),
        )
        for count in COUNTS
    )
    least = LEAST_MB if what == "memory" else 0.0
    return [(count, max(it, least)) for count, it in medians if it is not None]


def _draw(
    axes: Axes,
    lines: dict[str, list[tuple[int, float]]],
    write: Callable[[float], str],
    theme: Theme,
) -> None:
    axes.set(xscale="log", yscale="log", xlim=(800, 1_250_000))
    tick = short_time if write is seconds else write
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    axes.tick_params(axis="y", labelsize=8, labelcolor=theme.muted)
    axes.grid(linewidth=0.6)
    ends = {}
    for name, line in lines.items():
        if not line:
            continue
        colour = theme.ours if name == "aioipc" else theme.peers
        axes.plot(
            *zip(*line, strict=True),
            color=colour,
            marker=MARKERS[name],
            markersize=5.5,
            linewidth=2.4 if name == "aioipc" else 1.5,
            zorder=3 if name == "aioipc" else 2,
        )
        ends[name] = line[-1]
    _label_ends(axes, ends, write, theme)


def _label_ends(
    axes: Axes,
    ends: dict[str, tuple[int, float]],
    write: Callable[[float], str],
    theme: Theme,
) -> None:
    """Names beside the last points, moved apart where those are close together."""
    height = axes.get_window_extent().height * 72 / axes.get_figure().dpi
    taken = -1e9
    for name, end in sorted(ends.items(), key=lambda it: it[1][1]):
        low, high = axes.transData.transform([(1, axes.get_ylim()[0]), end])[:, 1]
        points = (high - low) * 72 / axes.get_figure().dpi
        placed = min(max(points, taken + 12), height)
        taken = placed
        is_ours = name == "aioipc"
        axes.annotate(
            f"{LABELS[name]} {write(end[1])}",
            end,
            xytext=(9, placed - points),
            textcoords="offset points",
            va="center",
            fontsize=8.4,
            color=theme.ours if is_ours else theme.text,
            fontweight="bold" if is_ours else "normal",
        )


def _count(value: float) -> str:
    return "1 million" if value >= 1e6 else f"{value:,.0f}"


def _megabytes(value: float) -> str:
    return f"{value:.2g} MB" if value < 100 else f"{value:,.0f} MB"
