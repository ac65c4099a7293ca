"""Writes the README's figures from the committed results; `--check` only compares.

A full run of the benchmarks does this by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
LOOPS = ("asyncio", "uvloop", "trio")

BESIDE_BLOCKING = {
    "pipe, round trip, small object, one CPU": "round trip, small object, one CPU",
    "pipe, round trip, small object": "round trip, small object",
    "pipe, round trip, 1 MB": "round trip, 1 MB",
    "pipe, round trip, 64 MB": "round trip, 64 MB",
    "one-way pipe, stream of records, receiving": "receiving 100-byte records",
    "one-way pipe, stream of records, sending": "sending 100-byte records",
    "pipe, stream of records, sending": "sending them over a duplex pipe",
    "Queue, get from one producer": "`Queue.get`",
    "Queue, put towards one consumer": "`Queue.put`",
}
BESIDE_OTHERS = {
    "asyncio.to_thread": "pipe, round trip, small object, one CPU",
    "aioprocessing": "Queue, get from one producer",
}
POOLS = {
    "pool, 10,000 calls at once": "10,000 calls gathered",
    "pool, 10,000 calls at once, a task for each": "the same, a task for each",
    "pool, one call at a time": "one call at a time",
    "pool, one call at a time, one CPU": "one call at a time, one CPU",
    "pool, 200 tasks of 10 to 20 ms": "200 tasks of 10 to 20 ms",
}
ARRAYS = {
    "array, 100 MB in": ("100 MB in", "memcpy"),
    "array, 100 MB in and 100 MB out": ("100 MB in and out", "bare shared memory"),
    "arrays, 1,000 of 1 MB in": ("1,000 times 1 MB in", "1,000 copies"),
}
ARRAY_LAG = "loop lag, 200 MB array there and back"
ARRAY_PEERS = {
    "ProcessPoolExecutor": "asyncio",
    "loky": "asyncio",
    "pebble": "asyncio",
    "anyio.to_process": "asyncio",
    "trio-parallel": "trio",
    "Dask": "asyncio",
}
PEERS = ("ProcessPoolExecutor", "loky", "pebble", "anyio.to_process")


def pool_figures(results: dict[str, Any]) -> str:
    """The block of the pool."""
    cases = {case["name"]: case["claims"] for case in results["cases"]}
    lines = [f"| | {' | '.join(PEERS)} |", "|---|---|---|---|---|"]
    for name, label in POOLS.items():
        cells = [
            _median(cases[name], "aioipc on asyncio", f"{peer} on asyncio")
            for peer in PEERS
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    of_map = cases["pool, map of 1,000,000 cheap items"]
    ratio = _median(of_map, "aioipc on asyncio", "multiprocessing.Pool.map")
    in_tasks = _median(
        cases["pool, 10,000 calls at once, a task for each"],
        "aioipc on asyncio",
        "asyncio's tasks",
    )
    ping_pong = _median(
        cases["pool, one call at a time"], "aioipc on asyncio", "blocking ping-pong"
    )
    lines += [
        "",
        f"- `map` of a million cheap items: {ratio} of `multiprocessing.Pool.map`",
        f"- 10,000 calls at once, a task for each: {in_tasks} of the time that asyncio",
        "  takes for tasks that await futures, with no process at all",
        f"- one call at a time: {ping_pong} of a blocking round trip on a `Connection`",
    ]
    return "\n".join(lines) + "\n"


def figures(results: dict[str, Any]) -> str:
    """The block of the bridge."""
    cases = {case["name"]: case["claims"] for case in results["cases"]}
    lines = [f"| | {' | '.join(LOOPS)} |", "|---|---|---|---|"]
    for name, label in BESIDE_BLOCKING.items():
        cells = [_median(cases[name], f"aioipc on {it}", "blocking") for it in LOOPS]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    cpus = results["machine"]["cpus"]
    versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
    lines += [
        "",
        *_faster(cases),
        "",
        f"Measured on {results['date'][:10]}, {cpus} CPUs, {versions}.",
        "On one CPU the path lengths are compared; else it also counts how long the",
        "kernel takes to wake a process on another CPU, and that varies.",
    ]
    return "\n".join(lines) + "\n"


def _median(claims: list[dict[str, Any]], subject: str, reference: str | None) -> str:
    for claim in claims:
        if (claim["subject"], claim["reference"]) == (subject, reference):
            return f"{claim['median']:.2f}"
    return ""


def _faster(cases: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for other, name in BESIDE_OTHERS.items():
        ratio = _median(cases[name], "aioipc on asyncio", f"{other} on asyncio")
        if ratio:
            times = 1 / float(ratio)
            lines.append(f"- {times:.1f} times as fast as {other} ({name}, asyncio)")
    return lines


def array_figures(results: dict[str, Any]) -> str:
    """The block of large arguments and results."""
    cases = {case["name"]: case["claims"] for case in results["cases"]}
    columns = ("bare copies", *ARRAY_PEERS)
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, (label, bare) in ARRAYS.items():
        beside = (bare, *(f"{peer} on {loop}" for peer, loop in ARRAY_PEERS.items()))
        cells = [_median(cases[name], "aioipc on asyncio", other) for other in beside]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lag = _median(cases[ARRAY_LAG], "aioipc on asyncio", None)
    lines += [
        "",
        f"- the loop's longest standstill while 200 MB go there and back: {lag} ms",
    ]
    return "\n".join(lines) + "\n"


BLOCKS = {
    "bridge": ("figures", figures),
    "pool": ("pool figures", pool_figures),
    "arrays": ("array figures", array_figures),
}


def update(*, check: bool = False) -> bool:
    """Bring the README in step with the results; return whether it was."""
    text = wanted = README.read_text()
    for suite, (mark, write) in BLOCKS.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        before, rest = wanted.split(begin)
        _, after = rest.split(end)
        results = json.loads((RESULTS / f"{suite}.json").read_text())
        wanted = before + begin + write(results) + end + after
    if not check:
        README.write_text(wanted)
    return wanted == text


if __name__ == "__main__":
    is_check = "--check" in sys.argv
    sys.exit(int(not update(check=is_check) and is_check))
