"""How much is done: everything, or a sketch of it within two minutes.

A sketch has one round, fewer calls, and neither those cases nor those contestants that
take the longest; it says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.harness import Case, Claim


@dataclass(frozen=True)
class Effort:
    """By what counts are divided."""

    divisor: int = 1

    @property
    def is_sketch(self) -> bool:
        return self.divisor > 1

    def of(self, count: int) -> int:
        """That count, or what is enough for a sketch."""
        return max(1, count // self.divisor)


FULL = Effort()
SKETCH = Effort(divisor=10)


def sketch(case: Case) -> Case | None:
    """A case without those who are not in a sketch; None when nothing is left."""
    claims = tuple(claim for claim in case.claims if _is_in_sketch(claim))
    return replace(case, claims=claims) if claims and case.in_sketch else None


def left_out(cases: list[Case]) -> list[str]:
    """What a sketch of these cases does without, for its last words."""
    whole = [case.name for case in cases if sketch(case) is None]
    missing = {
        contestant.name
        for case in cases
        if case.in_sketch
        for contestant in case.contestants()
        if _is_left_out(contestant)
    }
    return [*whole, *(f"{name}, everywhere" for name in sorted(missing))]


def _is_in_sketch(claim: Claim) -> bool:
    return not (_is_left_out(claim.subject) or _is_left_out(claim.reference))


def _is_left_out(contestant: Any) -> bool:
    """Dask is slow to start; and one loop of each library has to do."""
    library, loop = (getattr(contestant, it, None) for it in ("library", "loop"))
    is_second = loop == "uvloop" or (loop == "trio" and library != "trio-parallel")
    return is_second or library == "Dask"
