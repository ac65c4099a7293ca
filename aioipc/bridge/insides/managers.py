"""What `multiprocessing` hides of managers and their proxies."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from multiprocessing import managers, process
from multiprocessing.managers import BaseManager, BaseProxy
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

__all__ = ["ManagerInsides", "ProxyInsides", "Wire"]


_IN_MEMORY = {"SharedMemory", "ShareableList"}
"""What a SharedMemoryManager makes here, and only keeps a list of."""


class Wire(Protocol):
    """What a proxy needs of its connection to the manager."""

    def send(self, obj: object, /) -> None:
        """Send a request."""
        ...

    def recv(self) -> Any:
        """Receive the reply: a pair of its kind and what it says."""
        ...

    def fileno(self) -> int:
        """Return its descriptor."""
        ...

    def close(self) -> None:
        """Close it, here."""
        ...


class ProxyInsides:
    """What a manager's proxy knows of its manager and of its referent.

    :ivar proxy: the proxy itself
    :ivar address: of the manager
    :ivar typeid: as which the referent's type was registered
    :ivar ident: which referent it is, in its manager
    """

    __slots__ = ("address", "ident", "proxy", "typeid")

    def __init__(self, proxy: Any) -> None:
        self.proxy = proxy
        self.address: Any = proxy._token.address
        self.typeid: str = proxy._token.typeid
        self.ident: str = proxy._token.id

    def connect(self, name: str) -> Wire:
        """Have a new thread of the manager serve a new connection."""
        connection = self.proxy._Client(self.address, authkey=self.proxy._authkey)
        name = f"{process.current_process().name}|{name}"
        dispatch: Any = managers.dispatch  # type: ignore[attr-defined]
        dispatch(connection, None, "accept_connection", (name,))
        return connection

    def lend(self, wire: Wire) -> None:
        """Have calls of the current thread to the manager go over this connection."""
        self.proxy._tls.connection = wire

    def take_back(self) -> Wire | None:
        """Return what was lent, unless it was closed: the last proxy does that."""
        return self.proxy._tls.__dict__.pop("connection", None)

    def call(self, method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
        """Call a method of the referent."""
        return self.proxy._callmethod(method, args, kwds)


class ManagerInsides:
    """The process of a `multiprocessing` manager, and what has become of it."""

    __slots__ = ("_manager",)

    def __init__(self, manager: BaseManager) -> None:
        self._manager: Any = manager

    @property
    def state(self) -> str:
        """``"initial"``, ``"started"`` or ``"shutdown"``."""
        return ("initial", "started", "shutdown")[self._manager._state.value]

    @property
    def process(self) -> BaseProcess | None:
        """The process, if it was started here and is not yet forgotten."""
        process: BaseProcess | None = getattr(self._manager, "_process", None)
        return process if process is None or process.pid is not None else None

    def reap(self) -> None:
        """Join the process, which has been killed or is about to end, and forget it."""
        if (process := self.process) is not None:
            process.join()
            process.close()
            self._manager._process = None

    def create(
        self, typeid: str, args: tuple[Any, ...], kwds: Mapping[str, Any]
    ) -> BaseProxy:
        """Make an object of a registered type, or one in shared memory.

        :raises AttributeError: if there is no such type
        """
        in_memory = typeid in _IN_MEMORY and hasattr(self._manager, typeid)
        if typeid not in self._manager._registry and not in_memory:
            raise AttributeError(f"{type(self._manager).__name__} has no {typeid!r}")
        return getattr(self._manager, typeid)(*args, **kwds)
