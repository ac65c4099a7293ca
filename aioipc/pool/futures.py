"""A task that asyncio takes for a future, so that it needs no task of its own for it.

`asyncio.gather`, `wait`, `wait_for`, `shield` and `as_completed` wrap what is merely
awaitable in an asyncio task, which takes more time than a small call. To a future
they listen. They tell one by `_asyncio_future_blocking` (see `asyncio.isfuture`); the
rest is what `asyncio/tasks.py` asks of it in Python 3.11 to 3.14.
"""

from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Self, TypeVar

from aioipc.pool.task import PoolTask, not_done
from aioipc.transport.loops import AsyncioLoop

__all__ = ["FutureTask"]

T = TypeVar("T")


class FutureTask(PoolTask[T]):
    """A `PoolTask` for asyncio's functions.

    A cancelled `gather` cancels what it was given, and so the tasks; one whose
    `on_cancel` is "shield" goes on, and `gather` with it. In Python 3.11 `wait_for`
    cancels what is late, from 3.12 on it only ends its own wait.
    """

    __slots__ = ()

    _asyncio_future_blocking = False

    def add_done_callback(
        self, fn: Callable[[Self], object], /, *, context: Context | None = None
    ) -> None:
        """Have `fn` called with this when it is done, soon; in `context`."""
        if context is None:
            context = copy_context()
        self._call.then(_Callback(fn, self, context, self._home))

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        """Have `fn` not called any more; return how often it would have been."""
        return self._call.drop(
            lambda then: isinstance(then, _Callback) and then.function == fn
        )

    def get_loop(self) -> AbstractEventLoop:
        """Return the event loop that it belongs to."""
        return self._home.loop

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - no one sees it
        return super().cancel()

    def result(self) -> T:
        """Return the result, or raise the error.

        :raises asyncio.CancelledError: if it was cancelled, as a future does
        :raises RuntimeError: if it is not done
        """
        call = self._call
        if not call.done or self.cancelled():
            raise self._make_cancelled_error() if call.done else not_done(self)
        try:
            return call.result()
        finally:
            del self, call  # or the traceback would keep them, and they it

    @property
    def _home(self) -> AsyncioLoop:
        loop = self._engine.loop
        assert isinstance(loop, AsyncioLoop)  # or the task was not made by it
        return loop

    def _make_cancelled_error(self) -> CancelledError:
        return CancelledError(self._cancel_message)

    @property
    def _cancel_message(self) -> str:
        return str(self._call.error or "")


class _Callback:
    """What asyncio wants to be called with a task that is done."""

    __slots__ = ("_context", "_loop", "_task", "function")

    def __init__(
        self,
        function: Callable[[Any], object],
        task: FutureTask[Any],
        context: Context,
        loop: AsyncioLoop,
    ) -> None:
        self.function = function
        self._task = task
        self._context = context
        self._loop = loop

    def __call__(self) -> None:
        self._loop.call_together(self.function, self._task, self._context)
