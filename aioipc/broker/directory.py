"""What there is in a broker, and what it is called: how other programs find it."""

from typing import Any

from aioipc.bridge.handover import Bridged
from aioipc.broker.remote_broker import DIRECTORY
from aioipc.broker.session import Call, Service, Session

__all__ = ["Directory"]


class Directory(Service):
    """Objects by their numbers, and by their names.

    :ivar objects: queues and locks, by number
    :ivar services: what workers may do with them, and with this
    """

    number = DIRECTORY

    def __init__(self) -> None:
        self.methods = {"find": self._find}
        self.objects: dict[int, Any] = {}
        self.services: dict[int, Service] = {DIRECTORY: self}
        self._named: dict[str, Bridged] = {}

    def add(self, obj: Bridged, service: Service, name: str | None) -> None:
        """Have an object found.

        :raises ValueError: if another one has the name
        """
        if name in self._named:
            raise ValueError(f"there is something called {name!r} already")
        if name is not None:
            self._named[name] = obj
        self.objects[service.number] = obj
        self.services[service.number] = service

    def drop(self, number: int) -> None:
        """Have an object found no more, if it is."""
        obj = self.objects.pop(number, None)
        self.services.pop(number, None)
        for name in [name for name, named in self._named.items() if named is obj]:
            del self._named[name]

    def forget(self, session: Session) -> None:
        """Do nothing: a worker has nothing here."""

    def _find(self, call: Call, name: str) -> None:
        found: Any = self._named.get(name)
        call.resolve(KeyError(name) if found is None else found.sync)
