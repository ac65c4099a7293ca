"""How a task of the coordinator waits for what a queue or a lock decides.

What it waits for lies with the object that it has registered, not in the coroutine: a
cancel finds it there, and puts it back.
"""

from typing import TYPE_CHECKING, Any

from aioipc.broker.primitives import Wait
from aioipc.broker.store import Getter, Putter

if TYPE_CHECKING:
    from aioipc.broker.shelves import Item
    from aioipc.transport.loops import Loop
    from aioipc.transport.waiters import Waiter

__all__ = ["COORDINATOR", "LocalGetter", "LocalPutter", "LocalWait"]

COORDINATOR = "coordinator"
"""The party that all tasks here are: if they die, so does the broker."""


class Parking:
    """A task that waits until `go_on` is called, if it has not been."""

    __slots__ = ("_loop", "_waiter", "is_over")

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._waiter: Waiter | None = None
        self.is_over = False

    async def wait(self) -> None:
        """Wait."""
        if not self.is_over:
            self._waiter = self._loop.waiter()
            await self._waiter

    def go_on(self) -> None:
        """Have the task go on."""
        self.is_over = True
        if self._waiter is not None:
            self._waiter.wake()


class LocalWait(Wait):
    """A task that waits for a lock or its like.

    :ivar outcome: what it returns or raises, once that is known
    """

    __slots__ = ("outcome", "parking")

    def __init__(self, loop: "Loop") -> None:
        super().__init__(COORDINATOR, self._resolved)
        self.parking = Parking(loop)
        self.outcome: Any = None

    def _resolved(self, outcome: Any) -> None:
        self.outcome = outcome
        self.parking.go_on()


class LocalGetter(Getter):
    """A task that waits for items.

    :ivar items: that it was given; none if the queue is shut down
    """

    __slots__ = ("items", "parking")

    def __init__(self, loop: "Loop", want: int, *, left: bool) -> None:
        super().__init__(want, left=left)
        self.parking = Parking(loop)
        self.items: list[Item] = []

    def give(self, items: "list[Item]") -> None:
        self.items = items
        self.parking.go_on()

    def refuse(self) -> None:
        self.parking.go_on()


class LocalPutter(Putter):
    """A task that waits for room.

    :ivar error: why it can't put
    """

    __slots__ = ("error", "parking")

    def __init__(self, loop: "Loop", items: "list[Item]", *, left: bool) -> None:
        super().__init__(items, left=left)
        self.parking = Parking(loop)
        self.error: Exception | None = None

    def admit(self) -> None:
        self.parking.go_on()

    def refuse(self, error: Exception) -> None:
        self.error = error
        self.parking.go_on()
