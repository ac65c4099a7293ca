"""Who has not yet shown that it knows the key: the handshakes that go on at a time."""

import logging
import math
import socket
from collections.abc import Callable

import anyio

from aioipc.errors import (
    AuthenticationError,
    BrokenResourceError,
    ClosedResourceError,
)
from aioipc.transport.choice import Transport
from aioipc.transport.greeting import Greeting
from aioipc.transport.listening import Address
from aioipc.transport.loops import Loop, Timer

__all__ = ["CROWDED", "HANDSHAKE_TIMEOUT", "MAX_HANDSHAKES", "Handshakes"]

HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a client has to show that it knows the key."""

MAX_HANDSHAKES = 64
"""Clients that are heard at a time."""

CROWDED = 1.0
"""Seconds that the oldest of them has if others wait."""

_logger = logging.getLogger("aioipc")


class Handshakes:
    """The clients that are being heard, each in a task of its own with a deadline.

    One that is refused is logged and counted, and no one's exception.

    :param timeout: seconds, for ever if None
    :param limit: how many are heard at a time
    :param passed: called with the socket and the address of each that knows the key
    :param left: called whenever there is one less
    :ivar refused: how many were refused so far
    """

    def __init__(
        self,
        authkey: bytes,
        *,
        timeout: float | None,
        limit: int,
        transport: Transport | None,
        passed: Callable[[socket.socket, Address], None],
        left: Callable[[], None],
    ) -> None:
        self._authkey = authkey
        self._timeout = math.inf if timeout is None else timeout
        self._limit = limit
        self._transport: Transport | None = transport
        self._passed = passed
        self._left = left
        self._newcomers: dict[_Newcomer, None] = {}  # the oldest first
        self.refused = 0

    def __len__(self) -> int:
        return len(self._newcomers)

    @property
    def full(self) -> bool:
        """Whether there is no place for one more."""
        return len(self._newcomers) >= self._limit

    def hurry(self) -> None:
        """Give the oldest `CROWDED` seconds from its begin at most."""
        next(iter(self._newcomers)).hurry()

    def begin(self, loop: Loop, sock: socket.socket, address: Address) -> None:
        """Hear one more; from within the loop."""
        name = f"a client at {address!r}" if address else "a client"
        greeting = Greeting(
            sock, self._authkey, "listener", what=name, transport=self._transport
        )
        newcomer = _Newcomer(greeting, name, address)
        self._newcomers[newcomer] = None
        newcomer.task = loop.spawn(lambda: self._hear(newcomer))

    def drop_all(self) -> None:
        """Hang up on all of them."""
        newcomers, self._newcomers = self._newcomers, {}
        for newcomer in newcomers:
            newcomer.greeting.close()

    async def _hear(self, newcomer: "_Newcomer") -> None:
        greeting, reason = newcomer.greeting, None
        passed = False
        try:
            with newcomer.within(self._timeout):
                await greeting.run()
                passed = True
        except ClosedResourceError:
            return
        except (AuthenticationError, BrokenResourceError) as error:
            reason = str(error)
        except (OSError, RuntimeError) as error:  # no descriptor or no thread is left
            reason = f"{newcomer.name}: {error}"
        finally:
            self._newcomers.pop(newcomer, None)
            if not passed:
                greeting.close()
        if passed:
            self._passed(greeting.sock, newcomer.address)
        else:
            self.refused += 1
            reason = reason or f"{newcomer.name}: no handshake in time"
            _logger.warning("refused %s", reason)
        self._left()


class _Newcomer:
    """A client in the middle of the handshake."""

    __slots__ = ("_began", "_hurried", "_scope", "address", "greeting", "name", "task")

    def __init__(self, greeting: Greeting, name: str, address: Address) -> None:
        self.greeting = greeting
        self.name = name
        self.address = address
        self.task: Timer | None = None  # a task lives as long as someone holds it
        self._scope: anyio.CancelScope | None = None
        self._began = 0.0
        self._hurried = False

    def within(self, seconds: float) -> anyio.CancelScope:
        """Give it so long; from within its task."""
        self._began = anyio.current_time()
        self._scope = anyio.CancelScope(deadline=self._began + seconds)
        if self._hurried:
            self.hurry()
        return self._scope

    def hurry(self) -> None:
        """Shorten its time, now or when it begins."""
        self._hurried = True
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._began + CROWDED)
