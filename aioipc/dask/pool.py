"""`DaskPool`: the contract of pools, kept by a Dask cluster."""

from collections.abc import Callable
from typing import Any, Self

from aioipc.abc import Capabilities
from aioipc.dask.engine import DaskEngine
from aioipc.dask.home import Home, Where
from aioipc.dask.shared import (
    DaskEvent,
    DaskLock,
    DaskQueue,
    DaskSemaphore,
    Kept,
    Owner,
)
from aioipc.errors import EventLoopError, TaskCancelled
from aioipc.pool.front import GRACE, EnginePool
from aioipc.pool.limits import usable_cpus
from aioipc.pool.options import OnCancel, Options, check_options
from aioipc.transport.loops import AsyncioLoop, Loop

__all__ = ["DaskPool"]

CONNECT_TIMEOUT = 10.0
"""Seconds that it may take to connect, when a pool does not say."""

_CAPABILITIES = Capabilities(
    concurrent=True,
    can_abandon_running=True,
    can_time_out=True,
    has_priorities=True,
    survives_crashes=True,
    can_retry=True,
    can_resize=True,
    pickles=True,
    bounds_bytes=True,
    crosses_machines=True,
)


class DaskPool(EnginePool[DaskEngine]):
    """Calls of functions on a Dask cluster, awaited; on asyncio or uvloop.

    Dask's scheduler decides what runs where. aioipc must be installed wherever the
    scheduler and the workers run; functions, as in Dask, where the workers run, unless
    they are of the main module or have no name: those travel by value.

    Dask can't stop a task that runs, and it runs a task again whose worker died: up to
    its `allowed-failures`, which is three times. So a task should be one that may be
    done twice. Arguments and results of 1 MB or more travel apart from the scheduler's
    graphs. What several calls have at the same time is sent once; each works on a copy.

    :param where: the cluster: the scheduler's address; a `distributed.Client` that is
        asynchronous and of this event loop; a cluster of `distributed`'s; these are
        left as they are. None for a new `LocalCluster` of processes, which ends with
        the pool
    :param max_workers: of a new cluster, its processes, and None for one for each CPU.
        Of another, how many of the pool's tasks it may have at the same time: then each
        waits in this process until one has ended; None for any number
    :param initializer: called in each worker's process, with `initargs`, before the
        first task of this pool, and in those that come later
    :param grace: seconds that `aclose` waits for tasks
    :param on_cancel: the default of `options`
    :param name: in `repr`
    :param connect_timeout: seconds that it may take to reach the scheduler
    """

    def __init__(
        self,
        where: Where = None,
        /,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        grace: float = GRACE,
        on_cancel: OnCancel = "abandon",
        name: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        options = Options(on_cancel=on_cancel)
        check_options(options, self.capabilities, type(self).__name__)
        if max_workers is not None and max_workers < 1:
            raise ValueError("max_workers must be at least 1")
        self._where = where
        self._processes = max_workers or usable_cpus()
        self._limit = None if where is None else max_workers
        self._initialize = initializer and (initializer, initargs)
        self._connect_timeout = connect_timeout
        self._kept: set[Kept] = set()
        super().__init__(options, name=name, grace=grace)

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def resize(self, max_workers: int) -> None:
        """Change how many of the pool's tasks the cluster may have at the same time.

        Its own cluster gets the processes that are missing for it; those too many stay,
        with nothing to do.
        """
        if max_workers < 1:
            raise ValueError("max_workers must be at least 1")
        self._limit = max_workers
        self._processes = max(self._processes, max_workers)
        if self._engine is not None and self._engine.refusal is None:
            self._engine.resize(max_workers)

    def Queue(self, maxsize: int = 0, name: str | None = None) -> DaskQueue[Any]:  # noqa: N802 - as multiprocessing's
        """Return a queue of the cluster, for tasks as well.

        :param maxsize: items that it may have; 0 for any number
        :param name: that other programs know it by; without one it ends with the pool.
            So it is with the others below
        """
        return DaskQueue(self._owner, maxsize, name)

    def Lock(self, name: str | None = None) -> DaskLock:  # noqa: N802
        """Return a lock of the cluster, for tasks as well."""
        return DaskLock(self._owner, name)

    def Semaphore(self, value: int = 1, name: str | None = None) -> DaskSemaphore:  # noqa: N802
        """Return a semaphore of the cluster, for tasks as well."""
        return DaskSemaphore(self._owner, value, name)

    def Event(self, name: str | None = None) -> DaskEvent:  # noqa: N802
        """Return an event of the cluster, for tasks as well."""
        return DaskEvent(self._owner, name)

    @property
    def _owner(self) -> Owner:
        return Owner(self._engine_here, self._kept)

    async def __aenter__(self) -> Self:
        """Connect.

        :raises WorkerStartError: if the scheduler can't be reached, or an initializer
            raises
        :raises EventLoopError: on another loop than asyncio's or uvloop
        """
        engine = self._engine_here()
        try:
            await engine.until(lambda: engine.is_ready)
            engine.check()
        except BaseException:
            await self.aclose(grace=0)
            raise
        return self

    @property
    def _width(self) -> int:
        return self._processes if self._engine is None else self._engine.width

    async def _end_with_loop(self) -> None:
        """Disconnect while the loop can still do it."""
        engine = self._engine
        if engine is not None:
            engine.close(TaskCancelled("the event loop has ended"))
            await engine.until(engine.has_no_workers)
        await super()._end_with_loop()

    def _new_engine(self, loop: Loop) -> DaskEngine:
        if not isinstance(loop, AsyncioLoop):
            self._closed = True
            raise EventLoopError(
                "DaskPool needs asyncio: Dask's client runs on no other"
            )
        home = Home(self._where, self._processes, self._connect_timeout)
        return DaskEngine(loop, home, self._initialize, self._limit, self._kept)
