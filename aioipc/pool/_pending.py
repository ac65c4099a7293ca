"""Tasks that no worker has, by their priority."""

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioipc.pool.task import Call

__all__ = ["Pending"]


class Pending:
    """Tasks that no worker has, the most urgent ones first."""

    __slots__ = ("_count", "_queues", "_urgencies")

    def __init__(self) -> None:
        self._queues: dict[int, deque[Call]] = {}  # by priority
        self._urgencies: list[int] = []  # a heap of their negatives
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, task: "Call") -> None:
        """Add a task behind those that are as urgent."""
        priority = task.options.priority
        (self._queues.get(priority) or self._queue(priority)).append(task)
        self._count += 1

    def push_back(self, tasks: "list[Call]") -> None:
        """Return tasks that were taken, to where they were."""
        for task in reversed(tasks):
            self._queue(task.options.priority).appendleft(task)
        self._count += len(tasks)

    def peek(self) -> "Call":
        """Return the next task."""
        return self._first()[0]

    def take(self) -> "Call":
        """Remove and return the next task."""
        queue = self._first()
        task = queue.popleft()
        self._count -= 1
        if not queue:
            del self._queues[-heappop(self._urgencies)]
        return task

    def forget(self) -> None:
        """Note that one of the tasks is `done`: it will not be taken."""
        self._count -= 1

    def clear(self) -> "list[Call]":
        """Take all tasks out, and return them."""
        return [self.take() for _ in range(self._count)]

    def _queue(self, priority: int) -> "deque[Call]":
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = deque()
            heappush(self._urgencies, -priority)
        return queue

    def _first(self) -> "deque[Call]":
        """Return the queue whose first task is the next."""
        while True:
            priority = -self._urgencies[0]
            queue = self._queues[priority]
            while queue:
                if not queue[0].done:
                    return queue
                queue.popleft()
            heappop(self._urgencies)
            del self._queues[priority]
