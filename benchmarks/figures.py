"""What the committed results say: samples, medians, and ratios within a round.

The standard library only, since the documents are checked where no peer is installed.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

RESULTS = Path(__file__).parent / "results"
NOT_MEASURED = "not measured"


@dataclass
class Results:
    """The cases of all suites, by their names.

    :ivar suites: when, where and with what each was measured
    """

    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    suites: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Self:
        results = cls()
        for path in sorted(directory.glob("*.json")):
            document = json.loads(path.read_text())
            results.suites[path.stem] = document
            results.cases |= {case["name"]: case for case in document["cases"]}
        return results

    @classmethod
    def committed(cls) -> Self:
        return cls.read(RESULTS)

    def samples(self, case: str) -> list[dict[str, float]]:
        """For each round what each contestant got."""
        return self.cases[case]["samples"] if case in self.cases else []

    def median(self, case: str, contestant: str) -> float | None:
        """The middle of a contestant's samples, in the unit of the case."""
        samples = [it[contestant] for it in self.samples(case) if contestant in it]
        return statistics.median(samples) if samples else None

    def ratio(self, case: str, subject: str, reference: str) -> float | None:
        """The middle of what the subject got relative to the reference."""
        return median_ratio(self.samples(case), subject, reference)

    def contestants(self, case: str) -> list[str]:
        """Who has a sample, in the order of the alphabet."""
        return sorted({name for measured in self.samples(case) for name in measured})

    def seconds_per_trial(self, case: str) -> float:
        """How long a measurement took, start and end included; 0 when unknown."""
        trials = sum(len(measured) for measured in self.samples(case))
        return self.cases[case].get("seconds", 0.0) / trials if trials else 0.0


def median_ratio(
    samples: list[dict[str, float]], subject: str, reference: str
) -> float | None:
    """The median of the ratios, of rounds in which both were measured."""
    ratios = [
        measured[subject] / measured[reference]
        for measured in samples
        if subject in measured and measured.get(reference)
    ]
    return statistics.median(ratios) if ratios else None


def percentile(values: list[float], share: float) -> float:
    """The least of the values that so large a share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def cell(value: float | None, form: str = "{:.2f}") -> str:
    """A table's cell."""
    return NOT_MEASURED if value is None else form.format(value)


def seconds(value: float | None) -> str:
    """A time, in the unit that suits it."""
    if value is None:
        return NOT_MEASURED
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size * 0.995:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value * 1e6)} µs"


def times(ratio: float | None) -> str:
    """How many times as long, or as much."""
    return NOT_MEASURED if ratio is None else f"{digits(ratio)}x"


def digits(value: float) -> str:
    """Two digits are what can be told of a noisy figure: 120,000; 12; 1.2; 0.12."""
    if value >= 9.95:
        return f"{float(f'{value:.2g}'):,.0f}"
    if value >= 0.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def short(contestant: str) -> str:
    """A contestant's library, without the loop that everyone of them shares."""
    return contestant.partition(" on ")[0]


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
