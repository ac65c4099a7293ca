"""`AsyncManager`: a `multiprocessing.Manager`, awaited. It ends with its block.

The plain manager does the work, in threads: it starts its process, asks it for objects
by connections that it opens and closes each time, and ends it.
"""

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import ProcessError
from multiprocessing.context import BaseContext
from multiprocessing.managers import BaseManager, BaseProxy, SyncManager
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import anyio

from aioipc.bridge.event_proxies import AsyncBarrierProxy, AsyncEventProxy
from aioipc.bridge.handover import plain
from aioipc.bridge.insides.managers import ManagerInsides
from aioipc.bridge.lines import Lines
from aioipc.bridge.lock_proxies import (
    AsyncConditionProxy,
    AsyncLockProxy,
    AsyncRLockProxy,
    AsyncSemaphoreProxy,
)
from aioipc.bridge.proxies import (
    AsyncArrayProxy,
    AsyncDictProxy,
    AsyncListProxy,
    AsyncNamespaceProxy,
    AsyncValueProxy,
)
from aioipc.bridge.proxy import AsyncProxy, awaitable
from aioipc.bridge.queue_proxy import AsyncQueueProxy
from aioipc.errors import BrokenResourceError, ClosedResourceError
from aioipc.transport.forks import starting
from aioipc.transport.threads import Job, run_in_thread

if TYPE_CHECKING:
    from multiprocessing import shared_memory
    from types import TracebackType

__all__ = ["AsyncManager", "Manager"]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

GRACE = 5.0
"""Seconds that a manager has to end, all in all, before it is killed."""


class AsyncManager:
    """A `multiprocessing.Manager`, awaited.

    As a context manager it starts the manager's process, and shuts it down on leaving,
    whatever else happens. One that was started or connected before is not started.

    Each method that makes an object returns an awaitable proxy for it: `dict`, `Lock`
    and so on, and `create` for types that you registered. If it is cancelled, an object
    that was made is given up again.

    Get one from `Manager` or `wrap`.
    """

    def __init__(self, manager: BaseManager) -> None:
        self._manager = manager
        self._insides = ManagerInsides(manager)
        self._lines: Lines | None = None
        self._ending: Job[None] | None = None
        self._started_here = False

    async def start(
        self,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """Start the manager's process, in a thread.

        If it is cancelled, the process is ended as soon as it is there, and the cancel
        goes on after that. Other processes are not started meanwhile: keep the
        initializer short.

        :param initializer: is called in the process, before all else
        :raises BrokenResourceError: if the process ends before it is ready
        :raises multiprocessing.ProcessError: if it was started before
        """
        args = plain(tuple(initargs))
        self._started_here = True

        def start() -> None:
            try:
                with starting():
                    self._manager.start(initializer, args)
            except EOFError as error:
                self._insides.reap()
                msg = "the manager ended before it was ready"
                raise BrokenResourceError(msg) from error

        job = run_in_thread(start, "start manager")
        try:
            await job.wait()
        except BaseException as error:
            undoing = Job(self._end)
            job.then(lambda: undoing.start("undo start"))
            if isinstance(error, GeneratorExit):
                raise  # from outside of a loop
            # asyncio's own cancel goes through the shield, and means: no more waiting.
            with anyio.CancelScope(shield=True):
                await undoing.wait()
            raise
        job.result()

    async def connect(self) -> None:
        """Connect to the manager that is at `address`, in a thread.

        A cancel leaves a thread to its attempt.

        :raises OSError: if there is none
        :raises multiprocessing.AuthenticationError: if the key is not its key
        """
        job = run_in_thread(self._manager.connect, "connect manager")
        await job.wait()
        job.result()

    async def shutdown(self) -> None:
        """End the manager's process, if it was started here, and reap it.

        That takes `GRACE` seconds at most: then the process is killed. Those who wait
        for an answer get BrokenResourceError. A cancel does not keep it from happening.
        """
        lines, self._lines = self._lines, None
        if lines is not None and self._insides.process is not None:
            lines.close()  # those to a manager elsewhere others may use, too
        if self._ending is None:
            self._ending = run_in_thread(self._end, "end manager")
        await self._ending.wait()
        self._ending.result()

    def detach(self) -> BaseManager:
        """Give the plain manager back, as it is.

        The connections to it are closed with the last proxy.
        """
        self._started_here = False
        self._lines = None
        return self._manager

    async def create(self, typeid: str, *args: Any, **kwargs: Any) -> Any:
        """Make an object of a registered type, and return an awaitable proxy for it.

        That is an AsyncProxy, unless the type was registered with a proxy type of the
        standard library's, or is a queue.

        :param typeid: the name by which it was registered
        :raises AttributeError: if there is no such type
        """
        if self._ending is not None or self._insides.state == "shutdown":
            raise ClosedResourceError("the manager has been shut down")
        if self._insides.state == "initial":
            raise ProcessError("the manager has not been started")
        lines = self._lines = self._lines or Lines.to(self._manager.address)
        job = lines.call_aside(lambda: self._create(typeid, args, kwargs))
        await job.wait()
        return job.take()

    @overload
    async def dict(self) -> AsyncDictProxy[Any, Any]: ...
    @overload
    async def dict(self, **kwargs: V) -> AsyncDictProxy[str, V]: ...
    @overload
    async def dict(self, other: Mapping[K, V], /) -> AsyncDictProxy[K, V]: ...
    @overload
    async def dict(self, other: Iterable[tuple[K, V]], /) -> AsyncDictProxy[K, V]: ...
    async def dict(self, *args: Any, **kwargs: Any) -> AsyncDictProxy[Any, Any]:
        """Make a dict."""
        return await self.create("dict", *args, **kwargs)

    @overload
    async def list(self) -> AsyncListProxy[Any]: ...
    @overload
    async def list(self, items: Iterable[T], /) -> AsyncListProxy[T]: ...
    async def list(self, *args: Any) -> AsyncListProxy[Any]:
        """Make a list."""
        return await self.create("list", *args)

    async def Value(  # noqa: N802 - multiprocessing's names
        self, typecode: Any, value: T
    ) -> AsyncValueProxy[T]:
        """Make an object with a value; the type code is not used."""
        return await self.create("Value", typecode, value)

    async def Array(  # noqa: N802
        self, typecode: str, sequence: Sequence[T]
    ) -> AsyncArrayProxy[T]:
        """Make an `array.array`."""
        return await self.create("Array", typecode, sequence)

    async def Namespace(self, **kwargs: Any) -> AsyncNamespaceProxy:  # noqa: N802
        """Make an object with attributes."""
        return await self.create("Namespace", **kwargs)

    async def Queue(self, maxsize: int = 0) -> AsyncQueueProxy[Any]:  # noqa: N802
        """Make a `queue.Queue`, of any length if `maxsize` is 0."""
        return await self.create("Queue", maxsize)

    async def JoinableQueue(  # noqa: N802
        self, maxsize: int = 0
    ) -> AsyncQueueProxy[Any]:
        """Make a `queue.Queue`: the same as `Queue`."""
        return await self.create("JoinableQueue", maxsize)

    async def Lock(self) -> AsyncLockProxy:  # noqa: N802
        """Make a `threading.Lock`."""
        return await self.create("Lock")

    async def RLock(self) -> AsyncRLockProxy:  # noqa: N802
        """Make a `threading.RLock`."""
        return await self.create("RLock")

    async def Semaphore(self, value: int = 1) -> AsyncSemaphoreProxy:  # noqa: N802
        """Make a `threading.Semaphore`."""
        return await self.create("Semaphore", value)

    async def BoundedSemaphore(  # noqa: N802
        self, value: int = 1
    ) -> AsyncSemaphoreProxy:
        """Make a `threading.BoundedSemaphore`."""
        return await self.create("BoundedSemaphore", value)

    async def Event(self) -> AsyncEventProxy:  # noqa: N802
        """Make a `threading.Event`."""
        return await self.create("Event")

    async def Condition(  # noqa: N802
        self, lock: AsyncLockProxy | AsyncRLockProxy | BaseProxy | None = None
    ) -> AsyncConditionProxy:
        """Make a `threading.Condition`, with a lock of its own or another proxy's."""
        return await self.create("Condition", lock)

    async def Barrier(  # noqa: N802
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> AsyncBarrierProxy:
        """Make a `threading.Barrier`; `action` is called in the manager."""
        return await self.create("Barrier", parties, action, timeout)

    async def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> AsyncProxy:
        """Make a `multiprocessing.Pool` in the manager: `await pool.call("map", ...)`.

        You will rather want a WorkerPool.
        """
        return await self.create(
            "Pool", processes, initializer, initargs, maxtasksperchild
        )

    async def SharedMemory(self, size: int) -> "shared_memory.SharedMemory":  # noqa: N802
        """Make a segment of shared memory, the plain one, which ends with the manager.

        :raises AttributeError: if this is not a SharedMemoryManager
        """
        return await self.create("SharedMemory", size)

    async def ShareableList(  # noqa: N802
        self, sequence: Iterable[Any]
    ) -> "shared_memory.ShareableList[Any]":
        """Make a list in shared memory, the plain one, which ends with the manager.

        :raises AttributeError: if this is not a SharedMemoryManager
        """
        return await self.create("ShareableList", sequence)

    @property
    def address(self) -> Any:
        """Where the manager is, for others to connect to; None if not yet known."""
        return self._manager.address

    @property
    def sync(self) -> BaseManager:
        """The plain manager."""
        return self._manager

    def __repr__(self) -> str:
        name = type(self._manager).__name__
        return f"<AsyncManager {name} {self._insides.state} at {self.address!r}>"

    async def __aenter__(self) -> Self:
        if self._insides.state == "initial":
            await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: "type[BaseException] | None",
        exc_value: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        # asyncio's own cancel goes through the shield, and means: no more waiting.
        with anyio.CancelScope(shield=True):
            await self.shutdown()

    def __del__(self) -> None:
        if (
            getattr(self, "_started_here", False)
            and self._ending is None
            and self._insides.state == "started"
            and not sys.is_finalizing()
        ):
            warnings.warn(f"{self!r} was not shut down", ResourceWarning, stacklevel=1)
            with contextlib.suppress(RuntimeError):
                run_in_thread(self._end, "end manager")

    def _create(
        self, typeid: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        try:
            return awaitable(self._insides.create(typeid, args, kwargs))
        except (OSError, EOFError) as error:
            # What the type itself raised comes as a RemoteError.
            raise BrokenResourceError("the manager is gone") from error

    def _end(self) -> None:
        """End the process; in a thread."""
        process = self._insides.process
        if process is None:
            return
        alarm = threading.Timer(GRACE, process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            self._manager.shutdown()
            self._insides.reap()
        finally:
            alarm.cancel()
            alarm.join()


def Manager(  # noqa: N802 - multiprocessing's name
    *,
    context: BaseContext | None = None,
    address: Any = None,
    authkey: bytes | None = None,
) -> AsyncManager:
    """Return a `multiprocessing.Manager` to await, which is not yet started.

    :param context: how to start its process
    :param address: where it is to be, or where it is if you `connect` to it: a path or
        a pair of host and port; a private socket if None
    :param authkey: for those who connect; that of this process if None
    """
    return AsyncManager(SyncManager(address, authkey, ctx=context))
