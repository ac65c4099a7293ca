"""What a reader gets: a table while it runs, and a file of every sample."""

from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from benchmarks import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from benchmarks.harness import Outcome, Verdict

HEADINGS = ("contestant", "beside", "ratio", "range", "target", "met")
Row = tuple[str, str, str, str, str, str]


def print_outcome(outcome: Outcome, console: Console) -> None:
    """One table for each case, as soon as it is done."""
    rounds, seconds = len(outcome.rounds), outcome.seconds
    table = Table(
        title=f"{outcome.case.name} ({rounds} rounds, {seconds:.0f} s)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if column < 2 else "right")
    for verdict in outcome.verdicts():
        table.add_row(*_row(verdict))
    console.print(table)
    for line in _notes(outcome):
        console.print(f"  {line}", markup=False, highlight=False)
    console.print()


def _notes(outcome: Outcome) -> Iterator[str]:
    yield f"median of each: {', '.join(_medians(outcome)) or 'nothing measured'}"
    yield f"other programs used {outcome.bystanders:.2f} CPUs"
    if outcome.absent:
        yield f"not installed: {', '.join(outcome.absent)}"
    for failure in outcome.failures:
        yield f"failed: {failure}"


def _row(verdict: Verdict) -> Row:
    claim = verdict.claim
    reference = claim.reference.name if claim.reference else "(as it is)"
    target = "" if claim.at_most is None else f"{claim.at_most:g}"
    met = {True: "yes", False: "NO", None: ""}[verdict.met]
    if verdict.failures:
        met = "FAILED"
    if not verdict.values:
        return claim.subject.name, reference, "no sample", "", target, met
    spread = f"{min(verdict.values):.2f}..{max(verdict.values):.2f}"
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
        "seconds": round(outcome.seconds, 1),
        "failures": outcome.failures,
        "absent": outcome.absent,
    }


def _claim(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "subject": claim.subject.name,
        "reference": claim.reference and claim.reference.name,
        "median": _short(verdict.median) if verdict.values else None,
        "at_most": claim.at_most,
        "met": verdict.met,
        "failures": verdict.failures,
        "values": [_short(value) for value in verdict.values],
    }


def _short(value: float) -> float:
    """Four digits: more would be noise, and noise makes long diffs."""
    return float(f"{value:.4g}")
