"""How a thread waits in a manager and can still be told to stop: slice by slice."""

import time
from collections.abc import Callable

__all__ = ["SLICE", "in_slices"]

SLICE = 0.2
"""Seconds that one call waits in the manager: how long a thread outlives its use."""


def in_slices(
    attempt: Callable[[float], bool], seconds: float, is_over: Callable[[], bool]
) -> bool:
    """Attempt it again and again; in a thread.

    :param attempt: is told for how long it may wait, and returns whether it succeeded
    :param seconds: for how long, all in all; it is attempted once if that is 0 or less
    :param is_over: whether no one wants it any more; asked before each attempt
    :returns: whether it succeeded
    """
    left, deadline = seconds, time.monotonic() + seconds
    while not is_over():
        if attempt(max(0.0, min(left, SLICE))):
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            break
    return False
