"""Who is measured: one file for each library, behind two small contracts.

A library is imported only when its contestant is opened, in the process that is
measured: those that are not installed are skipped, and nobody pays for another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.connection import Connection

    from benchmarks.exchanges import Link
    from benchmarks.media import Medium

WORKERS = 2
METHOD = "forkserver"


@dataclass(frozen=True)
class LinkContestant:
    """A way to talk to a peer over what `multiprocessing` has made.

    :param loop: the event loop that it runs on; None when it blocks
    :param pipe: opens a Connection as an awaitable link
    :param queues: opens a pair of queues, outgoing and incoming, as an awaitable link
    :param slowness: it gets so many times fewer messages, and times are for each
    :param brings: its own carrier of messages, which it has instead
    :param module: what must be installed
    """

    library: str
    loop: str | None
    pipe: Callable[[Connection], AbstractAsyncContextManager[Link]] | None = None
    queues: Callable[[Any, Any], AbstractAsyncContextManager[Link]] | None = None
    slowness: int = 1
    brings: Medium | None = None
    module: str | None = None

    @property
    def name(self) -> str:
        return f"{self.library} on {self.loop}" if self.loop else self.library


class Calls(NamedTuple):
    """How calls are made.

    :ivar run: ``await run(function, *args)``
    :ivar begin: begins a call and returns what is awaited, in the form that
        `asyncio.gather` takes with the least effort
    :ivar run_many: ``await run_many(function, [args, ...])``, where a library
        awaits many calls in a better way than one by one
    """

    run: Callable[..., Awaitable[Any]]
    begin: Callable[..., Awaitable[Any]]
    run_many: Callable[..., Awaitable[Any]] | None = None


@dataclass(frozen=True)
class PoolContestant:
    """A pool of two workers.

    :param open: opens it
    :param slowness: it gets so many times fewer calls, and times are for each
    :param module: what must be installed
    """

    library: str
    loop: str
    open: Callable[[], AbstractAsyncContextManager[Calls]]
    slowness: int = 1
    module: str | None = None

    @property
    def name(self) -> str:
        return f"{self.library} on {self.loop}"


@dataclass(frozen=True)
class Reference:
    """What others are compared with, and is no contestant: its trial is its own."""

    name: str
    measure: Callable[[], Any]
    module: str | None = None


def is_installed(contestant: Any) -> bool:
    """Whether what a contestant needs is there."""
    module = getattr(contestant, "module", None)
    return module is None or find_spec(module) is not None
