"""The little that the bridge asks of an event loop: asyncio, uvloop or trio."""

import asyncio
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from aioipc.errors import EventLoopError
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.waiters import DirectFuture, TrioWaiter, Waiter

if TYPE_CHECKING:
    import trio.lowlevel

A = TypeVar("A")
B = TypeVar("B")

__all__ = [
    "NOWHERE",
    "AsyncioLoop",
    "Loop",
    "Timer",
    "TrioLoop",
    "current_loop",
    "current_task",
    "running_loop",
    "settle",
    "task_name",
]

# C, and None where get_running_loop() would raise: this is on every message's path.
running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


class Timer(Protocol):
    """A call that is to come, or a task that runs."""

    def cancel(self) -> Any:
        """Have it not come, or end."""
        ...


# By the id of `Loop.key`: as long as the one lives, so does the other.
_in_use: WeakValueDictionary[int, "Loop"] = WeakValueDictionary()


class Loop(ABC):
    """One run of one event loop.

    :param key: what the framework has one of for each run
    :ivar mark: what `running_loop` returns in it and nowhere else, if there is such
    :ivar served: the descriptor whose message the loop brought last
    """

    __slots__ = ("__weakref__", "_forgotten", "mark", "served")

    def __init__(self, key: object) -> None:
        self.mark: object = self
        self.served = -1
        self._forgotten = False
        _in_use[id(key)] = self
        forget_in_forks(self)

    def forget(self) -> None:
        """Be over: a fork has not the thread that ran it."""
        self._forgotten = True

    @abstractmethod
    def is_current(self) -> bool:
        """Whether the caller runs in it."""

    @abstractmethod
    def is_over(self) -> bool:
        """Whether nothing runs in it any more, unless it is resumed."""

    def is_closed(self) -> bool:
        """Whether nothing can run in it any more."""
        return self.is_over()

    @abstractmethod
    def call_soon(self, function: Callable[[], Any]) -> bool:
        """Have `function` called in it, from any thread; False if it is over."""

    @abstractmethod
    def call_later(self, seconds: float, function: Callable[[], Any]) -> Timer:
        """Have `function` called in it after some time; from within it."""

    @abstractmethod
    def repeat(self, function: Callable[[], bool]) -> None:
        """Have `function` called in each of its turns, until it returns True.

        From within it; meanwhile it does not sleep.
        """

    @abstractmethod
    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        """Run a task in it, which must not raise; from within it."""

    @abstractmethod
    def waiter(self) -> Waiter:
        """Return something for the current task to wait for."""

    def open_to_interrupts(self, function: Callable[[A], B]) -> Callable[[A], B]:
        """Return a function that Ctrl-C may end, also in a callback of the loop."""
        return function

    def interrupt(self) -> None:
        """End the program by KeyboardInterrupt; from a callback in the main thread."""
        raise KeyboardInterrupt


class AsyncioLoop(Loop):
    """asyncio's own loop, or uvloop."""

    __slots__ = ("_together", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.mark = self.loop = loop
        self._together: list[tuple[Context, Callable[[Any], object], Any]] = []

    def is_current(self) -> bool:
        return running_loop() is self.loop

    def is_over(self) -> bool:
        # A loop between two run_until_complete() is not closed, but nobody is in it.
        return self._forgotten or not self.loop.is_running()

    def is_closed(self) -> bool:
        return self._forgotten or self.loop.is_closed()

    def call_soon(self, function: Callable[[], Any]) -> bool:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    def call_later(self, seconds: float, function: Callable[[], Any]) -> Timer:
        return self.loop.call_later(seconds, function)

    def repeat(self, function: Callable[[], bool]) -> None:
        self.loop.call_soon(self._repeat, function)

    def _repeat(self, function: Callable[[], bool]) -> None:
        if not function():
            self.loop.call_soon(self._repeat, function)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        return self.loop.create_task(function())

    def waiter(self) -> Waiter:
        return DirectFuture(loop=self.loop)

    def call_together(
        self, function: Callable[[Any], object], argument: Any, context: Context
    ) -> None:
        """Have `function` called soon, and with it all that come until then.

        From within the loop. Many of them cost little more than one.
        """
        if not self._together:
            self.loop.call_soon(self._call_together)
        self._together.append((context, function, argument))

    def _call_together(self) -> None:
        calls, self._together = iter(self._together), []
        try:
            for context, function, argument in calls:
                context.run(function, argument)
        finally:  # an error is the loop's to handle, and costs the others nothing
            for context, function, argument in calls:
                self.call_together(function, argument, context)


class TrioLoop(Loop):
    """One `trio.run`."""

    __slots__ = ("_trio", "token")

    def __init__(self, token: "trio.lowlevel.TrioToken") -> None:
        super().__init__(token)
        self._trio = sys.modules["trio"]
        self.token = token

    def is_current(self) -> bool:
        try:
            return self._trio.lowlevel.current_trio_token() is self.token
        except RuntimeError:
            return False

    def is_over(self) -> bool:
        return self._forgotten or not self.call_soon(bool)

    def call_soon(self, function: Callable[[], Any]) -> bool:
        try:
            self.token.run_sync_soon(function)
        except self._trio.RunFinishedError:
            return False
        return True

    def call_later(self, seconds: float, function: Callable[[], Any]) -> Timer:
        async def call() -> None:
            await self._trio.sleep(seconds)
            function()

        return self.spawn(call)

    def repeat(self, function: Callable[[], bool]) -> None:
        async def call() -> None:
            while not function():
                await self._trio.lowlevel.checkpoint()

        self.spawn(call)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        scope = self._trio.CancelScope()

        async def run() -> None:
            with scope:
                await function()

        self._trio.lowlevel.spawn_system_task(run)
        return scope

    def waiter(self) -> Waiter:
        return TrioWaiter()

    def open_to_interrupts(self, function: Callable[[A], B]) -> Callable[[A], B]:
        @self._trio.lowlevel.disable_ki_protection
        def call(argument: A) -> B:
            return function(argument)

        return call

    def interrupt(self) -> None:
        # A callback must not raise, but is protected: trio raises it in the main task.
        signal.raise_signal(signal.SIGINT)


class _Nowhere(Loop):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(self)

    def is_current(self) -> bool:
        return False

    def is_over(self) -> bool:
        return True

    def call_soon(self, function: Callable[[], Any]) -> bool:  # noqa: ARG002
        return False

    def call_later(self, seconds: float, function: Callable[[], Any]) -> Timer:
        raise NotImplementedError

    def repeat(self, function: Callable[[], bool]) -> None:
        raise NotImplementedError

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        raise NotImplementedError

    def waiter(self) -> Waiter:
        raise NotImplementedError


NOWHERE = _Nowhere()
"""The loop of an object that has not been used yet."""


def current_loop() -> Loop:
    """Return the loop that the caller runs in.

    :raises RuntimeError: outside of one
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        token = trio.lowlevel.current_trio_token()
        return _in_use.get(id(token)) or TrioLoop(token)
    loop = asyncio.get_running_loop()
    return _in_use.get(id(loop)) or AsyncioLoop(loop)


def current_task() -> Any:
    """Return the task that the caller runs in, of asyncio's or trio's, or None."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()
    return None if running_loop() is None else asyncio.current_task()


def task_name(task: Any) -> str:
    """Return the name of a task of asyncio's or trio's."""
    return task.get_name() if isinstance(task, asyncio.Task) else task.name


def settle(old: Loop, what: str) -> Loop:
    """Return the current loop for `what`, which was at home in `old`.

    :raises EventLoopError: if `old` is still running
    """
    if not old.is_over():
        msg = f"{what} is in use by another event loop, which is still running"
        raise EventLoopError(msg)
    return current_loop()
