"""`RemoteBroker`: the way to a broker for programs that it has not started."""

from typing import Any

from aioipc.broker.connecting import Address
from aioipc.broker.remote import RemoteObject, Spec

__all__ = ["DIRECTORY", "RemoteBroker"]

DIRECTORY = 0
"""The number of what knows the names of all others."""


class RemoteBroker(RemoteObject):
    """A broker, in a worker or another program that knows its address and key.

    ::

        broker = aioipc.RemoteBroker(("server", 5000), authkey)
        for job in broker.find("jobs"):
            ...

    :param address: of a Unix socket, or a host and a port
    """

    def __init__(self, address: Address, authkey: bytes) -> None:
        super().__init__(Spec(address, authkey, DIRECTORY))

    def find(self, name: str) -> Any:
        """Return the queue or lock of that name, to be used here; it blocks.

        :raises KeyError: if there is none
        :raises multiprocessing.AuthenticationError: if the broker has another key
        :raises TimeoutError: if it does not answer
        :raises OSError: if it is not there
        """
        found: RemoteObject = self._call("find", name)
        return found.at(self._spec.address)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteBroker, (self._spec.address, self._spec.authkey)
