"""Tokens: an eventfd in semaphore mode, of which each read takes one.

The kernel gives each to one process: so it is known whose a task is, or an item, with
no message and whoever dies. Descriptors are non-blocking.
"""

import os

__all__ = ["take_tokens"]


def take_tokens(fd: int, count: int) -> int:
    """Take up to `count` tokens; return how many there were."""
    read = os.read
    for taken in range(count):
        try:
            read(fd, 8)
        except BlockingIOError:
            return taken
    return count
