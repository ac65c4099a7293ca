"""Measure, print, and keep the results: ``python -m benchmarks --help``."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks import documents, effort, harness, report
from benchmarks.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Case, Verdict

SUITES = ("bridge", "broker", "pool", "latency", "arrays", "growth", "cluster")
RESULTS = Path(__file__).parent / "results"
ROUNDS = 9
FEWER_ROUNDS = {
    "broker": 7,
    "pool": 4,
    "latency": 4,
    "arrays": 3,
    "growth": 3,
    "cluster": 3,
}
WIDTH = 100

Chosen = dict[str, list["Case"]]


@click.command()
@click.option("--quick", is_flag=True, help="A sketch in two minutes; keeps nothing.")
@click.option("--suite", type=click.Choice(SUITES), help="Only this one.")
@click.option("--only", metavar="NAME", default="", help="Cases with this in the name.")
@click.option("--rounds", type=click.IntRange(min=1), help="That many, for all suites.")
@click.option("--list", "is_list", is_flag=True, help="Name the cases, and end.")
@click.option("--plots-only", is_flag=True, help="Draw from the results, and end.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="Where results and plots are kept.",
)
def main(
    suite: str | None,
    only: str,
    rounds: int | None,
    results: Path,
    *,
    quick: bool,
    is_list: bool,
    plots_only: bool,
) -> None:
    """Compare aioipc with blocking calls, with other libraries, and with the limits.

    A full run replaces the results of its suites, the plots, and the figures in the
    README and the docs. The exit code is 1 when a target is missed, or aioipc fails
    where it has one; a sketch has too few samples to tell the former.
    """
    if plots_only:
        publish(results)
        return
    suites = (suite,) if suite else SUITES
    everything = {it: list(_cases(it, only, quick=quick)) for it in suites}
    chosen = {it: list(_sketched(everything[it], quick)) for it in suites}
    if is_list:
        for name, cases in chosen.items():
            print(*(f"{name}: {it}" for case in cases for it in case.names()), sep="\n")
        return
    kept = None if only or quick else results
    missed = run(chosen, rounds or (1 if quick else None), kept)
    if quick:
        _tell_what_is_left_out(everything)
    elif not only:
        publish(results)
    sys.exit(int(any(verdict.failures or not quick for verdict in missed)))


def _cases(suite: str, only: str, *, quick: bool) -> Iterator[Case]:
    """Those cases of a suite that have it in their name."""
    size = effort.SKETCH if quick else effort.FULL
    for case in import_module(f"benchmarks.{suite}").cases(size):
        if only in f"{suite}: {case.name}":
            yield case


def _sketched(cases: list[Case], quick: bool) -> Iterator[Case]:
    for case in cases:
        if (it := effort.sketch(case) if quick else case) is not None:
            yield it


def run(chosen: Chosen, rounds: int | None, results: Path | None) -> list[Verdict]:
    """Run the cases of all suites, keep their results; which targets were missed."""
    console = Console(width=WIDTH, soft_wrap=False)
    missed: list[Verdict] = []
    of_suite = {it: rounds or FEWER_ROUNDS.get(it, ROUNDS) for it in chosen}
    with Progress(console, chosen, of_suite) as progress:
        for suite, cases in chosen.items():
            outcomes = []
            for case in cases:
                on_trial = progress.begin(suite, case)
                for outcome in harness.run(case, of_suite[suite], on_trial):
                    report.print_outcome(outcome, console)
                    outcomes.append(outcome)
            verdicts = (it for outcome in outcomes for it in outcome.verdicts())
            missed += (it for it in verdicts if it.met is False)
            if results:
                report.save(outcomes, results / f"{suite}.json")
    return missed


def publish(results: Path) -> None:
    """Draw the plots; and write the documents, if these are the results they show."""
    if find_spec("matplotlib"):
        from benchmarks import plots  # noqa: PLC0415 - slow to import

        plots.draw_all(results, results / "plots")
    else:
        print("The plots stay as they are: matplotlib is not installed.")
    if results.resolve() == RESULTS:
        documents.update()


def _tell_what_is_left_out(everything: Chosen) -> None:
    print("In this sketch each case had one round and a tenth of its calls. Left out:")
    for line in effort.left_out(
        [case for cases in everything.values() for case in cases]
    ):
        print(f"  {line}")
    print("Nothing was kept.")


if __name__ == "__main__":
    main()
