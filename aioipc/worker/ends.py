"""What is done whenever a task of the pool has ended, in its process and its thread."""

from collections.abc import Callable

__all__ = ["at_task_end", "task_ended"]

_calls: list[Callable[[], object]] = []

at_task_end = _calls.append
"""Have something called after each task, whether it returned, raised or was cancelled.

It must not raise, nor take long: the pool waits.
"""


def task_ended() -> None:
    """Call all that is to be called."""
    for call in _calls:
        call()
