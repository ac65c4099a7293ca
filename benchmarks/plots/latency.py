"""The median of single calls, and how far the slowest in a hundred are from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import seconds, short
from benchmarks.plots.style import figure, time_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.figures import Results
    from benchmarks.plots.style import Theme

P50, P99 = "latency of a call, p50", "latency of a call, p99"
LIMIT = "blocking ping-pong"
ROW = 0.27


def draw(results: Results, theme: Theme) -> Figure:
    """From the median, a dot, to the 99th percentile, a bar."""
    rows = _rows(results)
    total = max(3, len(rows)) * ROW + 1.15
    drawn = figure(total)
    axes = drawn.add_axes((0.25, 0.6 / total, 0.68, (total - 1.15) / total))
    axes.set_title("One call at a time: median, and 99th percentile", x=-0.345)
    axes.set_ylim(max(3, len(rows)) - 0.4, -0.6)
    if not rows:
        axes.set_axis_off()
        return drawn
    time_axis(axes, rows[0][1] / 1.5, max(p99 for _, _, p99 in rows) * 4)
    axes.set_yticks(range(len(rows)), [_label(name) for name, *_ in rows])
    for row, (name, p50, p99) in enumerate(rows):
        colour = _colour(name, theme)
        weight = "bold" if name.startswith("aioipc") else "normal"
        axes.plot([p50, p99], [row, row], color=colour, linewidth=2, alpha=0.6)
        axes.plot(p50, row, "o", color=colour, markersize=7, zorder=3)
        axes.plot(p99, row, "|", color=colour, markersize=10, markeredgewidth=2)
        axes.annotate(
            f"{seconds(p50)} … {seconds(p99)}",
            (p99, row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.4,
            color=theme.text if colour == theme.peers else colour,
            fontweight=weight,
        )
        label = axes.get_yticklabels()[row]
        label.set(
            color=theme.text if colour == theme.peers else colour, fontweight=weight
        )
    return drawn


def _rows(results: Results) -> list[tuple[str, float, float]]:
    """Whoever has both, the quickest first."""
    both = (
        (name, results.median(P50, name), results.median(P99, name))
        for name in results.contestants(P50)
    )
    rows = [(name, p50, p99) for name, p50, p99 in both if p50 and p99]
    return sorted(rows, key=lambda it: it[1])


def _label(name: str) -> str:
    if name == LIMIT:
        return "blocking Connection"
    return name if name.startswith("aioipc") else short(name)


def _colour(name: str, theme: Theme) -> str:
    if name == LIMIT:
        return theme.limit
    return theme.ours if name.startswith("aioipc") else theme.peers
