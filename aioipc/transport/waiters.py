"""What a task waits for until someone calls `wake` or `resume`; one for each wait."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from typing import Any, Protocol

__all__ = ["DirectFuture", "TrioWaiter", "Waiter"]


class Waiter(Awaitable[None], Protocol):
    """Something to be awaited once, by one task."""

    def wake(self) -> None:
        """Have the task go on, soon; from anywhere in its loop."""
        ...

    def resume(self) -> None:
        """Have the task go on, now if possible; from a callback of the loop's only.

        A task can't go on within another task.
        """
        ...


class DirectFuture(asyncio.Future[None]):
    """A future whose task goes on within `resume`, not one loop iteration later.

    That iteration is a `select` and a tenth of a small round trip on asyncio's own
    loop. It is also a moment at which a task can be cancelled although what it waited
    for has come; here there is no such moment.
    """

    __slots__ = ("_go_on", "_in")

    # A task that awaits a future registers exactly one callback.
    def add_done_callback(
        self, fn: Callable[[Any], object], /, *, context: Context | None = None
    ) -> None:
        self._go_on = fn
        self._in = context

    def resume(self) -> None:
        """Have the task go on, now."""
        if self.done():
            return
        self.set_result(None)
        assert self._in is not None
        self._in.run(self._go_on, self)

    def wake(self) -> None:
        """Have the task go on, soon."""
        if not self.done():
            self.set_result(None)
            self.get_loop().call_soon(self._go_on, self, context=self._in)

    def fail(self, error: Exception) -> None:
        """Have the task raise `error`, soon."""
        self.set_exception(error)
        self.get_loop().call_soon(self._go_on, self, context=self._in)

    def cancel(self, msg: Any | None = None) -> bool:
        """Have the task cancelled, soon; as with any future."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.get_loop().call_soon(self._go_on, self, context=self._in)
        return cancelled


class TrioWaiter:
    """For a task of trio's, which goes on in the next round of its loop."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: Any = sys.modules["trio"].Event()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()

    def wake(self) -> None:
        """Have the task go on, soon."""
        self._event.set()

    resume = wake
