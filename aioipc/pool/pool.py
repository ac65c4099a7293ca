"""`WorkerPool`: calls of functions in worker processes, awaited."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from operator import index
from time import monotonic, perf_counter
from typing import Any, Literal, ParamSpec, Self, TypeVar

import anyio

from aioipc.abc import Items, MapOptions, Pool, Results
from aioipc.bridge.handover import plain
from aioipc.errors import ClosedResourceError, TaskCancelled
from aioipc.pool._scheduler import Sizes
from aioipc.pool._states import State
from aioipc.pool.closures import cloud_pickler
from aioipc.pool.crew import Crew, Launch
from aioipc.pool.executor import PoolExecutor
from aioipc.pool.guard import check_guard
from aioipc.pool.limits import usable_cpus, usable_memory
from aioipc.pool.maps import MapResults
from aioipc.pool.options import OnCancel, Options
from aioipc.pool.task import Call, PoolTask
from aioipc.transport.ends import LoopEnd
from aioipc.transport.loops import NOWHERE, Loop, running_loop, settle
from aioipc.wire.pickles import NewPickler

__all__ = ["PoolStatistics", "WorkerPool"]

P = ParamSpec("P")
T = TypeVar("T")

GRACE = 5.0
IDLE_TIMEOUT = 60.0
START_TIMEOUT = 60.0

REAPING = 5.0
"""Seconds that killed workers have to be gone, before they are left to the kernel."""

Serializer = Literal["pickle", "cloudpickle"]


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The state of a `WorkerPool`.

    :ivar workers: processes that there are, in whatever state
    :ivar starting: that are not yet ready
    :ivar idle: that have nothing to do
    :ivar busy: that are at work
    :ivar tasks_pending: no worker has begun
    :ivar tasks_running: a worker is at
    :ivar tasks_finished: have ended with a result
    :ivar tasks_failed: have ended with an error, or were cancelled
    :ivar crashes: workers that died with a task
    :ivar shared_memory: bytes for large buffers, in use or kept for the next ones
    """

    workers: int
    starting: int
    idle: int
    busy: int
    tasks_pending: int
    tasks_running: int
    tasks_finished: int
    tasks_failed: int
    crashes: int
    shared_memory: int


class _Front(Pool):
    """What `WorkerPool` and what its `options` returns have in common."""

    _options: Options

    async def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        crew = self._crew_here()
        call = crew.submit(function, args, kwargs, self._options)
        alone = len(crew.open) == 1
        if alone:
            crew.look(call)
        if not call.done:
            since, finished = perf_counter(), crew.finished
            call.waiter = waiter = crew.loop.waiter()
            try:
                await waiter
                if alone:
                    crew.waited(perf_counter() - since, finished)
            except BaseException:
                call.waiter = None
                await _stop(crew, call)
                raise
        return call.take()

    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> PoolTask[T]:
        crew = self._crew_here()
        call = crew.submit(function, args, kwargs, self._options)
        return crew.task_type(call, crew, self)

    def _map(
        self,
        function: Callable[..., Any],
        iterables: tuple[Items[Any], ...],
        how: MapOptions,
    ) -> Results[Any]:
        crew = self._crew_here()
        return MapResults(self, crew, self._options, function, iterables, how=how)

    def as_executor(self) -> PoolExecutor:
        """Return an executor for code that knows `concurrent.futures` only.

        It takes calls from any thread, for the event loop that this is called in.
        """
        return PoolExecutor(self, self._crew_here(), self._options)

    def _crew_here(self) -> Crew:
        """Return the workers, for a call from the loop that they serve."""
        raise NotImplementedError


class WorkerPool(_Front):
    """Worker processes, which call functions for an event loop.

    Open it by ``async with``: leaving the block ends the workers, after the tasks that
    were submitted, within `grace`; at once if it is left by an error.

    Workers are started as tasks come. A worker that dies costs the task it was at; it
    is replaced. Workers end with this process, whatever its end.

    :param max_workers: None for the CPUs that this process may use, by its affinity
        and its cgroup's quota
    :param initializer: called in each worker before its first task, with `initargs`
    :param finalizer: called in each worker that ends by itself
    :param mp_context: or the name of a start method; None for forkserver where there is
        one, else spawn
    :param min_workers: so many are kept, also when there is nothing to do
    :param max_tasks_per_worker: after so many a worker is replaced
    :param max_rss: bytes of resident memory above which a worker is replaced; what it
        shares, with the pool or with others that have loaded the same libraries, does
        not count
    :param idle_timeout: seconds without work after which one above `min_workers` ends
    :param start_timeout: seconds within which a worker must be ready
    :param grace: seconds that an interrupted task has before its worker is killed, and
        that `aclose` waits for tasks
    :param on_cancel: the default of `options`
    :param name: in `repr`
    :param serializer: ``"cloudpickle"`` also sends lambdas and closures
    :param max_shared_memory: bytes for large buffers of arguments and results, half for
        each, kept for the next ones while the pool is busy. Where it is not enough,
        they go through pipes. None for a quarter of the memory that there is, 0 for
        none
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        finalizer: Callable[[], object] | None = None,
        mp_context: BaseContext | str | None = None,
        min_workers: int = 0,
        max_tasks_per_worker: int | None = None,
        max_rss: int | None = None,
        idle_timeout: float = IDLE_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
        grace: float = GRACE,
        on_cancel: OnCancel = "interrupt",
        name: str | None = None,
        serializer: Serializer = "pickle",
        max_shared_memory: int | None = None,
    ) -> None:
        maximum = max_workers if max_workers is not None else usable_cpus()
        if maximum < 1:
            raise ValueError("max_workers must be at least 1")
        if not 0 <= min_workers <= maximum:
            raise ValueError("min_workers must be between 0 and max_workers")
        if max_tasks_per_worker is not None and max_tasks_per_worker < 1:
            raise ValueError("max_tasks_per_worker must be at least 1")
        self._sizes = Sizes(
            maximum,
            min_workers,
            tasks=max_tasks_per_worker,
            idle=idle_timeout,
            start=start_timeout,
            grace=grace,
        )
        setup = {
            "initializer": initializer and (initializer, plain(initargs)),
            "finalizer": finalizer and (finalizer, ()),
            "max_rss": max_rss,
            "may_look": usable_cpus() > 1,
        }
        if max_shared_memory is None:
            max_shared_memory = usable_memory() // 4
        if index(max_shared_memory) < 0:
            raise ValueError("max_shared_memory must not be negative")
        self._launch = Launch(
            _context(mp_context), setup, _pickler(serializer), max_shared_memory
        )
        self._name = name
        self._options = Options(on_cancel=on_cancel)
        self._loop: Loop = NOWHERE
        self._home: object = NOWHERE  # see Loop.mark
        self._crew: Crew | None = None
        self._loop_end: LoopEnd | None = None
        self._pid = 0  # of the process that has used it
        self._closed = False

    def _with(self, changes: dict[str, Any]) -> Pool:
        return _View(self, self._options.but(changes))

    async def warm_up(self, count: int | None = None) -> None:
        """Start workers, and wait until they are ready.

        :param count: how many there are to be; None for all
        :raises WorkerStartError: if they can't be started
        """
        crew = self._crew_here()
        crew.check()
        wanted = min(self._sizes.maximum, count or self._sizes.maximum)
        if crew.scheduler.ready_workers < wanted:
            crew.scheduler.warm_up(wanted, monotonic())
            crew.pump()
            await crew.until(lambda: crew.scheduler.is_warm or crew.refusal is not None)
            crew.check()

    def resize(self, max_workers: int) -> None:
        """Change how many workers there may be; those too many end."""
        if max_workers < 1:
            raise ValueError("max_workers must be at least 1")
        self._sizes.maximum = max_workers
        self._sizes.minimum = min(self._sizes.minimum, max_workers)
        crew = self._crew
        if crew is not None and crew.refusal is None:
            crew.resize(self._sizes)

    async def aclose(self, *, grace: float | None = None) -> None:
        crew, self._closed = self._crew, True
        if crew is None or crew.closed:
            return
        if not crew.loop.is_current():
            settle(crew.loop, repr(self))
            self._abandon()
            return
        crew.refuse()
        try:
            with anyio.move_on_after(self._sizes.grace if grace is None else grace):
                await crew.until(crew.has_no_calls)
                crew.end_all()
                await crew.until(crew.has_no_workers)
        finally:
            crew.close(TaskCancelled("the pool was closed"))
            # asyncio's own cancel goes through the shield, and means: no more waiting.
            with anyio.move_on_after(REAPING, shield=True):
                await crew.until(crew.has_no_workers)
            self._abandon()

    def statistics(self) -> PoolStatistics:
        """Return how many workers and tasks there are."""
        crew = self._crew
        if crew is None:
            return PoolStatistics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        workers = crew.scheduler.workers.values()
        running = sum(
            bool(worker.sent) and not worker.sent[0].done for worker in workers
        )
        return PoolStatistics(
            workers=len(workers),
            starting=sum(worker.state is State.STARTING for worker in workers),
            idle=sum(worker.is_idle for worker in workers),
            busy=sum(bool(worker.batches) for worker in workers),
            tasks_pending=len(crew.open) - running,
            tasks_running=running,
            tasks_finished=crew.finished,
            tasks_failed=crew.failed,
            crashes=crew.crashes,
            shared_memory=crew.shared_memory,
        )

    async def __aenter__(self) -> Self:
        self._crew_here().pump()
        return self

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        if self._closed:
            return f"<WorkerPool{name} closed>"
        state = self.statistics()
        return (
            f"<WorkerPool{name} workers={state.workers}/{self._sizes.maximum} "
            f"running={state.tasks_running} pending={state.tasks_pending}>"
        )

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not getattr(self, "_closed", True) and self._pid == os.getpid():
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self._abandon()

    def _crew_here(self) -> Crew:
        crew = self._crew
        if crew is not None and (
            running_loop() is self._home or self._loop.is_current()
        ):
            return crew
        return self._settle()

    def _settle(self) -> Crew:
        """Take the current loop, with workers of its own."""
        if self._closed:
            raise ClosedResourceError(f"{self!r} is closed")
        check_guard()
        if self._crew is not None and self._crew.closed:
            self._crew.check()
        loop = settle(self._loop, repr(self))
        self._abandon()
        self._loop, self._home, self._pid = loop, loop.mark, os.getpid()
        self._crew = Crew(loop, replace(self._sizes), self._launch)
        self._loop_end = LoopEnd(self._end_with_loop)
        return self._crew

    def _abandon(self) -> None:
        """Kill the workers, if there are any left."""
        if self._loop_end is not None:
            self._loop_end.cancel()
            self._loop_end = None
        if self._crew is not None:
            self._crew.abandon()

    async def _end_with_loop(self) -> None:
        """Kill the workers once no one awaits them; another loop may have others."""
        crew = self._crew
        try:
            if crew is not None:
                await crew.until(crew.has_no_waiters)
        finally:
            if self._crew is crew:
                self._abandon()
                self._crew, self._loop, self._home = None, NOWHERE, NOWHERE


class _View(_Front):
    """A pool with other options."""

    def __init__(self, pool: WorkerPool, options: Options) -> None:
        self._pool = pool
        self._options = options
        self._crew_here = pool._crew_here  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def _with(self, changes: dict[str, Any]) -> Pool:
        return _View(self._pool, self._options.but(changes))

    async def aclose(self, *, grace: float | None = None) -> None:
        await self._pool.aclose(grace=grace)

    def __repr__(self) -> str:
        return f"<{self._options} of {self._pool!r}>"


async def _stop(crew: Crew, call: Call) -> None:
    """Stop a call whose await was cancelled, as its options say."""
    if call.done:
        return
    if call.options.on_cancel == "shield" and call.has_begun:
        # asyncio's own cancel goes through the shield, and means: no more waiting.
        with anyio.CancelScope(shield=True):
            await crew.until(lambda: call.done)
    else:
        crew.cancel(call)


def _context(mp_context: BaseContext | str | None) -> BaseContext:
    if mp_context is None:
        methods = get_all_start_methods()
        mp_context = "forkserver" if "forkserver" in methods else "spawn"
    return get_context(mp_context) if isinstance(mp_context, str) else mp_context


def _pickler(serializer: Serializer) -> NewPickler | None:
    if serializer == "pickle":
        return None
    if serializer == "cloudpickle":
        import_module("cloudpickle")  # an extra, and missed before it is needed
        return cloud_pickler
    raise ValueError(
        f"serializer must be 'pickle' or 'cloudpickle', not {serializer!r}"
    )
