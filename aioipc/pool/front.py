"""What every pool of this package does the same way: `Front`, and its run of a loop.

A pool takes the event loop that it is first used in, with an `Engine` of its own there.
`EnginePool` has that life; what runs the calls is left to who derives from it.
"""

import os
import warnings
from abc import abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import Any, Generic, ParamSpec, Self, TypeVar

import anyio

from aioipc.abc import Capabilities, Items, MapOptions, Pool, PoolStatistics, Results
from aioipc.errors import ClosedResourceError, TaskCancelled
from aioipc.pool.engine import Engine
from aioipc.pool.executor import PoolExecutor
from aioipc.pool.maps import MapResults
from aioipc.pool.options import Options, check_options
from aioipc.pool.task import Call, PoolTask
from aioipc.transport.ends import LoopEnd
from aioipc.transport.loops import NOWHERE, Loop, running_loop, settle

__all__ = ["GRACE", "EnginePool", "Front"]

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=Engine)

GRACE = 5.0
"""Seconds that tasks have to end, when a pool does not say."""

REAPING = 5.0
"""Seconds that killed workers have to be gone, before they are left to the kernel."""


class Front(Pool):
    """What a pool and what its `options` returns have in common."""

    _options: Options

    async def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        engine = self._engine_here()
        call = engine.submit(function, args, kwargs, self._options)
        alone = len(engine.open) == 1
        if alone:
            engine.look(call)
        if not call.done:
            since, finished = perf_counter(), engine.finished
            call.waiter = waiter = engine.loop.waiter()
            try:
                await waiter
                if alone:
                    engine.waited(perf_counter() - since, finished)
            except BaseException:
                call.waiter = None
                await _stop(engine, call)
                raise
        try:
            return call.take()
        finally:
            del args, kwargs, call  # which the traceback would keep

    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> PoolTask[T]:
        engine = self._engine_here()
        call = engine.submit(function, args, kwargs, self._options)
        return engine.task_type(call, engine, self)

    def _map(
        self,
        function: Callable[..., Any],
        iterables: tuple[Items[Any], ...],
        how: MapOptions,
    ) -> Results[Any]:
        engine = self._engine_here()
        return MapResults(self, engine, self._options, function, iterables, how=how)

    def as_executor(self) -> PoolExecutor:
        """Return an executor for code that knows `concurrent.futures` only.

        It takes calls from any thread, for the event loop that this is called in.
        """
        return PoolExecutor(self, self._engine_here(), self._options)

    def _engine_here(self) -> Engine:
        """Return what carries calls out, for one from the loop that it serves."""
        raise NotImplementedError


class EnginePool(Front, Generic[E]):
    """A pool from its first use to its end.

    :param options: of tasks for which `options` was not called
    """

    def __init__(self, options: Options, *, name: str | None, grace: float) -> None:
        self._name = name
        self._grace = grace
        self._options = options
        self._loop: Loop = NOWHERE
        self._home: object = NOWHERE  # see Loop.mark
        self._engine: E | None = None
        self._loop_end: LoopEnd | None = None
        self._pid = 0  # of the process that has used it
        self._closed = False

    @abstractmethod
    def _new_engine(self, loop: Loop) -> E:
        """Return what is to carry out calls from that loop."""

    @property
    @abstractmethod
    def _width(self) -> int:
        """How many tasks may run at the same time."""

    def _with(self, changes: dict[str, Any]) -> Pool:
        return _View(self, self._but(self._options, changes))

    def _but(self, options: Options, changes: dict[str, Any]) -> Options:
        options = options.but(changes)
        check_options(options, self.capabilities, type(self).__name__)
        return options

    async def aclose(self, *, grace: float | None = None) -> None:
        engine, self._closed = self._engine, True
        if engine is None:
            return
        if engine.closed:  # another one is at it, or has been
            if engine.loop.is_current():
                with anyio.move_on_after(REAPING):
                    await engine.until(engine.has_no_workers)
            return
        if not engine.loop.is_current():
            settle(engine.loop, repr(self))
            self._abandon()
            return
        engine.refuse()
        try:
            with anyio.move_on_after(self._grace if grace is None else grace):
                await engine.until(engine.has_no_calls)
                engine.end_all()
                await engine.until(engine.has_no_workers)
        finally:
            engine.close(TaskCancelled("the pool was closed"))
            # asyncio's own cancel goes through the shield, and means: no more waiting.
            with anyio.move_on_after(REAPING, shield=True):
                await engine.until(engine.has_no_workers)
            self._abandon()

    def statistics(self) -> PoolStatistics:
        """Return how many workers and tasks there are."""
        return PoolStatistics() if self._engine is None else self._engine.statistics()

    async def __aenter__(self) -> Self:
        self._engine_here()
        return self

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        if self._closed:
            return f"<{type(self).__name__}{name} closed>"
        state = self.statistics()
        return (
            f"<{type(self).__name__}{name} workers={state.workers}/{self._width} "
            f"running={state.tasks_running} pending={state.tasks_pending}>"
        )

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not getattr(self, "_closed", True) and self._pid == os.getpid():
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self._abandon()

    def _engine_here(self) -> E:
        engine = self._engine
        if engine is not None and (
            running_loop() is self._home or self._loop.is_current()
        ):
            return engine
        return self._settle()

    def _settle(self) -> E:
        """Take the current loop, with workers of its own."""
        if self._closed:
            raise ClosedResourceError(f"{self!r} is closed")
        if self._engine is not None and self._engine.closed:
            self._engine.check()
        loop = settle(self._loop, repr(self))
        engine = self._new_engine(loop)
        self._abandon()
        self._loop, self._home, self._pid = loop, loop.mark, os.getpid()
        self._engine = engine
        self._loop_end = LoopEnd(self._end_with_loop)
        return engine

    def _abandon(self) -> None:
        """Kill the workers, if there are any left."""
        if self._loop_end is not None:
            self._loop_end.cancel()
            self._loop_end = None
        if self._engine is not None:
            self._engine.abandon()

    async def _end_with_loop(self) -> None:
        """Kill the workers once no one awaits them; another loop may have others."""
        engine = self._engine
        try:
            if engine is not None:
                await engine.until(engine.has_no_waiters)
        finally:
            if self._engine is engine:
                self._abandon()
                self._engine, self._loop, self._home = None, NOWHERE, NOWHERE


class _View(Front):
    """A pool with other options."""

    def __init__(self, pool: EnginePool[Any], options: Options) -> None:
        self._pool = pool
        self._options = options
        self._engine_here = pool._engine_here  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    @property
    def capabilities(self) -> Capabilities:
        return self._pool.capabilities

    def _with(self, changes: dict[str, Any]) -> Pool:
        options = self._pool._but(self._options, changes)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return _View(self._pool, options)

    def statistics(self) -> PoolStatistics:
        return self._pool.statistics()

    def resize(self, max_workers: int) -> None:
        self._pool.resize(max_workers)

    async def aclose(self, *, grace: float | None = None) -> None:
        await self._pool.aclose(grace=grace)

    def __repr__(self) -> str:
        return f"<{self._options} of {self._pool!r}>"


async def _stop(engine: Engine, call: Call) -> None:
    """Stop a call whose await was cancelled, as its options say."""
    if call.done:
        return
    if call.options.on_cancel == "shield" and not call.withdraw():
        # asyncio's own cancel goes through the shield, and means: no more waiting.
        with anyio.CancelScope(shield=True):
            await engine.until(lambda: call.done)
    else:
        engine.cancel(call)
