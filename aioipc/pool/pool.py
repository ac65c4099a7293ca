"""`WorkerPool`: calls of functions in worker processes, awaited."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from operator import index
from time import monotonic
from typing import Any, Literal, Self

from aioipc.abc import Capabilities
from aioipc.bridge.handover import plain
from aioipc.pool._scheduler import Sizes
from aioipc.pool.closures import cloud_pickler
from aioipc.pool.crew import Crew, Launch
from aioipc.pool.front import GRACE, EnginePool
from aioipc.pool.guard import check_guard
from aioipc.pool.limits import usable_cpus, usable_memory
from aioipc.pool.options import OnCancel, Options
from aioipc.transport.loops import Loop
from aioipc.wire.pickles import NewPickler

__all__ = ["WorkerPool"]

IDLE_TIMEOUT = 60.0
START_TIMEOUT = 60.0

Serializer = Literal["pickle", "cloudpickle"]


class WorkerPool(EnginePool[Crew]):
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
        self._capabilities = Capabilities(
            concurrent=True,
            can_kill_running=True,
            can_abandon_running=True,
            can_time_out=True,
            has_priorities=True,
            survives_crashes=True,
            at_most_once=True,
            can_retry=True,
            can_resize=True,
            pickles=True,
            bounds_bytes=True,
            zero_copy=max_shared_memory > 0,
        )
        super().__init__(Options(on_cancel=on_cancel), name=name, grace=grace)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def warm_up(self, count: int | None = None) -> None:
        """Start workers, and wait until they are ready.

        :param count: how many there are to be; None for all
        :raises WorkerStartError: if they can't be started
        """
        crew = self._engine_here()
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

    async def __aenter__(self) -> Self:
        self._engine_here().pump()
        return self

    @property
    def _crew(self) -> Crew | None:
        """What carries its calls out."""
        return self._engine

    @property
    def _width(self) -> int:
        return self._sizes.maximum

    def _new_engine(self, loop: Loop) -> Crew:
        check_guard()
        return Crew(loop, replace(self._sizes), self._launch)


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
