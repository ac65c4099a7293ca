"""What carries out the calls of one pool on one event loop: the part that all share.

A `Crew` of worker processes is one, the threads of a `ThreadPool` are another. What
submits calls and waits for them (`front`, `maps`, `task`, `executor`) knows no more of
it than what stands here.

Everything here runs in the loop.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aioipc.errors import ClosedResourceError, TaskCancelled, WorkerStartError
from aioipc.pool.futures import FutureTask
from aioipc.pool.task import Call, PoolTask
from aioipc.transport.loops import AsyncioLoop, Loop

if TYPE_CHECKING:
    from aioipc.abc import PoolStatistics
    from aioipc.pool.options import Options
    from aioipc.transport.waiters import Waiter

__all__ = ["Engine"]


class Engine(ABC):
    """Carries out the calls of one pool on one event loop.

    :ivar refusal: why nothing can be submitted, if that is so
    :ivar broken: what stopped it, if something has
    :ivar open: calls that have no outcome yet
    :ivar task_type: of the handle of a call
    :cvar chunk_options: with which `call_each` is called for a chunk of a map
    """

    chunk_options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.refusal: str | None = None
        self.broken: BaseException | None = None
        self.closed = False
        self.open: dict[Call, None] = {}
        self.finished: int = 0
        self.failed: int = 0
        self.task_type: type[PoolTask[Any]] = (
            FutureTask if isinstance(loop, AsyncioLoop) else PoolTask
        )
        self._numbers = 0
        self._watchers: list[Waiter] = []

    @property
    @abstractmethod
    def width(self) -> int:
        """How many tasks it may be at, at the same time."""

    # Calls

    @abstractmethod
    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: "Options",
    ) -> Call:
        """Begin a call.

        :raises ClosedResourceError: as `check` does
        """

    @abstractmethod
    def stop(self, call: Call, error: BaseException) -> None:
        """Give a call an outcome before it has one, and stop the work on it."""

    def cancel(self, call: Call) -> None:
        """Stop a call that its user does not want any more."""
        self.stop(call, TaskCancelled(f"task {call.name} was cancelled"))

    def look(self, call: Call) -> None:  # noqa: B027 - it may never be
        """Look for the answer to a call that is alone, if that is worth it."""

    def waited(self, seconds: float, finished: int) -> None:  # noqa: B027
        """Note how long an answer has taken that the loop brought.

        :param finished: the count of then, to tell whether it was the only one
        """

    def check(self) -> None:
        """Raise if nothing can be submitted any more."""
        if self.broken is not None:
            raise WorkerStartError(str(self.broken)) from self.broken.__cause__
        if self.refusal is not None:
            raise ClosedResourceError(self.refusal)

    # States, and waiting for them

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that calls and workers bring about."""
        while not condition():
            waiter = self.loop.waiter()
            self._watchers.append(waiter)
            await waiter

    def has_no_calls(self) -> bool:
        """Whether all calls have an outcome."""
        return not self.open

    def has_no_waiters(self) -> bool:
        """Whether no `run` is under way."""
        return not any(call.waiter for call in self.open)

    @abstractmethod
    def has_no_workers(self) -> bool:
        """Whether nothing is left of it that could still end by itself."""

    @abstractmethod
    def statistics(self) -> "PoolStatistics":
        """Return how many workers and tasks there are."""

    # The end

    def refuse(self, why: str = "the pool is closed") -> None:
        """Take no more calls."""
        self.refusal = why

    @abstractmethod
    def end_all(self) -> None:
        """Have the workers end when they have nothing to do."""

    @abstractmethod
    def close(self, error: BaseException) -> None:
        """End at once; calls that have no outcome get `error`."""

    @abstractmethod
    def abandon(self) -> None:
        """End at once, without a loop."""

    def forget(self) -> None:
        """Leave all to the parent; in a forked child."""
        self.refuse("the pool belongs to the process that this one was forked from")
        self.closed = True

    # For those that derive from it

    def _fail_all(self, error: BaseException) -> None:
        """Give an outcome to all calls that have none."""
        for call in list(self.open):
            self._resolve_failed(call, error)
        self._notify()

    def _fail_abandoned(self) -> None:
        """Give an outcome to all calls, soon, or now if the loop is over."""
        error = TaskCancelled("the pool was not closed")
        if not self.loop.call_soon(lambda: self._fail_all(error)):
            # No task can be waiting any more, but threads can, by the executor.
            for call in list(self.open):
                call.waiter = None
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._resolve_failed(call, error)

    def _resolve_failed(self, call: Call, error: BaseException) -> None:
        if not call.done:
            self._fail(call, error)

    def _fail(self, call: Call, error: BaseException) -> None:
        self.open.pop(call, None)
        self.failed += 1
        call.resolve(None, error)
        self._notify()

    def _notify(self) -> None:
        if self._watchers:
            watchers, self._watchers = self._watchers, []
            for waiter in watchers:
                waiter.wake()
