"""First come, first served: which of several tasks may use a stream next."""

from collections import deque

import anyio

__all__ = ["Turn"]


class Turn:
    """A lock for the tasks of one loop; fair, and free of charge for a single task.

    ::

        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            ...
        finally:
            turn.pass_on()
    """

    __slots__ = ("_waiting", "taken")

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[anyio.Event] = deque()

    @property
    def tasks(self) -> int:
        """How many tasks have the turn or wait for it."""
        return self.taken + len(self._waiting)

    async def wait(self) -> None:
        """Wait for those who have the turn or came before; it stays taken.

        A cancel leaves the order of the others as it was.
        """
        mine = anyio.Event()
        self._waiting.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self.pass_on()
            else:
                self._waiting.remove(mine)
            raise

    def pass_on(self) -> None:
        """Give the turn to the task that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self.taken = False
