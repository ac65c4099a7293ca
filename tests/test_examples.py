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


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name
)
def test_an_example_is_short(path) -> None:
    assert len(path.read_text().splitlines()) < 60
