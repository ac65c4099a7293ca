"""Carries out the calls of a `DaskPool` by an asynchronous client of Dask's.

Calls that come in one turn of the loop are sent as one graph. For each of them there is
a task that awaits Dask's future, as there would be with the client alone.

Note to the next reader. That a task has begun is known to its worker only, and told by
it a little later, if at all. So a shielded call that was sent counts as begun when it
is to be withdrawn, because no one could take it back for sure; and of a call that is
cancelled its worker is asked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from distributed import KilledWorker

from aioipc.abc import PoolStatistics
from aioipc.dask.connection import Action, Connection, not_initialized
from aioipc.dask.home import Home
from aioipc.dask.remote import Answer, dumps, note, unpack
from aioipc.dask.scattering import Ahead
from aioipc.dask.sending import DaskCall, DataLost, PackedCall, Sender
from aioipc.errors import (
    BrokenResourceError,
    ClosedResourceError,
    TaskError,
    WorkerCrashed,
    WorkerStartError,
)
from aioipc.pool._pending import Pending
from aioipc.pool.engine import Engine
from aioipc.pool.outcomes import cannot_load, cannot_send, error_of
from aioipc.pool.task import Call
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import AsyncioLoop
from aioipc.worker.failures import Failure, text_of

if TYPE_CHECKING:
    from aioipc.dask.shared import Kept
    from aioipc.pool.options import Options

__all__ = ["DaskEngine"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_BATCH = 256
"""Calls in one graph, at most: so that the loop is not kept for long."""

_BATCH_SIZE = 1 << 20
"""Bytes in one graph, unless a single call has more."""

_HEARING = 1.5
"""Seconds that the workers have to hear that the pool is closed, and seconds that
requests have to end: that is more than their patience."""

_LEAVING = 4.0
"""Seconds for all that the cluster has to know."""

_CLOSING = 2.5
"""Seconds that client and cluster have to close, before they are left or killed."""


class DaskEngine(Engine):
    """The client of one pool on one event loop.

    :param limit: calls that the cluster may have at the same time; None for any number
    :param kept: of what the pool shares
    """

    chunk_options = MappingProxyType({"note": note})
    loop: AsyncioLoop

    def __init__(
        self,
        loop: AsyncioLoop,
        home: Home,
        initialize: Action | None,
        limit: int | None,
        kept: "set[Kept]",
    ) -> None:
        super().__init__(loop)
        self.limit = limit
        self._home = home
        self._connection = Connection(home, initialize, self._has_begun)
        self._sender: Any = None  # once it is connected
        self._pending = Pending()
        self._sent: dict[int, DaskCall] = {}  # that the cluster has
        self._is_due = False  # whether calls will be sent soon
        self._crashes = 0
        self._lost: str | None = None
        self._unwanted: list[DaskCall] = []  # that Dask has
        self._tasks: set[asyncio.Task[Any]] = set()
        self._requests: set[asyncio.Task[Any]] = set()
        self._kept = kept
        self._ending: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._ended = False
        self._spawn(self._live())
        forget_in_forks(self)

    @property
    def is_ready(self) -> bool:
        """Whether it is connected, or never will be."""
        return self._sender is not None or self.refusal is not None

    async def connected(self) -> Any:
        """Return the client, once it is connected.

        :raises Exception: as `check_connected` does
        """
        if self._sender is None:
            await self.until(lambda: self.is_ready)
        self.check_connected()
        return self._connection.client

    def check_connected(self) -> None:
        """Raise if nothing can be asked of the scheduler; in a grace it still can.

        :raises Exception: as `check` does
        """
        if self._ending is not None or self._sender is None:
            self.check()
            raise ClosedResourceError("the pool is closed")

    def request(self, request: Awaitable[T]) -> "asyncio.Future[T]":
        """Follow something that was asked of the scheduler, whoever awaits it.

        It should not take long: the end of the pool waits for it.
        """

        async def follow() -> T:
            return await request

        task = self.loop.loop.create_task(follow())
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    @property
    def width(self) -> int:
        threads = self._threads or 1
        return threads if self.limit is None else min(threads, self.limit)

    @property
    def _threads(self) -> int:
        return 0 if self._ended else self._connection.threads

    # Calls

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: "Options",
    ) -> Call:
        if self.refusal is not None:
            self.check()
        self._numbers += 1
        call = DaskCall(self._numbers, function, args, kwargs, options)
        self.open[call] = None
        self._pending.push(call)
        self.go_on()
        return call

    def stop(self, call: Call, error: BaseException) -> None:
        assert isinstance(call, DaskCall)  # there are no others
        if call.done:
            return
        if not call.is_sent:
            call.done = True
            self._pending.forget()
        elif call.future is not None:
            if not self._unwanted:
                self.loop.loop.call_soon(self._withdraw)
            self._unwanted.append(call)
        self._fail(call, error)

    def check(self) -> None:
        if self._lost is not None:
            raise BrokenResourceError(self._lost)
        super().check()

    def resize(self, limit: int) -> None:
        """Have the cluster have so many calls at the same time."""
        self.limit = limit
        self._home.grow(limit)
        self.go_on()

    def go_on(self) -> None:
        """Send what may be sent, soon."""
        if self._pending and not self._is_due and self._sender is not None:
            self._is_due = True
            self.loop.loop.call_soon(self._send_some)

    def _send_some(self) -> None:
        self._is_due = False
        batch: list[PackedCall] = []
        size = 0
        while self._may_send and len(batch) < _BATCH and size < _BATCH_SIZE:
            call = self._pending.take()
            assert isinstance(call, DaskCall)
            call.is_sent = True
            call.tries += 1
            packed = self._pack(call)
            if packed is None:
                continue
            self._sent[call.number] = call
            if call.ahead is not None:
                self._follow(call, self._sender.send_large(call, packed))
                continue
            if batch and call.options.priority != batch[0][0].options.priority:
                self._send(batch)
                batch, size = [], 0
            batch.append((call, packed))
            size += len(packed)
        if batch:
            self._send(batch)
        if self._may_send:
            self.go_on()
        self._notify()

    @property
    def _may_send(self) -> bool:
        has_room = self.limit is None or len(self._sent) < self.limit
        return bool(self._pending) and has_room and self._ending is None

    def _pack(self, call: DaskCall) -> bytes | None:
        """Pickle a call; None if that is impossible."""
        try:
            return self._sender.pack(call)
        except BaseException as error:  # noqa: BLE001 - whatever a user's class raises
            what = call.function, call.args, call.kwargs
            self._fail(call, cannot_send(call.name, what, error, dumps))
            return None

    def _send(self, batch: list[PackedCall]) -> None:
        """Send calls that are as urgent as each other."""
        for (call, _), future in zip(batch, self._sender.send(batch), strict=True):
            self._follow(call, self._sender.answer(call, future))

    # Outcomes

    def _follow(self, call: DaskCall, answer: Coroutine[Any, Any, Answer]) -> None:
        """Give a call the outcome that its answer is."""

        def is_here(task: "asyncio.Task[Answer]") -> None:
            if not task.cancelled():  # as it is when all ends
                error = task.exception()
                if error is None:
                    self._take(call, task.result())
                else:
                    self._went_wrong(call, error)
            self._has_left(call)

        self._spawn(answer).add_done_callback(is_here)

    def _has_left(self, call: DaskCall) -> None:
        del self._sent[call.number]
        if call.timer is not None:
            call.timer.cancel()
        self.go_on()
        if call.ahead is not None:  # once the next calls have it, too
            self.loop.loop.call_soon(self._forget_ahead, call.ahead)
        self._notify()

    def _forget_ahead(self, ahead: Ahead) -> None:
        ahead.let_go()
        self._notify()

    def _take(self, call: DaskCall, answer: Answer) -> None:
        if call.done:  # its user does not want it any more
            return
        if isinstance(answer, Failure):
            if answer.doing == "start":
                self._break(not_initialized(answer))
            else:
                self._fail(call, error_of(answer, call.name))
            return
        try:
            value = unpack(answer)
        except BaseException as error:  # noqa: BLE001 - whatever a user's class raises
            self._fail(call, cannot_load(call.name, error))
            return
        if call.size:
            call.weight += len(answer) if isinstance(answer, bytes) else answer.size
        self.finished += 1
        del self.open[call]
        call.resolve(value)
        self._notify()

    def _went_wrong(self, call: DaskCall, error: BaseException) -> None:
        """Give a call the outcome that Dask gave up on it, or that it was lost."""
        if call.done:
            return
        if not self._connection.is_open:
            self._lose()
        elif isinstance(error, KilledWorker | DataLost):
            self._crashes += 1
            if call.tries > call.options.retries:
                self._fail(call, _crash(call, str(error), error))
            else:
                call.begun = call.is_sent = False
                call.future = None
                self._pending.push(call)
        elif isinstance(error, CancelledError):
            self._fail(call, _crash(call, f"it was lost: {text_of(error)}", error))
        else:
            said = f"Dask can't run task {call.name}: {error!r}"
            wrapped = TaskError(said, type(error).__qualname__)
            wrapped.__cause__ = error
            self._fail(call, wrapped)

    def _withdraw(self) -> None:
        calls, self._unwanted = self._unwanted, []
        if self._ending is None:
            self._spawn(self._sender.withdraw(calls))

    def _has_begun(self, number: int, ago: float) -> None:
        """Note that a call has begun; it may do so again, elsewhere."""
        call = self._sent.get(number)
        if call is None or call.done:
            return
        call.begun = True
        seconds = call.options.timeout
        if seconds is not None:
            if call.timer is not None:
                call.timer.cancel()
            late = TimeoutError(f"task {call.name} took longer than {seconds:g} s")
            left = max(0.0, seconds - ago)
            call.timer = self.loop.call_later(left, lambda: self.stop(call, late))
        self._notify()

    # Life

    async def _live(self) -> None:
        """Connect, and wait for the connection to break."""
        try:
            await self._connection.open()
            self._sender = Sender(self._connection)
            self._spawn(self._home.tend())
            self._notify()
            self.go_on()
            await self._connection.until_lost()
        except WorkerStartError as error:
            self._break(error)
        except Exception as error:  # noqa: BLE001 - whatever Dask raises
            said = f"can't reach Dask, {self._home}: {type(error).__name__}: {error}"
            failed = WorkerStartError(said)
            failed.__cause__ = error
            self._break(failed)
        else:
            self._lose()

    def _break(self, error: WorkerStartError) -> None:
        """Stop for good, because no task can be run."""
        self.broken, self.refusal = error, str(error)
        self._fail_all(error)
        self.end_all()

    def _lose(self) -> None:
        if self._lost is None:
            self._lost = f"the connection to Dask's scheduler is lost: {self._home}"
            self.refuse(self._lost)
            self.end_all()
        self._fail_all(BrokenResourceError(self._lost))

    def has_no_workers(self) -> bool:
        """Whether the client is closed, and the cluster if it is the pool's own."""
        return self._ended

    def end_all(self) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())

    def close(self, error: BaseException) -> None:
        self.refuse()
        self._fail_all(error)
        if not self.closed and not self._ended:
            self.closed = True
            self._home.is_in_haste = True
            self.end_all()
        self.closed = True

    async def _end(self) -> None:
        try:
            await self._in_time(_LEAVING, self._leave())
            # What takes longer goes on: cut short it would leave processes.
            self._closing = self.request(self._home.close())
            await self._in_time(_CLOSING, asyncio.wait({self._closing}))
            if self._closing.done() and (error := self._closing.exception()):
                _log.warning("%s could not be closed", self._home, exc_info=error)
        finally:
            for kept in self._kept:
                kept.drop()
            self._home.kill()
            self._ended = True
            self._notify()

    async def _in_time(self, seconds: float, step: Awaitable[object]) -> None:
        try:
            with anyio.move_on_after(seconds):
                await step
        except Exception:  # noqa: BLE001 - what can't be closed is broken already
            _log.warning("%s could not be left", self._home, exc_info=True)

    async def _leave(self) -> None:
        has_calls = bool(self._sent)
        await _end_tasks(self._tasks)
        is_open = self._connection.is_open and not self._home.is_own
        if is_open and has_calls:
            await self._in_time(_HEARING, self._connection.turn_away())
        with anyio.move_on_after(_HEARING if is_open else 0):
            while self._requests:  # what they undo are requests, too
                await asyncio.wait(self._requests)
        await _end_tasks(self._requests)
        if is_open:
            await self._connection.leave([kept.left() for kept in self._kept])

    def abandon(self) -> None:
        self.refuse()
        if not self.closed and not self._ended:
            self._home.is_in_haste = True
            self._home.kill()
            self.loop.call_soon(self.end_all)
        self.closed = True
        if self.open:
            self._fail_abandoned()

    def forget(self) -> None:
        """Leave the cluster to the process that this one was forked from."""
        self.refuse("the pool is of the process that this one was forked from")
        self.closed = self._ended = True

    def statistics(self) -> PoolStatistics:
        """Return how many threads and tasks there are.

        Those that the cluster has count as running, up to the number of its threads: so
        it is, unless others keep it busy, too. What was abandoned does not count.
        """
        sent = sum(isinstance(it, DaskCall) and it.is_sent for it in self.open)
        running = min(sent, self.width)
        return PoolStatistics(
            workers=min(self._threads, self.width),
            tasks_pending=len(self.open) - running,
            tasks_running=running,
            tasks_finished=self.finished,
            tasks_failed=self.failed,
            crashes=self._crashes,
        )

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = self.loop.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _end_tasks(running: set[asyncio.Task[Any]]) -> None:
    tasks = [*running]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _crash(call: Call, why: str, error: BaseException) -> WorkerCrashed:
    crash = WorkerCrashed(f"task {call.name}: {why}", call.name)
    crash.__cause__ = error
    return crash
