"""Who is measured: one file for each library, behind one small contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.connection import Connection

    from benchmarks.exchanges import Link


@dataclass(frozen=True)
class LinkContestant:
    """A way to talk to a peer over what `multiprocessing` has made.

    :param loop: the event loop that it runs on; None when it blocks
    :param pipe: opens a Connection as an awaitable link
    :param queues: opens a pair of queues, outgoing and incoming, as an awaitable link
    :param slowness: it gets so many times fewer messages, and times are for each
    """

    library: str
    loop: str | None
    pipe: Callable[[Connection], AbstractAsyncContextManager[Link]] | None = None
    queues: Callable[[Any, Any], AbstractAsyncContextManager[Link]] | None = None
    slowness: int = 1

    @property
    def name(self) -> str:
        return f"{self.library} on {self.loop}" if self.loop else self.library
