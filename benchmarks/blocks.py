"""Every block of figures in the README and the docs: what each says, by its name.

A writer gets the results, and returns Markdown. Blocks are where documents say
``<!-- figures: NAME -->`` and ``<!-- /figures -->``, in any document; those that are no
more than a figure in a sentence are `phrases`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.figures import NOT_MEASURED, Results, cell, table
from benchmarks.labels import BESIDE_BLOCKING, BESIDE_OTHERS, LOOPS, OURS
from benchmarks.phrases import PHRASES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def bridge(results: Results) -> str:
    """The README's table of pipes and queues."""
    rows = [
        [
            label,
            *(cell(results.ratio(it, f"aioipc on {x}", "blocking")) for x in LOOPS),
        ]
        for it, label in BESIDE_BLOCKING.items()
    ]
    lines = [table(["", *LOOPS], rows)]
    for other, case in BESIDE_OTHERS.items():
        faster = results.ratio(case, f"{other} on asyncio", OURS)
        lines.append(f"- {cell(faster, '{:.1f}')} times as fast as {other} ({case})")
    return "\n".join(lines) + "\n"


def targets(results: Results) -> str:
    """How many targets are met, which are not, and who failed at what."""
    judged = [
        (case, claim)
        for case, measured in results.cases.items()
        for claim in measured.get("claims", ())
        if claim["met"] is not None
    ]
    if not judged:
        return f"{NOT_MEASURED}\n"
    rows = [
        [
            case,
            claim["subject"],
            claim["reference"] or "",
            _reached(claim, len(results.samples(case))),
            f"{claim['at_most']:.3g}",
        ]
        for case, claim in judged
        if not claim["met"]
    ]
    headings = ["not met", "of", "relative to", "reached", "target"]
    told = f"{len(judged) - len(rows)} of {len(judged)} targets are met.\n"
    parts = [told, *([table(headings, rows)] if rows else ()), *_failures(results)]
    return "\n".join(parts)


def _reached(claim: dict[str, Any], rounds: int) -> str:
    if failures := claim.get("failures"):
        return f"failed in {failures} of {rounds} rounds"
    return f"{claim['median']:.3g}"


def _failures(results: Results) -> Iterator[str]:
    """A list, in which what failed in many rounds stands once."""
    failures = dict.fromkeys(
        f"- {case}: {_last_words(failure)}\n"
        for case, measured in results.cases.items()
        for failure in measured.get("failures", ())
    )
    if failures:
        yield "".join(["Failed, in one round or in more:\n\n", *failures])


def _last_words(failure: str) -> str:
    """Who failed, and the line that tells how: a traceback's last."""
    who, _, told = failure.strip().partition(": ")
    lines = told.splitlines() or [""]
    return f"{who}: {lines[-1 if lines[0].startswith('Traceback') else 0]}"


def where(results: Results) -> str:
    """When, where and with what; suites that have it in common share a line."""
    suites: dict[str, list[str]] = {}
    for suite, document in results.suites.items():
        machine = document["machine"]
        place = (
            f"{document['date'][:10]}, {machine['cpus']} CPUs "
            f"({machine['processor']}), {_versions(document['versions'])}"
        )
        suites.setdefault(place, []).append(suite)
    lines = [f"- {', '.join(names)}: {place}" for place, names in suites.items()]
    return "\n".join(lines or [NOT_MEASURED]) + "\n"


def where_in_short(results: Results) -> str:
    """The same, in a line for the README."""
    if not (documents := list(results.suites.values())):
        return f"{NOT_MEASURED}\n"
    dates = sorted({it["date"][:10] for it in documents})
    versions = {it: documents[-1]["versions"][it] for it in ("python", "aioipc")}
    return (
        f"Measured on {' and '.join(dates)}, {documents[-1]['machine']['cpus']} CPUs, "
        f"{_versions(versions)}.\n"
    )


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


BLOCKS: dict[str, Callable[[Results], str]] = {
    "bridge": bridge,
    "targets": targets,
    "messages": tables.all_messages,
    "broker": tables.broker,
    "cluster": tables.cluster,
    "costs": tables.costs,
    "capacity": tables.capacity,
    "latency": tables.latency,
    "calls": tables.all_calls,
    "speed-up": tables.speed_up,
    "all arrays": tables.all_arrays,
    "lags": tables.lags,
    "life": tables.life,
    "growth": tables.growth,
    "where": where,
    "where in short": where_in_short,
    **PHRASES,
}
