"""Rounds, ratios and verdicts, whatever it is that is measured.

A case is one workload. In each of its rounds every contestant is measured once, in
a new order; a claim compares two contestants within each round and is judged by the
median over the rounds. Absolute times are kept for the reader but never judged,
except where a claim has no reference: then the figure itself is the claim.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.contestants import is_installed
from benchmarks.isolation import TrialError, call_in_fresh_process
from benchmarks.machine import Bystanders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_PER_TRIAL = 60.0


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

    def failures(self, rounds: list[Round]) -> int:
        """In how many rounds the subject had no sample."""
        return sum(self.subject.name not in measured for measured in rounds)

    def _value(self, measured: Round) -> Iterator[float]:
        subject = measured.get(self.subject.name)
        reference = measured.get(self.reference.name) if self.reference else 1.0
        if subject is not None and reference is not None:
            yield subject / reference


@dataclass(frozen=True)
class Case:
    """One workload and what is claimed about it.

    ``trial(contestant)`` is called in a fresh process and returns the sample, in
    ``unit``; where the case has ``parts``, one sample for each, and each is an outcome
    of its own. ``most_rounds`` keeps heavy cases short, and the heaviest are not
    ``in_sketch``.
    """

    name: str
    trial: Callable[[Contestant], Any]
    claims: tuple[Claim, ...]
    unit: str = "s"
    most_rounds: int = 1000
    in_sketch: bool = True
    parts: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """By which its results are known."""
        return [f"{self.name}, {part}" for part in self.parts] or [self.name]

    def contestants(self) -> list[Contestant]:
        """Everyone whom a claim names, once."""
        named = [c for claim in self.claims for c in (claim.reference, claim.subject)]
        return list({it.name: it for it in named if it}.values())


Round = dict[str, float]
"""The samples of one round, by the contestants' names."""


@dataclass
class Outcome:
    """What came out of a case.

    :ivar bystanders: CPUs that other programs used meanwhile
    :ivar absent: contestants that are not installed
    :ivar seconds: that it took
    """

    case: Case
    rounds: list[Round] = field(default_factory=list)
    bystanders: float = 0.0
    failures: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def verdicts(self) -> list[Verdict]:
        return [self._verdict(claim) for claim in self.case.claims]

    def _verdict(self, claim: Claim) -> Verdict:
        is_absent = claim.subject.name in self.absent
        failures = 0 if is_absent else claim.failures(self.rounds)
        return Verdict(claim, claim.values(self.rounds), failures)


@dataclass(frozen=True)
class Verdict:
    """A claim and the value that each round gave it.

    :ivar failures: rounds in which the subject was to be measured, and could not be
    """

    claim: Claim
    values: list[float]
    failures: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the limit, and the subject never failed.

        None when there is nothing to judge: no limit, or no one to compare with.
        """
        if self.claim.at_most is None:
            return None
        if self.failures:
            return False
        if not self.values:
            return None
        return self.median <= self.claim.at_most


def run(
    case: Case,
    rounds: int,
    on_trial: Callable[[int, Contestant], None] = lambda *_: None,
) -> list[Outcome]:
    """Measure everyone in each round, in an order that changes but repeats by run.

    :param on_trial: is told the round and the contestant before each measurement
    """
    outcome, started = Outcome(case), time.monotonic()
    shuffled = random.Random(case.name)
    everyone = case.contestants()
    contestants = [it for it in everyone if is_installed(it)]
    outcome.absent = [it.name for it in everyone if it not in contestants]
    bystanders = Bystanders()
    for number in range(min(rounds, case.most_rounds)):
        shuffled.shuffle(contestants)
        measured: dict[str, Any] = {}
        for contestant in contestants:
            on_trial(number, contestant)
            try:
                measured[contestant.name] = _measure(case, contestant)
            except TrialError as error:
                outcome.failures.append(f"{contestant.name}: {error}")
        outcome.rounds.append(measured)
    outcome.bystanders = bystanders.cpus()
    outcome.seconds = time.monotonic() - started
    return _by_part(outcome) if case.parts else [outcome]


def _by_part(outcome: Outcome) -> list[Outcome]:
    return [
        replace(
            outcome,
            case=replace(outcome.case, name=name, parts=()),
            rounds=[
                {who: samples[part] for who, samples in measured.items()}
                for measured in outcome.rounds
            ],
            seconds=outcome.seconds / len(outcome.case.parts),
        )
        for part, name in enumerate(outcome.case.names())
    ]


def _measure(case: Case, contestant: Contestant) -> Any:
    return call_in_fresh_process(
        lambda: case.trial(contestant), within=SECONDS_PER_TRIAL
    )
