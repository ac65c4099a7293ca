"""`Broker`: queues and locks that live in the coordinator and survive its workers.

All state is in the coordinator's loop. A worker connects on first use, over a private
Unix socket that demands a key, and its end is the end of its connection.
"""

# ruff: noqa: N802 - multiprocessing's names

import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal, Self

import anyio
import anyio.lowlevel

from aioipc.broker.connecting import Address
from aioipc.broker.directory import Directory
from aioipc.broker.locks import (
    BrokerBarrier,
    BrokerCondition,
    BrokerEvent,
    BrokerLock,
    BrokerSemaphore,
)
from aioipc.broker.primitives import Barrier, Condition, Event, Lock, Semaphore
from aioipc.broker.queues import BrokerDeque, BrokerQueue
from aioipc.broker.remote import Spec, Traits
from aioipc.broker.server import Server
from aioipc.broker.shelves import Heap, Line, Shelf
from aioipc.broker.store import Store
from aioipc.errors import ClosedResourceError
from aioipc.transport.acceptor import Acceptor
from aioipc.transport.ends import LoopEnd
from aioipc.transport.loops import NOWHERE, Loop, current_loop

__all__ = ["Ack", "Broker", "BrokerStatistics"]

Ack = Literal["auto", "manual"]


@dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """The state of a `Broker`.

    :ivar objects: queues, but for those that were closed and are empty, and locks
    :ivar workers: process ids of the workers that are connected
    :ivar handshakes: workers that have not yet shown that they know the key, or said
        who they are
    :ivar refused: that did not
    """

    objects: int
    workers: tuple[int, ...]
    handshakes: int
    refused: int


class Broker:
    """Queues and locks, awaited here and blocking in workers, which survive these.

    ::

        async with aioipc.Broker() as broker:
            jobs = broker.PriorityQueue(maxsize=1000)
            async with aioipc.Process(target=work, args=(jobs,)):
                await jobs.put((1, "urgent"))

    A worker gets what it is passed, by any way that pickles it. Another program finds
    what has a name, by a `RemoteBroker` with address and key.

    :param address: of a Unix socket, or a host and a port (0 for a free one); None for
        a socket in a private directory
    :param authkey: that workers must know; None for one of its own, which workers get
        with what they are passed. A host demands one
    """

    def __init__(
        self, address: Address | None = None, authkey: bytes | None = None
    ) -> None:
        if authkey is None and isinstance(address, tuple):
            raise ValueError("a broker that can be reached by TCP demands an authkey")
        self._address: Any = address
        self._authkey = secrets.token_bytes(32) if authkey is None else authkey
        self._loop: Loop = NOWHERE
        self._server: Server | None = None
        self._loop_end: LoopEnd | None = None
        self._numbers = count(1)
        self._directory = Directory()

    @property
    def address(self) -> Address:
        """Where workers connect.

        :raises ClosedResourceError: if the broker is not open
        """
        return self._require_open()

    @property
    def authkey(self) -> bytes:
        """The key that workers must know."""
        return self._authkey

    def Queue(
        self, maxsize: int = 0, *, ack: Ack = "auto", name: str | None = None
    ) -> BrokerQueue[Any]:
        """Return a queue: first in, first out.

        :param maxsize: items at most; 0 for any number
        :param ack: whose an item is that a worker has got: ``"auto"``: the worker's, as
            soon as `get` returns; ``"manual"``: on lease until `task_done`, so that it
            goes to another if the worker dies before, or gives it back
        :param name: by which a `RemoteBroker` finds it
        :raises ValueError: if there is something of that name
        """
        traits = Traits(is_ahead=maxsize <= 0, is_manual=_is_manual(ack))
        return self._queue(BrokerQueue, Line(), maxsize, traits, name)

    def LifoQueue(
        self, maxsize: int = 0, *, ack: Ack = "auto", name: str | None = None
    ) -> BrokerQueue[Any]:
        """Return a queue: last in, first out; see `Queue`."""
        traits = Traits(is_lifo=True, is_manual=_is_manual(ack))
        return self._queue(BrokerQueue, Line(), maxsize, traits, name)

    def PriorityQueue(
        self, maxsize: int = 0, *, ack: Ack = "auto", name: str | None = None
    ) -> BrokerQueue[Any]:
        """Return a queue: the smallest first, and of equal ones the first that came.

        Each item is compared with the one that is the first then: if they can't be
        compared, `put` raises what that raises. Any other two that can't be are taken
        as equal. So ``(1, job)`` needs jobs that can be compared, or a number between.

        See `Queue`. What workers put is unpickled here, to be compared.
        """
        traits = Traits(is_ordered=True, is_manual=_is_manual(ack))
        return self._queue(BrokerQueue, Heap(), maxsize, traits, name)

    def Deque(
        self, maxsize: int = 0, *, ack: Ack = "auto", name: str | None = None
    ) -> BrokerDeque[Any]:
        """Return a queue with two ends; see `Queue`."""
        traits = Traits(is_manual=_is_manual(ack))
        return self._queue(BrokerDeque, Line(), maxsize, traits, name)

    def Lock(self, *, name: str | None = None) -> BrokerLock:
        """Return a lock, which passes on when the worker dies that holds it."""
        lock = BrokerLock(self._loop, self._spec(), Lock())
        return self._add(name, lock)

    def Semaphore(self, value: int = 1, *, name: str | None = None) -> BrokerSemaphore:
        """Return a semaphore; what a worker holds is released when it dies."""
        semaphore = BrokerSemaphore(self._loop, self._spec(), Semaphore(value))
        return self._add(name, semaphore)

    def Event(self, *, name: str | None = None) -> BrokerEvent:
        """Return an event."""
        event = BrokerEvent(self._loop, self._spec(), Event())
        return self._add(name, event)

    def Condition(
        self, lock: BrokerLock | None = None, *, name: str | None = None
    ) -> BrokerCondition:
        """Return a condition.

        :param lock: of this broker; None for one of its own
        """
        mine: Any = lock or self.Lock()
        if mine not in self._directory.objects.values():
            raise ValueError("the lock is not of this broker")
        core = Condition(mine._core)  # noqa: SLF001 - it is not the user's
        condition = BrokerCondition(self._loop, self._spec(), core, mine)
        return self._add(name, condition)

    def Barrier(self, parties: int, *, name: str | None = None) -> BrokerBarrier:
        """Return a barrier, which breaks when a worker dies that waits."""
        barrier = BrokerBarrier(self._loop, self._spec(), Barrier(parties))
        return self._add(name, barrier)

    def statistics(self) -> BrokerStatistics:
        """Return how much there is, and who is connected."""
        server = self._server
        if server is None:
            return BrokerStatistics(len(self._directory.objects), (), 0, 0)
        accepting = server.acceptor.statistics()
        pids = [session.pid for session in server.sessions]
        return BrokerStatistics(
            objects=len(self._directory.objects),
            workers=tuple(pid for pid in pids if pid is not None),
            handshakes=accepting.handshakes + accepting.ready + pids.count(None),
            refused=accepting.refused,
        )

    async def aclose(self) -> None:
        """Close the broker: who waits here gets ClosedResourceError.

        Workers that wait, or go on using what they have of it, get BrokenPipeError.
        """
        if self._server is not None:
            server, self._server = self._server, None
            # In this order, nothing passes on to someone who is closed next.
            server.hang_up()
            for obj in self._directory.objects.values():
                obj._close()  # noqa: SLF001 - it is not the user's
            server.close()
        if self._loop_end is not None:
            self._loop_end.cancel()
            self._loop_end = None
        await anyio.lowlevel.checkpoint()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        server = getattr(self, "_server", None)
        if server is not None:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            server.close()

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("the broker is open already")
        self._loop = current_loop()
        # What knows this address from a broker before must not take one for another.
        self._numbers = count(secrets.randbits(48) << 8 | 1)
        self._directory = Directory()
        acceptor = Acceptor.listen(self._address, authkey=self._authkey)
        self._server = Server(self._loop, acceptor, self._directory.services)
        self._loop_end = LoopEnd(self.aclose)
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if self._server is None:
            return "<Broker closed>"
        state = self.statistics()
        where = f"at {self._server.acceptor.address!r}"
        return f"<Broker {where} {state.objects} objects {len(state.workers)} workers>"

    def _queue(
        self,
        kind: type[Any],
        shelf: Shelf,
        maxsize: int,
        traits: Traits,
        name: str | None,
    ) -> Any:
        # TCP forgets what is on its way if a worker ends that has not read everything.
        must_wait = maxsize > 0 or not isinstance(self._require_open(), str)
        spec = self._spec(traits._replace(is_bounded=must_wait))
        drop = partial(self._directory.drop, spec.number)
        return self._add(name, kind(self._loop, spec, Store(shelf, maxsize), drop))

    def _spec(self, traits: Traits | None = None) -> Spec:
        address = self._require_open()
        return Spec(address, self._authkey, next(self._numbers), traits or Traits())

    def _add(self, name: str | None, obj: Any) -> Any:
        service = obj._service  # noqa: SLF001 - it is not the user's
        self._directory.add(obj, service, name)
        return obj

    def _require_open(self) -> Any:
        if self._server is None:
            raise ClosedResourceError("the broker is not open")
        return self._server.acceptor.address


def _is_manual(ack: Ack) -> bool:
    if ack not in {"auto", "manual"}:
        raise ValueError(f"ack must be 'auto' or 'manual', not {ack!r}")
    return ack == "manual"
