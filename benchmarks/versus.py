"""Claims that the cases of pipes and of queues have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants.aioipc import AIOIPC
from benchmarks.contestants.stdlib import BLOCKING
from benchmarks.harness import Claim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contestants import LinkContestant


def beside_blocking(
    asyncio: float | None = None,
    uvloop: float | None = None,
    trio: float | None = None,
) -> tuple[Claim, ...]:
    """aioipc against blocking calls, with a target for each loop."""
    targets = {"asyncio": asyncio, "uvloop": uvloop, "trio": trio}
    return tuple(Claim(AIOIPC[loop], BLOCKING, targets[loop]) for loop in targets)


def each(
    others: dict[str, LinkContestant], at_most: float | None = None
) -> Iterator[Claim]:
    """aioipc against another library, on each loop that both run on."""
    for loop, other in others.items():
        yield Claim(AIOIPC[loop], other, at_most)
