"""The little that the bridge asks of an event loop: asyncio, uvloop or trio."""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioipc.errors import EventLoopError

if TYPE_CHECKING:
    import trio.lowlevel

__all__ = ["NOWHERE", "AsyncioLoop", "Loop", "TrioLoop", "current_loop", "settle"]

# C, and None where get_running_loop() would raise: this is on every message's path.
_running_loop: Callable[[], asyncio.AbstractEventLoop | None] = (
    asyncio._get_running_loop  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
)


class Loop(ABC):
    """One run of one event loop."""

    __slots__ = ()

    @abstractmethod
    def is_current(self) -> bool:
        """Whether the caller runs in it."""

    @abstractmethod
    def is_over(self) -> bool:
        """Whether nothing will run in it any more."""

    @abstractmethod
    def call_soon(self, function: Callable[[], Any]) -> bool:
        """Have `function` called in it, from any thread; False if it is over."""


class AsyncioLoop(Loop):
    """asyncio's own loop, or uvloop."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def is_current(self) -> bool:
        return _running_loop() is self.loop

    def is_over(self) -> bool:
        # A loop between two run_until_complete() is not over, but nobody is in it.
        return not self.loop.is_running()

    def call_soon(self, function: Callable[[], Any]) -> bool:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True


class TrioLoop(Loop):
    """One `trio.run`."""

    __slots__ = ("_trio", "token")

    def __init__(self, token: "trio.lowlevel.TrioToken") -> None:
        self._trio = sys.modules["trio"]
        self.token = token

    def is_current(self) -> bool:
        try:
            return self._trio.lowlevel.current_trio_token() is self.token
        except RuntimeError:
            return False

    def is_over(self) -> bool:
        return not self.call_soon(bool)

    def call_soon(self, function: Callable[[], Any]) -> bool:
        try:
            self.token.run_sync_soon(function)
        except self._trio.RunFinishedError:
            return False
        return True


class _Nowhere(Loop):
    __slots__ = ()

    def is_current(self) -> bool:
        return False

    def is_over(self) -> bool:
        return True

    def call_soon(self, function: Callable[[], Any]) -> bool:  # noqa: ARG002
        return False


NOWHERE = _Nowhere()
"""The loop of an object that has not been used yet."""


def current_loop() -> Loop:
    """Return the loop that the caller runs in.

    :raises RuntimeError: outside of one
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return TrioLoop(trio.lowlevel.current_trio_token())
    return AsyncioLoop(asyncio.get_running_loop())


def settle(old: Loop, what: str) -> Loop:
    """Return the current loop for `what`, which was at home in `old`.

    :raises EventLoopError: if `old` is still running
    """
    if not old.is_over():
        msg = f"{what} is in use by another event loop, which is still running"
        raise EventLoopError(msg)
    return current_loop()
