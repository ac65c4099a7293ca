"""An object that lives in a broker, as a worker has it.

It pickles as an address, a key and a number, and connects on first use. All objects of
a process share one connection, whichever threads they are used in.
"""

import threading
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from aioipc.broker.connecting import Address, find_link
from aioipc.broker.link import Link
from aioipc.broker.waiting import call
from aioipc.transport.forks import forget_in_forks

__all__ = ["RemoteObject", "Spec", "Traits", "rebuild"]

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
        if _known.objects.get(self._spec) is self:
            link.kept[self._number] = self
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


class _Known:
    """The objects of this process, as long as someone has them: a `Link` may be enough.

    :ivar lock: held while one is made, so that there are not two
    """

    def __init__(self) -> None:
        self.objects: WeakValueDictionary[Spec, RemoteObject] = WeakValueDictionary()
        forget_in_forks(self)
        self.forget()

    def forget(self) -> None:
        """Have a lock that no thread of the parent holds; in a forked child."""
        self.lock = threading.RLock()  # a finalizer may want an object meanwhile


_known = _Known()


def rebuild(kind: type[R], spec: Spec) -> R:
    """Return this process's object: there is one.

    It is kept for as long as the connection that it has used, and as the broker knows
    it: a pool's task that uses it finds what another one has left there.
    """
    with _known.lock:
        known: Any = _known.objects.get(spec)
        if known is None:
            known = _known.objects[spec] = kind(spec)
    return known
