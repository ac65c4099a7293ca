"""What a reader gets: a table while it runs, and a file of every sample."""

from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks import machine

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ImportError:
    Table = None

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.harness import Outcome, Verdict

HEADINGS = ("contestant", "beside", "ratio", "range", "target", "met")
WIDTH = 100

Row = tuple[str, str, str, str, str, str]


def print_outcome(outcome: Outcome) -> None:
    """One table for each case, as soon as it is done."""
    rows = [_row(verdict) for verdict in outcome.verdicts()]
    title = f"{outcome.case.name} ({len(outcome.rounds)} rounds)"
    if Table is None:
        _print_plain(title, rows)
    else:
        _print_rich(title, rows)
    print("  median of each:", ", ".join(_medians(outcome)) or "nothing measured")
    print(f"  other programs used {outcome.bystanders:.2f} CPUs")
    for failure in outcome.failures:
        print(f"  failed: {failure}")
    print(flush=True)


def _print_rich(title: str, rows: list[Row]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if column < 2 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=WIDTH, soft_wrap=False).print(table)


def _print_plain(title: str, rows: list[Row]) -> None:
    print(title)
    for row in (HEADINGS, *rows):
        print("  {:<18} {:<28} {:>7} {:>13} {:>6} {:>3}".format(*row))


def _row(verdict: Verdict) -> Row:
    claim = verdict.claim
    reference = claim.reference.name if claim.reference else "(milliseconds)"
    target = "" if claim.at_most is None else f"{claim.at_most:g}"
    if not verdict.values:
        return claim.subject.name, reference, "no sample", "", target, ""
    spread = f"{min(verdict.values):.2f}..{max(verdict.values):.2f}"
    met = {True: "yes", False: "NO", None: ""}[verdict.met]
    return (
        claim.subject.name,
        reference,
        f"{verdict.median:.2f}",
        spread,
        target,
        met,
    )


def _medians(outcome: Outcome) -> Iterator[str]:
    """What a ratio hides: the absolute figures of this machine, today."""
    for contestant in outcome.case.contestants():
        name = contestant.name
        samples = [measured[name] for measured in outcome.rounds if name in measured]
        if samples:
            yield f"{name} {_quantity(statistics.median(samples), outcome.case.unit)}"


def _quantity(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.1f} {unit}"
    return f"{value * 1e3:.1f} ms" if value > 1e-3 else f"{value * 1e6:.1f} us"


def save(outcomes: list[Outcome], path: Path) -> None:
    """Write every sample and verdict, and where they were measured."""
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "cases": [_case(outcome) for outcome in outcomes],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _case(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.case.name,
        "unit": outcome.case.unit,
        "samples": [
            {name: _short(sample) for name, sample in measured.items()}
            for measured in outcome.rounds
        ],
        "claims": [_claim(verdict) for verdict in outcome.verdicts()],
        "bystanders": round(outcome.bystanders, 2),
        "failures": outcome.failures,
    }


def _claim(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "subject": claim.subject.name,
        "reference": claim.reference and claim.reference.name,
        "median": _short(verdict.median) if verdict.values else None,
        "at_most": claim.at_most,
        "met": verdict.met,
        "values": [_short(value) for value in verdict.values],
    }


def _short(value: float) -> float:
    """Four digits: more would be noise, and noise makes long diffs."""
    return float(f"{value:.4g}")
