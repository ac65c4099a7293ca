"""Every example runs, says what it should, and is short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_pipe_worker() -> None:
    assert run("pipe_worker.py") == ["[1, 4, 9, 16, 25]", "exit code 0"]


def test_producers_consumers() -> None:
    *lines, last = run("producers_consumers.py")
    assert last == "8 of 8 tasks done"
    found = [
        re.fullmatch(r"task (\d) \((\w+)\): (\d+) by [ABC]", line) for line in lines
    ]
    assert [match and match.groups() for match in found] == [
        (str(n), ("high", "medium", "low")[n % 3], str(n * 10 + 1)) for n in range(1, 9)
    ]


def test_fan_out() -> None:
    assert run("fan_out.py") == [
        "one call: True",
        "a map: 2262 primes below 20,000",
        "given up: True",
        "too late: task is_prime took longer than 0.1 s",
        "and on: True",
    ]


def test_large_data() -> None:
    assert run("large_data.py") == [
        "there: True",
        "and back: 1 from 0",
        "in shared memory: True",
        "kept: True",
    ]


def test_existing_code() -> None:
    assert run("existing_code.py") == [
        "done while we have the lock: 0",
        "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
        "tasks done: 10",
        "meanwhile the loop was free: True",
    ]


def test_priority_pipeline() -> None:
    assert run("priority_pipeline.py") == [
        "6 jobs wait; the urgent ones came last",
        "two workers begin with payment 1 and payment 2",
        "the worker at payment 1 is killed: exit code -9",
        "worker C begins payment 1",
        "6 jobs are done, so many times each: [1, 1, 1, 1, 1, 1]",
    ]


def test_cluster() -> None:
    assert run("cluster.py") == ["on processes: 589", "on a cluster: 589"]


def test_remote_workers() -> None:
    *lines, last = run("remote_workers.py")
    assert last == "1 refused"
    sums = {n: sum(k * k for k in range(n)) for n in range(1000, 6000, 1000)}
    assert sorted(lines) == sorted(
        ["a worker says: digest sent was rejected"]
        + [f"the sum of {n} squares is {total}" for n, total in sums.items()]
    )


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name
)
def test_an_example_is_short(path) -> None:
    assert len(path.read_text().splitlines()) < 60
