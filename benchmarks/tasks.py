"""What workers are asked to do. They import this, so it imports next to nothing."""

from __future__ import annotations

import time
from typing import Any


def nothing(item: int) -> int:
    return item


def spin(seconds: float) -> None:
    """Take that long, on whatever CPU, as a stand-in for work of a known length."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def compute(steps: int) -> int:
    """Pure Python, which no second thread of the same process can speed up."""
    return sum(n * n % 7 for n in range(steps))


def total(values: Any) -> float:
    """Read everything: who has not copied it yet must not win by that."""
    return float(values.sum())


def add_one(values: Any) -> Any:
    return values + 1


def echo(values: Any) -> Any:
    return values


def make(count: int) -> Any:
    """An array of so many numbers, all written."""
    import numpy as np  # noqa: PLC0415 - most tasks do without

    return np.ones(count)
