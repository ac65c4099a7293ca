"""Who is connected to a broker: `Server` lets workers in, and sees them out.

The loop holds it, by the task that accepts. So it must be closed by another: by the
`Broker` in the user's hands.
"""

import logging

from aioipc.broker.session import Service, Session
from aioipc.transport.acceptor import Acceptor
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import Loop

__all__ = ["Server"]

_inherited: list["Server"] = []  # the parent's; in a forked child

_logger = logging.getLogger("aioipc")


class Server:
    """Serves workers in a loop, from now on until it is closed.

    :ivar sessions: the workers that are connected
    :ivar services: what they may use, by number
    """

    def __init__(
        self, loop: Loop, acceptor: Acceptor, services: dict[int, Service]
    ) -> None:
        self.acceptor = acceptor
        self.services = services
        self.sessions: dict[Session, None] = {}
        self._loop = loop
        self._accepting = loop.spawn(self._accept)
        forget_in_forks(self)

    def hang_up(self) -> None:
        """Let no one in any more, and say nothing more to those that are."""
        self.acceptor.close()
        for session in self.sessions:
            session.close()

    def close(self) -> None:
        """Hang up, and have back what workers held.

        By then no one should wait for that any more.
        """
        self.hang_up()
        for session in [*self.sessions]:
            self._end(session, "")

    def forget(self) -> None:
        """Stay as it is, in a forked child: asyncio complains of a task it has lost."""
        _inherited.append(self)

    async def _accept(self) -> None:
        while True:
            try:
                sock, _ = await self.acceptor.accept()
            except OSError as error:
                if not self.acceptor.closed:
                    _logger.warning("a broker lets no more workers in: %s", error)
                return
            self.sessions[Session(self._loop, sock, self.services, self._end)] = None

    def _end(self, session: Session, why: str) -> None:
        """Have back what a worker held."""
        if why:
            _logger.warning("a worker of a broker was dropped: %s", why)
        del self.sessions[session]
        session.close()
        for call in [*session.calls.values()]:
            if call.withdraw is not None:
                call.withdraw()
        for service in [*self.services.values()]:
            service.forget(session)
        session.drop_tokens()
