"""`AsyncProxy`: a manager's proxy, awaited; what all kinds of them have in common.

Every call is a message to the manager's process and back, made in a thread: see
`lines.py`. The kinds are in `proxies.py`, `lock_proxies.py` and `queue_proxy.py`, and
each says here which of the stdlib's proxies it stands for.
"""

import sys
from collections.abc import Callable
from multiprocessing.managers import BaseProxy
from typing import Any, TypeVar, cast

import anyio.lowlevel

from aioipc.bridge.handover import Bridged
from aioipc.bridge.insides.managers import ProxyInsides
from aioipc.bridge.lines import Lines
from aioipc.errors import ClosedResourceError
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import NOWHERE, Loop, settle

__all__ = ["AsyncProxy", "WaitingProxy", "awaitable", "counterpart", "stands_for"]

P = TypeVar("P", bound="AsyncProxy")

_KINDS: "dict[str, Callable[[Any], AsyncProxy]]" = {}


class AsyncProxy(Bridged):
    """A proxy for an object in a manager's process, awaited.

    Awaitable proxies may be arguments of every call, also inside of lists, tuples and
    dicts, and the manager gets the plain ones. A proxy that a call returns, or that is
    an item of the list, tuple or dict which it returns, is an awaitable one.

    A cancelled call has happened, will happen or will not; but no later than the next
    call that is made through this object, unless it says otherwise.

    Errors: what the referent raised, or `multiprocessing.managers.RemoteError`;
    BrokenResourceError if the manager is gone; ClosedResourceError after `close`.

    Two are equal only if they are the same object, whatever is in their referents:
    compare copies.

    Get one from a manager or `wrap`.
    """

    def __init__(self, proxy: BaseProxy) -> None:
        self._closed = False
        self._insides = ProxyInsides(proxy)
        self._lines = Lines.to(self._insides.address)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the referent, or of the plain proxy, by its name.

        Calls may take their time, and don't wait for each other. So a cancelled one
        may happen after a later one. Nor do they share a connection, by which a manager
        knows the owner of an RLock: what ``call("acquire")`` acquires no other call can
        release. Register locks with `AcquirerProxy`, and await their `acquire`.
        """
        insides = self._open()
        # Not from the instance, whose __getattr__ may ask the manager.
        kind = cast("Any", type(insides.proxy))
        function: Any = getattr(kind, method, None)

        def call() -> Any:
            if function is None:
                return awaitable(insides.call(method, args, kwargs))
            return awaitable(function(insides.proxy, *args, **kwargs))

        job = self._lines.call_apart(insides, call)
        await job.wait()
        return job.take()

    async def getvalue(self) -> Any:
        """Return a copy of the referent."""
        return await self._call("#GETVALUE")

    async def as_str(self) -> str:
        """Return the `repr` of the referent, as `str` of a plain proxy does."""
        return await self._call("__repr__")

    def close(self) -> None:
        """Use the referent no more here; it lives as long as others use it.

        The manager is told so in a thread, if nothing else has the plain proxy.
        """
        if self._closed:
            return
        self._closed = True
        line = self._lines.shared(self._insides)
        plain = [self._insides.proxy]
        del self._insides
        line.submit_aside(plain.clear)
        del self._lines

    async def aclose(self) -> None:
        """Close: see `close`."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def detach(self) -> Any:
        """Give the plain proxy back, and close this object."""
        plain = self._open().proxy
        self.close()
        return plain

    @property
    def sync(self) -> Any:
        """The plain proxy, to be handed to a worker."""
        return self._open().proxy

    @property
    def closed(self) -> bool:
        """Whether this object was closed."""
        return self._closed

    def __repr__(self) -> str:
        what = "closed" if self._closed else repr(self._insides.proxy)
        return f"<{type(self).__name__} {what}>"

    def __del__(self) -> None:
        # Perhaps in the middle of a call to the same line, whose thread allows for it.
        # While the interpreter ends, no thread starts, and multiprocessing has done it.
        if getattr(self, "_lines", None) is not None and not sys.is_finalizing():
            self.close()

    def _open(self) -> ProxyInsides:
        if self._closed:
            raise ClosedResourceError(f"the {type(self).__name__} is closed")
        return self._insides

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Make a short call."""
        insides = self._open()
        job = self._lines.shared(insides).submit(
            insides, lambda: awaitable(insides.call(method, args, kwargs))
        )
        await job.wait()
        return job.take()


class WaitingProxy(AsyncProxy):
    """A proxy with tasks that wait: of one process, and of one loop at a time."""

    def __init__(self, proxy: BaseProxy) -> None:
        super().__init__(proxy)
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be as if not used before: that was the parent; in a forked child."""
        self._loop: Loop = NOWHERE
        self._forget_tasks()

    def _settle(self) -> None:
        """Be at home in the current loop; to be called before a task waits here."""
        if not self._loop.is_current():
            self._loop = settle(self._loop, repr(self))
            self._forget_tasks()

    def _forget_tasks(self) -> None:
        """Be as if no task waited: their loop is over, and they will never go on."""
        raise NotImplementedError


def stands_for(*kinds: str) -> Callable[[type[P]], type[P]]:
    """Have a class stand for proxies of some typeids, or of stdlib proxy classes."""

    def register(cls: type[P]) -> type[P]:
        _KINDS.update(dict.fromkeys(kinds, cls))
        return cls

    return register


def counterpart(proxy: BaseProxy) -> AsyncProxy:
    """Return the awaitable for a plain proxy."""
    names = [base.__name__ for base in type(proxy).__mro__]
    if "AcquirerProxy" in names[:1]:
        names.insert(0, f"AcquirerProxy:{ProxyInsides(proxy).typeid}")
    if hasattr(type(proxy), "get") and hasattr(type(proxy), "task_done"):
        names.insert(0, "queue")
    return next((_KINDS[name] for name in names if name in _KINDS), AsyncProxy)(proxy)


def awaitable(value: Any) -> Any:
    """Return `value` with an awaitable instead of a plain proxy, or of such items."""
    if isinstance(value, BaseProxy):
        return counterpart(value)
    if type(value) is list or type(value) is tuple:
        items = cast("list[Any] | tuple[Any, ...]", value)
        if any(isinstance(item, BaseProxy) for item in items):
            return type(items)(_item(item) for item in items)
    elif type(value) is dict:
        pairs = cast("dict[Any, Any]", value)
        if any(isinstance(item, BaseProxy) for item in pairs.values()):
            return {key: _item(item) for key, item in pairs.items()}
    return cast("Any", value)


def _item(item: Any) -> Any:
    return counterpart(item) if isinstance(item, BaseProxy) else item
