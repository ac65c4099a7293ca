"""What is done whenever a task of the pool has ended, in its process and its thread."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager

__all__ = ["around_tasks", "at_task_end", "not_of_this_task", "task_ended"]

_calls: list[Callable[[], object]] = []

at_task_end = _calls.append
"""Have something called after each task, whether it returned, raised or was cancelled.

It must not raise, nor take long: the pool waits.
"""


_around: list[Callable[[], AbstractContextManager[object]]] = []

around_tasks = _around.append
"""Have a context entered for each task that runs in a thread of the program's own.

So that what ends with a task is not what this thread holds outside of it.
"""


@contextmanager
def not_of_this_task() -> Generator[None]:
    """Keep what this thread holds apart from what a task in it will."""
    with ExitStack() as stack:
        for around in _around:
            stack.enter_context(around())
        yield


def task_ended() -> None:
    """Call all that is to be called."""
    for call in _calls:
        call()
