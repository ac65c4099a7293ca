"""An object that lives in a broker, as a worker has it.

It pickles as an address, a key and a number, and connects on first use. All objects of
a process share one connection, whichever threads they are used in.
"""

import threading
from typing import Any, NamedTuple, TypeVar

from aioipc.broker.connecting import Address, find_link
from aioipc.broker.link import Link
from aioipc.broker.waiting import call
from aioipc.transport.forks import forget_in_forks

__all__ = ["RemoteObject", "Spec", "Traits", "let_go", "rebuild"]

R = TypeVar("R", bound="RemoteObject")

CONNECT_TIMEOUT = 30.0
"""Seconds that a broker has to answer; its loop may be busy."""


class Traits(NamedTuple):
    """What a worker has to know of a queue.

    :ivar is_bounded: whether a put has to wait: for room or, over TCP, for an answer
    :ivar is_ordered: whether items are compared, and a put may fail
    :ivar is_ahead: whether items may be sent before they are asked for
    :ivar is_manual: whether an item is a worker's until `task_done`
    :ivar is_lifo: whether the last comes first
    """

    is_bounded: bool = False
    is_ordered: bool = False
    is_ahead: bool = False
    is_manual: bool = False
    is_lifo: bool = False


class Spec(NamedTuple):
    """Where an object is to be found.

    :ivar number: of the object in its broker
    """

    address: Address
    authkey: bytes
    number: int
    traits: Traits = Traits()


class RemoteObject:
    """An object that lives in a broker."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._number = spec.number
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Have no connection; in a forked child."""
        self._link: Link | None = None
        self._attaching = threading.Lock()

    def _connect(self) -> Link:
        """Return an open connection: another one if the last has broken."""
        while (link := self._link) is None or not link.is_open:
            address, authkey, _, _ = self._spec
            found = find_link(address, authkey, CONNECT_TIMEOUT)
            with self._attaching:
                if self._link is link:  # or another thread was quicker
                    self._attach(found)
        return link

    def _attach(self, link: Link) -> None:
        """Use a connection from now on: it is another one than before."""
        self._link = link

    def _call(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        return call(self._connect(), self._number, method, *args, timeout=timeout)

    def at(self, address: Address) -> "RemoteObject":
        """Return the same object by another address of its broker."""
        return rebuild(type(self), self._spec._replace(address=address))

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self._spec)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._number} at {self._spec.address!r}>"


_known: dict[Spec, RemoteObject] = {}


def rebuild(kind: type[R], spec: Spec) -> R:
    """Return this process's object: there is one, kept for good.

    A pool's task that uses it finds the connection there that another one has made.
    """
    known: Any = _known.get(spec) or _known.setdefault(spec, kind(spec))
    return known


def let_go(spec: Spec) -> None:
    """Keep this process's object no more: the broker has forgotten it."""
    _known.pop(spec, None)
