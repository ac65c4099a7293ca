"""Who may come in: accepting connections, each after a handshake of its own.

Note to the next reader. What could go wrong, and what keeps it from doing so:

- A client that stalls must not hold up the others. So each handshake is a task of its
  own, with a deadline. A client that is refused is logged and counted, and no one's
  exception.
- Stallers must not eat up the memory or the descriptors either. So at most
  `max_handshakes` go on at a time, and the rest wait in the kernel. When there is a
  client for whom there is no place, the oldest handshake has only a second from its
  begin: an honest client needs milliseconds. So of 200 clients at once all are served,
  and after so many stallers the next one waits for a second.
- A cancelled `accept` must not lose a client. So clients that have passed lie in
  `_ready`, a task that is woken takes one from there itself, and returns it without
  another `await`. Handshakes go on when no task waits, but no new one begins: then
  clients wait in the kernel.
- Out of descriptors, a listening socket stays ready for ever. So it is left alone for
  `PAUSE` seconds then.

The loop holds the watch, and the watch this object: so it must be closed by another,
which is the object in the user's hands.
"""

import errno
import logging
import socket
from collections import deque
from dataclasses import dataclass
from multiprocessing import util
from typing import TYPE_CHECKING, Self

from aioipc.errors import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    UndeliveredError,
)
from aioipc.transport.choice import Transport, check_transport, open_watch
from aioipc.transport.handshakes import HANDSHAKE_TIMEOUT, MAX_HANDSHAKES, Handshakes
from aioipc.transport.listening import (
    Address,
    check_authkey,
    family_of,
    listen,
    remove_file,
)
from aioipc.transport.loops import NOWHERE, Loop, Timer, settle
from aioipc.transport.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioipc.transport.waiters import Waiter
    from aioipc.transport.watches import Watch

__all__ = ["Acceptor", "ListenerStatistics"]

PAUSE = 0.1
"""Seconds to wait for a free descriptor before accept(2) is tried again."""

BURST = 16
"""Clients accepted without a pause before the loop gets its turn."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# accept(2): errors of the new connection, not of the listening socket.
_LOST = {
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENONET,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
}

_logger = logging.getLogger("aioipc")


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """The state of an `AsyncListener`, or of another acceptor.

    :ivar tasks_accepting: are in `accept`
    :ivar handshakes: clients that have not yet shown that they know the key
    :ivar ready: clients that have, and wait to be accepted
    :ivar accepted: clients handed out so far
    :ivar refused: clients refused so far: a wrong key, garbage, a stall, hung up
    """

    tasks_accepting: int
    handshakes: int
    ready: int
    accepted: int
    refused: int


class Acceptor:
    """Hands out connected sockets whose peer knows the key.

    It serves one event loop at a time, and others after it. In a forked worker it is
    closed.

    :param sock: listening, and not used by anyone else meanwhile; closed by `close`
    :param authkey: None lets everyone in, and is for AF_UNIX only
    :param handshake_timeout: seconds, for ever if None
    :param max_handshakes: how many clients are heard at a time
    :ivar address: where it listens
    :ivar last_accepted: the address of the client that was handed out last
    :ivar on_ready: what to call when `ready` may have become true
    :raises ValueError: if the family demands a key and there is none
    """

    def __init__(
        self,
        sock: socket.socket,
        authkey: bytes | None,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        max_handshakes: int = MAX_HANDSHAKES,
        transport: Transport | None = None,
    ) -> None:
        check_transport(transport)
        self.address: Address = sock.getsockname()
        self.family: str = socket.AddressFamily(sock.family).name
        check_authkey(authkey, self.family, self.address)
        self.last_accepted: Address | None = None
        self.on_ready: set[Callable[[], None]] = set()
        self._sock = sock
        self._timeout = sock.gettimeout()  # of its methods, while it was another's
        self._transport: Transport | None = transport
        self._removal: util.Finalize | None = None
        self._lent = False  # whether workers may have been given the socket
        self._closed = False
        self._broken: OSError | None = None
        self._ready: deque[tuple[socket.socket, Address]] = deque()
        self._accepted = 0
        self._handshakes: Handshakes | None = None
        if authkey is not None:
            self._handshakes = Handshakes(
                authkey,
                timeout=handshake_timeout,
                limit=max_handshakes,
                transport=transport,
                passed=self._pass,
                left=self._look_again,
            )
        self._loop: Loop = NOWHERE
        self._watch: Watch
        self._turn = Turn()
        self._waiter: Waiter | None = None
        self._pause: Timer | None = None
        self._exhausted = False
        util.register_after_fork(self, Acceptor.close_in_fork)

    @classmethod
    def listen(
        cls,
        address: Address | None = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        max_handshakes: int = MAX_HANDSHAKES,
        transport: Transport | None = None,
    ) -> Self:
        """Return one on a new socket (see `listening.listen`) and file of its own."""
        check_transport(transport)
        check_authkey(authkey, family_of(address, family), address)
        self = cls(
            listen(address, family, backlog),
            authkey,
            handshake_timeout=handshake_timeout,
            max_handshakes=max_handshakes,
            transport=transport,
        )
        file = self.address
        if isinstance(file, str):
            # At exit at the latest, and not in a fork
            self._removal = util.Finalize(self, remove_file, (file,), exitpriority=0)
        return self

    async def accept(self) -> tuple[socket.socket, Address]:
        """Return a connected socket, not blocking, and its peer's address.

        The tasks that wait are served in the order in which they came. A cancel loses
        no client: the next accept gets it.

        :raises ClosedResourceError: if this is closed, now or meanwhile
        :raises BrokenResourceError: if the listening socket no longer works
        """
        if not self._loop.is_current():
            self._move()
        turn = self._turn
        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            while not self._ready:
                self._check()
                self._look()
                self._waiter = self._loop.waiter()
                await self._waiter
            sock, self.last_accepted = self._ready.popleft()
            self._accepted += 1
            return sock, self.last_accepted
        finally:
            turn.pass_on()

    @property
    def ready(self) -> bool:
        """Whether an `accept` would end at once, with a client or with an error."""
        return bool(self._ready) or self._closed or self._broken is not None

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def fileno(self) -> int:
        """Return the descriptor of the listening socket.

        :raises ClosedResourceError: if it is closed
        """
        if self._closed:
            raise ClosedResourceError("the listener is closed")
        return self._sock.fileno()

    def close(self) -> None:
        """Close the listening socket and remove its file, if it was made by `listen`.

        Clients that have not been handed out are dropped; tasks that wait get
        ClosedResourceError.
        """
        if not self._closed:
            self._let_go()
            self._sock.close()
            if self._removal is not None:
                self._removal()

    def detach(self) -> socket.socket:
        """Give the listening socket back as it was, and close this without it.

        Its file, if it has one, is the caller's from now on.

        :raises UndeliveredError: if there are clients that have not been handed out
        """
        if self._closed:
            raise ClosedResourceError("the listener is closed")
        handshakes = len(self._handshakes or ())
        if self._ready or handshakes:
            raise UndeliveredError(
                f"{len(self._ready)} clients wait to be accepted, and "
                f"{handshakes} are in the middle of the handshake"
            )
        self._let_go()
        if self._removal is not None:
            self._removal.cancel()
        self._sock.settimeout(self._timeout)
        return self._sock

    def lend(self) -> None:
        """Make the listening socket as it was, until the next accept, for a worker.

        :raises BusyResourceError: if tasks accept, or clients have not been handed out
        """
        state = self.statistics()
        if state.tasks_accepting or state.ready or state.handshakes:
            raise BusyResourceError(f"the listener is in use here: {state}")
        self._lent = True
        self._release()
        self._sock.settimeout(self._timeout)

    def close_in_fork(self) -> None:
        """Give up what belongs to the parent; in a forked worker.

        As long as it is open there, clients connect to a listener that is no more.
        """
        self.on_ready.clear()
        self._let_go()
        if not self._lent:
            self._sock.close()

    def statistics(self) -> ListenerStatistics:
        """Return who waits for whom."""
        return ListenerStatistics(
            tasks_accepting=0 if self._loop.is_closed() else self._turn.tasks,
            handshakes=len(self._handshakes or ()),
            ready=len(self._ready),
            accepted=self._accepted,
            refused=0 if self._handshakes is None else self._handshakes.refused,
        )

    # From the kernel

    def _look(self) -> None:
        """Have the loop accept clients, unless that is of no use for now."""
        if self._pause is None and not self.ready:
            self._watch.finish()

    def _step(self) -> bool:
        """Accept what is there; True if no more is wanted for now."""
        handshakes = self._handshakes
        for n in range(BURST):
            if self._turn.tasks <= len(self._ready):
                return True
            if handshakes is not None and handshakes.full:
                if n:
                    return False  # the loop calls again if there is one more
                handshakes.hurry()
                return True
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                return self._failed(error)
            self._exhausted = False
            sock.setblocking(False)
            if handshakes is None:
                self._pass(sock, address)
            else:
                handshakes.begin(self._loop, sock, address)
        return False

    def _failed(self, error: OSError) -> bool:
        if error.errno in _LOST:
            return False
        if error.errno in _EXHAUSTED:
            if not self._exhausted:
                _logger.warning("no client can be accepted for now: %s", error)
            self._exhausted = True
            self._pause = self._loop.call_later(PAUSE, self._end_pause)
        else:
            self._broken = error
            self._wake()
        return True

    def _end_pause(self) -> None:
        self._pause = None
        self._look()

    def _pass(self, sock: socket.socket, address: Address) -> None:
        self._ready.append((sock, address))
        self._wake()

    def _look_again(self) -> None:
        """Look for more clients, now that there is a place."""
        if self._turn.taken and not self._closed:
            self._look()

    def _wake(self) -> None:
        if self._waiter is not None and not self._loop.is_closed():
            self._waiter.wake()
        for tell in list(self.on_ready):
            tell()

    # The loop

    def _check(self) -> None:
        if self._closed:
            raise ClosedResourceError("the listener is closed")
        if self._broken is not None:
            msg = "the listening socket no longer works"
            raise BrokenResourceError(msg) from self._broken

    def _move(self) -> None:
        """Settle in the current loop."""
        self._check()
        loop = settle(self._loop, f"the listener at {self.address!r}")
        self._release()
        self._turn = Turn()  # whoever had it went with its loop
        self._sock.setblocking(False)
        self._watch = open_watch(
            loop, self._sock.fileno(), "read", self._step, self._transport
        )
        self._loop = loop

    def _release(self) -> None:
        """Leave the loop, and whom it has not come to know."""
        if self._loop is NOWHERE:
            return
        self._watch.close()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._handshakes is not None:
            self._handshakes.drop_all()
        self._loop = NOWHERE

    def _let_go(self) -> None:
        """Be closed, but for the listening socket."""
        self._closed = True
        self._wake()
        self._waiter = None
        self._release()
        while self._ready:
            self._ready.popleft()[0].close()
