"""The tables of docs/benchmarks.md: every contestant of every case, in its own unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import (
    NOT_MEASURED,
    cell,
    digits,
    seconds,
    short,
    table,
    times,
)
from benchmarks.labels import (
    ARRAYS,
    BROKER,
    CAPACITY,
    CARRIERS,
    CLUSTER,
    COUNTS,
    LAGS,
    LOOPS,
    MESSAGES,
    OURS,
    QUEUE,
    QUEUES,
    STREAMS,
)

if TYPE_CHECKING:
    from benchmarks.figures import Results


def all_messages(results: Results) -> str:
    """Times of messages, of everyone who carries them."""
    headings = ["", *(_carrier(name) for name in CARRIERS)]
    rows = [
        [label, *(_time_or_none(results, case, name) for name in CARRIERS)]
        for case, label in MESSAGES.items()
    ]
    return table(headings, rows)


def _carrier(name: str) -> str:
    return (
        "faster-fifo, in a thread" if name == "faster-fifo on asyncio" else short(name)
    )


def _time_or_none(results: Results, case: str, name: str) -> str:
    """A case that is not there was not measured; who does not take part has no cell."""
    if case not in results.cases:
        return NOT_MEASURED
    value = results.median(case, name)
    return "" if value is None else seconds(value)


def broker(results: Results) -> str:
    """Times of a broker's items, and how many times as fast as a plain queue's."""
    rows = [
        [label, *(_beside_queue(results, case, name) for case in BROKER)]
        for name, label in QUEUES.items()
    ]
    return table(["", *BROKER.values()], rows)


def _beside_queue(results: Results, case: str, name: str) -> str:
    time = _time_or_none(results, case, name)
    ratio = results.ratio(case, QUEUE, name)
    return f"{time} ({times(ratio)})" if ratio and name != QUEUE else time


def cluster(results: Results) -> str:
    """What a call costs on a cluster, with the pool and without."""
    headings = ["", "`DaskPool`", "Dask's client", "`WorkerPool`", "pool / client"]
    rows: list[list[str]] = []
    for case, label in CLUSTER.items():
        kind = ".map" if " map " in case else ""
        ours, theirs = f"DaskPool{kind}", f"Client{kind}" if kind else "Dask on asyncio"
        ours = ours if kind else f"{ours} on asyncio"
        times_ = [_time_or_none(results, case, it) for it in (ours, theirs, OURS)]
        ratio = results.ratio(case, ours, theirs)
        rows.append([label, *times_, cell(ratio) if times_[1] else ""])
    return table(headings, rows)


def capacity(results: Results) -> str:
    """What one scheduler can do: with how long tasks it keeps so many workers busy."""
    call, share = _of_a_call(results, "scheduler"), _share_of_heartbeats(results)
    if call is None or share is None:
        return table(["", ""], [["", NOT_MEASURED]])
    rows = [
        [f"{count:,}", f"{digits(1 / call)} in a second", seconds(count * call)]
        for count in (100, 1_000, 10_000)
    ]
    return table(["workers", "calls", "tasks that keep all busy take at least"], rows)


def costs(results: Results) -> str:
    """What a call and a worker take of a scheduler, and a call of a coordinator."""
    waiting = "cluster, 10,000 waiting calls, memory of the scheduler"
    memory, share = results.median(waiting, "10 workers"), _share_of_heartbeats(results)
    rows = [
        [f"a call, {crowd}: CPU of the {who}", _time_or_none(results, case, crowd)]
        for who, case in CAPACITY.items()
        for crowd in ("10 workers", "200 workers")
    ]
    if memory is not None and share is not None:
        rows += [
            ["a call that waits: memory of the scheduler", f"{digits(memory / 10)} kB"],
            ["200 workers without work: CPU of the scheduler", f"{digits(share)} %"],
        ]
    return table(["", ""], rows)


def _of_a_call(results: Results, who: str) -> float | None:
    return results.median(CAPACITY[who], "200 workers")


def _share_of_heartbeats(results: Results) -> float | None:
    idle = "cluster, an idle worker, CPU of the scheduler"
    value = results.median(idle, "200 workers")
    return None if value is None else 100 * 200 * value


def latency(results: Results) -> str:
    """Both percentiles of single calls."""
    p50, p99 = (f"latency of a call, {it}" for it in ("p50", "p99"))
    rows = [
        [_named(it), *(seconds(results.median(case, it)) for case in (p50, p99))]
        for it in _by_median(results, p50)
    ]
    return table(["", "p50", "p99"], rows or [["", NOT_MEASURED, NOT_MEASURED]])


def all_calls(results: Results) -> str:
    """What a call costs in a crowd, and how that compares."""
    case = "pool, 10,000 calls at once"
    rows = [
        [_named(it), seconds(results.median(case, it)), _beside_us(results, case, it)]
        for it in _by_median(results, case)
    ]
    missing = [["", NOT_MEASURED, NOT_MEASURED]]
    return table(["", "for each call", "relative to aioipc"], rows or missing)


def speed_up(results: Results) -> str:
    """Computations in pure Python, by two workers."""
    case, alone = "pool, 100 computations in pure Python", "one process"
    rows = [
        [
            _named(it),
            seconds(results.median(case, it)),
            times(results.ratio(case, alone, it)),
        ]
        for it in _by_median(results, case)
    ]
    missing = [["", NOT_MEASURED, NOT_MEASURED]]
    return table(["", "100 computations", "speed-up"], rows or missing)


def all_arrays(results: Results) -> str:
    """Times of large arrays, of everyone."""
    names = _everyone(results, ARRAYS)
    rows = [
        [_named(name), *(_time_or_none(results, case, name) for case in ARRAYS)]
        for name in names
    ]
    bare = [seconds(results.median(case, it)) for case, (_, it) in ARRAYS.items()]
    headings = ["", *(label for label, _ in ARRAYS.values())]
    return table(headings, [*rows, ["bare copies", *bare]])


def lags(results: Results) -> str:
    """The longest standstills of the loop."""
    rows = []
    for case, label in LAGS.items():
        ours = [f"aioipc on {it}" for it in LOOPS]
        others = [it for it in results.contestants(case) if it not in ours]
        told = (f"{_named(it)} {_ms(results.median(case, it))}" for it in others)
        mine = [cell(results.median(case, it), "{:.1f} ms") for it in ours]
        rows.append([label, *mine, ", ".join(told)])
    return table(["", *LOOPS, "others"], rows)


def _ms(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{digits(value)} ms"


def life(results: Results) -> str:
    """What a pool costs before the first call, and when there is none."""
    cases = (
        ("pool, first result", seconds),
        ("pool, first result, from the program's start", seconds),
        ("pool, idle, CPU in each second", _ms),
    )
    rows = [
        [_named(name), *(write(results.median(case, name)) for case, write in cases)]
        for name in _everyone(results, [case for case, _ in cases])
    ]
    headings = ["", "first result", "with imports", "CPU in an idle second"]
    return table(headings, rows or [[NOT_MEASURED] * 4])


def growth(results: Results) -> str:
    """Time and memory of streams of tasks."""
    rows = []
    for what, write in (("time for each", seconds), ("memory", _megabytes)):
        for name, label in STREAMS.items():
            medians = [
                results.median(f"growth, {count} tasks, {what}", name)
                for count in COUNTS
            ]
            rows.append([label, what, *map(write, medians)])
    return table(["", "", *(f"{count} tasks" for count in COUNTS)], rows)


def _megabytes(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.1f} MB"


def _by_median(results: Results, case: str) -> list[str]:
    """The contestants of a case, the quickest first."""
    names = results.contestants(case)
    return sorted(names, key=lambda it: results.median(case, it) or 0)


def _everyone(results: Results, cases: object) -> list[str]:
    """Whoever takes part and has a pool, aioipc first."""
    assert isinstance(cases, dict | list)
    names = {it for case in cases for it in results.contestants(case) if " on " in it}
    return sorted(names, key=lambda it: (not it.startswith("aioipc"), it.lower()))


def _named(contestant: str) -> str:
    """aioipc runs on every loop; of the others all are on asyncio that can be."""
    return contestant if contestant.startswith("aioipc") else short(contestant)


def _beside_us(results: Results, case: str, name: str) -> str:
    return "" if name == OURS else times(results.ratio(case, name, OURS))
