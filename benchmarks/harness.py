"""Rounds, ratios and verdicts, whatever it is that is measured.

A case is one workload. In each of its rounds every contestant is measured once, in
a new order; a claim compares two contestants within each round and is judged by the
median over the rounds. Absolute times are kept for the reader but never judged,
except where a claim has no reference: then the figure itself is the claim.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from benchmarks.isolation import TrialError, call_in_fresh_process
from benchmarks.machine import Bystanders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_PER_TRIAL = 30.0


class Contestant(Protocol):
    """Whoever can be measured."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Claim:
    """``subject / reference <= at_most``, or only reported when that is None."""

    subject: Contestant
    reference: Contestant | None
    at_most: float | None = None

    def values(self, rounds: list[Round]) -> list[float]:
        """One value for each round in which both were measured."""
        return [value for measured in rounds for value in self._value(measured)]

    def _value(self, measured: Round) -> Iterator[float]:
        subject = measured.get(self.subject.name)
        reference = measured.get(self.reference.name) if self.reference else 1.0
        if subject is not None and reference is not None:
            yield subject / reference


@dataclass(frozen=True)
class Case:
    """One workload and what is claimed about it.

    ``trial(contestant)`` is called in a fresh process and returns the sample, in
    ``unit``. ``most_rounds`` keeps heavy cases short.
    """

    name: str
    trial: Callable[[Contestant], float]
    claims: tuple[Claim, ...]
    unit: str = "s"
    most_rounds: int = 1000

    def contestants(self) -> list[Contestant]:
        """Everyone whom a claim names, once."""
        named = [c for claim in self.claims for c in (claim.reference, claim.subject)]
        return [contestant for contestant in dict.fromkeys(named) if contestant]


Round = dict[str, float]
"""The samples of one round, by the contestants' names."""


@dataclass
class Outcome:
    """What came out of a case.

    :ivar bystanders: CPUs that other programs used meanwhile
    """

    case: Case
    rounds: list[Round] = field(default_factory=list)
    bystanders: float = 0.0
    failures: list[str] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        return [Verdict(claim, claim.values(self.rounds)) for claim in self.case.claims]


@dataclass(frozen=True)
class Verdict:
    """A claim and the value that each round gave it."""

    claim: Claim
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the limit; None when there is nothing to judge."""
        if self.claim.at_most is None or not self.values:
            return None
        return self.median <= self.claim.at_most


def run(case: Case, rounds: int) -> Outcome:
    """Measure everyone in each round, in an order that changes but repeats by run."""
    outcome = Outcome(case)
    shuffled = random.Random(case.name)
    contestants = case.contestants()
    bystanders = Bystanders()
    for _ in range(min(rounds, case.most_rounds)):
        shuffled.shuffle(contestants)
        outcome.rounds.append(dict(_round(case, contestants, outcome.failures)))
    outcome.bystanders = bystanders.cpus()
    return outcome


def _round(
    case: Case, contestants: list[Contestant], failures: list[str]
) -> Iterator[tuple[str, float]]:
    for contestant in contestants:
        try:
            yield (
                contestant.name,
                call_in_fresh_process(
                    lambda who=contestant: case.trial(who), within=SECONDS_PER_TRIAL
                ),
            )
        except TrialError as error:
            failures.append(f"{contestant.name}: {error}")
