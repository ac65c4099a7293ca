"""Being told that a run of an event loop ends, while it can still do a little.

There is no call for that. But `trio.run`, `asyncio.run` and what does as that does
(`loop.shutdown_asyncgens`: uvloop, anyio) close the asynchronous generators that are
left when the main task has ended: so we leave one. Who just closes a loop is not told.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from weakref import WeakMethod

from aioipc.transport.forks import forget_in_forks

__all__ = ["LoopEnd"]

Method = Callable[[], Awaitable[object]]


class LoopEnd:
    """Awaits a method at the end of the current run of the loop, until `cancel`.

    Together with the end of other generators, in whatever order. On trio it is
    cancelled as soon as it waits.

    :param method: whose object may be collected meanwhile
    """

    __slots__ = ("__weakref__", "_generator", "_method")

    def __init__(self, method: Method) -> None:
        self._method: WeakMethod[Method] | None = WeakMethod(method)
        self._generator = self._wait()
        _take_step(self._generator.asend(None))
        forget_in_forks(self)

    def cancel(self) -> None:
        """Do not call it any more."""
        if self._method is not None:
            self._method = None
            _take_step(self._generator.aclose())

    forget = cancel

    async def _wait(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            reference, self._method = self._method, None
            method = reference and reference()
            if method is not None:
                await method()


def _take_step(awaitable: Awaitable[Any]) -> None:
    """Let something go on that never waits."""
    for _ in awaitable.__await__():
        raise AssertionError
