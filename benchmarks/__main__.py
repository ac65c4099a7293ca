"""Measure, print, and keep the results: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import arrays, bridge, harness, pool, readme, report

SUITES = {"bridge": bridge.cases, "pool": pool.cases, "arrays": arrays.cases}
RESULTS = Path(__file__).parent / "results"
ROUNDS = 15
QUICK_ROUNDS = 4


def main() -> int:
    """Run what was asked for; the exit code is 1 when a target is missed."""
    options = _parse()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    missed = False
    for suite, cases in SUITES.items():
        if options.suite not in (None, suite):
            continue
        chosen = [c for c in cases() if options.only in f"{suite}: {c.name}"]
        outcomes = []
        for case in chosen:
            outcomes.append(harness.run(case, rounds))
            report.print_outcome(outcomes[-1])
        missed |= any(v.met is False for o in outcomes for v in o.verdicts())
        if _is_complete(options):
            report.save(outcomes, RESULTS / f"{suite}.json")
            readme.update()
    return int(missed)


def _is_complete(options: argparse.Namespace) -> bool:
    """Whether this run may replace the results of the last one."""
    return not (options.only or options.quick)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare aioipc with blocking calls and with other libraries. "
        "A full run replaces benchmarks/results/ and the README's figures.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}; nothing is kept",
    )
    parser.add_argument("--suite", choices=SUITES, help="only this one")
    parser.add_argument(
        "--only", metavar="NAME", default="", help="cases with this in their name"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="that many rounds")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
