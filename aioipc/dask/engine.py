"""Carries out the calls of a `DaskPool` by an asynchronous client of Dask's.

Calls that come in one turn of the loop are sent as one graph. For each of them there is
a task that awaits Dask's future, as there would be with the client alone.

Note to the next reader. That a task has begun is known to its worker only, and told by
it a little later. So a shielded call that was sent counts as begun when it is to be
withdrawn, because no one could take it back for sure; and of a call that is cancelled
the workers are asked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import anyio
from distributed import Future, KilledWorker

from aioipc.abc import PoolStatistics
from aioipc.dask.home import Home, Initialize
from aioipc.dask.remote import Answer, make, unpack
from aioipc.dask.scattering import LARGE, Ahead, Scattering, split
from aioipc.errors import (
    BrokenResourceError,
    TaskError,
    WorkerCrashed,
    WorkerStartError,
)
from aioipc.memory.bulky import size_of
from aioipc.pool._pending import Pending
from aioipc.pool.engine import Engine
from aioipc.pool.outcomes import cannot_load, cannot_send, error_of
from aioipc.pool.task import Call
from aioipc.transport.loops import AsyncioLoop
from aioipc.worker.failures import Failure, text_of

if TYPE_CHECKING:
    from aioipc.pool.options import Options

__all__ = ["DaskCall", "DaskEngine"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_BATCH = 256
"""Calls in one graph, at most: so that the loop is not kept for long."""

_BATCH_SIZE = 1 << 20
"""Bytes in one graph, unless a single call has more."""

_TRIES = 5
"""How often a call is sent whose scattered arguments were lost with a worker."""

_LOOK = 1.0
"""Seconds between two looks at whether scattered arguments are still there."""

_CLOSING = 4.0
"""Seconds that client and cluster have to close, before they are left or killed."""


class DaskCall(Call):
    """A call that a cluster makes.

    :ivar future: Dask's, once it is sent
    :ivar ahead: its arguments that are sent ahead
    :ivar begun: whether a worker has told that it has
    """

    __slots__ = ("ahead", "begun", "future", "is_sent", "timer")

    def __init__(self, number: int, *call: Any) -> None:
        super().__init__(number, *call)
        self.future: Any = None
        self.ahead: Ahead | None = None
        self.begun = self.is_sent = False
        self.timer: Any = None

    @property
    def has_begun(self) -> bool:
        return self.begun

    def withdraw(self) -> bool:
        return not self.is_sent


class DaskEngine(Engine):
    """The client of one pool on one event loop.

    :param limit: calls that the cluster may have at the same time; None for any number
    """

    loop: AsyncioLoop

    def __init__(
        self,
        loop: AsyncioLoop,
        home: Home,
        initialize: Initialize | None,
        limit: int | None,
    ) -> None:
        super().__init__(loop)
        self.limit = limit
        self._home = home
        self._initialize = initialize
        self._client: Any = None  # once it is connected
        self._uid = uuid4().hex
        self._topic = f"aioipc-{self._uid}"
        self._scattering: Scattering | None = None
        self._pending = Pending()
        self._sent = 0  # calls that the cluster has
        self._told: dict[int, DaskCall] = {}  # whose worker tells that they began
        self._is_due = False  # whether calls will be sent soon
        self._crashes = 0
        self._lost: str | None = None
        self._unwanted: list[DaskCall] = []  # that Dask has
        self._alarm: Any = None  # a future of Dask's that only its scheduler's end ends
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._ended = False
        self._life = self._spawn(self._live())

    @property
    def is_ready(self) -> bool:
        """Whether it is connected, or never will be."""
        return self._client is not None or self.refusal is not None

    async def connected(self) -> Any:
        """Return the client, once it is connected.

        :raises Exception: as `check` does
        """
        if self._client is None:
            await self.until(lambda: self.is_ready)
        self.check()
        return self._client

    def follow(self, request: Awaitable[T]) -> "asyncio.Future[T]":
        """Await something to its end, or that of the pool."""

        async def follow() -> T:
            return await request

        return self._spawn(follow())

    @property
    def width(self) -> int:
        threads = self._threads or 1
        return threads if self.limit is None else min(threads, self.limit)

    @property
    def _threads(self) -> int:
        """How many tasks the whole cluster may be at, as last heard."""
        if self._client is None or self._ended:
            return 0
        return int(self._client.scheduler_info().get("total_threads", 0))

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
            self._unwanted.append(call)
            if len(self._unwanted) == 1:
                self._spawn(self._let_go())
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
        if self._pending and not self._is_due and self._client is not None:
            self._is_due = True
            self.loop.loop.call_soon(self._send_some)

    def _send_some(self) -> None:
        self._is_due = False
        batch: list[tuple[DaskCall, bytes]] = []
        size = 0
        while self._may_send and len(batch) < _BATCH and size < _BATCH_SIZE:
            call = self._pending.take()
            assert isinstance(call, DaskCall)
            call.is_sent = True
            packed = self._pack(call)
            if packed is None:
                continue
            self._sent += 1
            if call.ahead is not None or len(packed) >= LARGE:
                self._spawn(self._send_with_large(call, packed))
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
        has_room = self.limit is None or self._sent < self.limit
        return bool(self._pending) and has_room and self._ending is None

    def _pack(self, call: DaskCall) -> bytes | None:
        """Pickle a call; None if that is impossible."""
        try:
            packed, large = split(call)
        except BaseException as error:  # noqa: BLE001 - whatever a user's class raises
            what = call.function, call.args, call.kwargs
            self._fail(call, cannot_send(call.name, what, error))
            return None
        if large:
            assert self._scattering is not None  # or nothing would be sent
            call.ahead = Ahead(self._scattering, large)
        if call.size:
            call.weight = len(packed) + sum(map(size_of, large))
        return packed

    def _send(self, batch: list[tuple[DaskCall, bytes]]) -> None:
        """Send calls that are as urgent as each other."""
        calls = [call for call, _ in batch]
        futures = self._client.map(
            make,
            [packed for _, packed in batch],
            [self._expect(call) for call in calls],
            [call.number for call in calls],
            key=[self._key(call) for call in calls],
            pure=False,
            priority=calls[0].options.priority,
        )
        for call, future in zip(calls, futures, strict=True):
            self._spawn(self._follow(call, future))

    async def _send_with_large(self, call: DaskCall, packed: bytes) -> None:
        """Send a call behind what is sent ahead of it; again if that was lost."""
        apart: Any = None
        try:
            while not call.done:
                ahead = await call.ahead.futures() if call.ahead is not None else []
                first: Any = packed
                if len(packed) >= LARGE:
                    first = apart = await self._client.scatter(packed, hash=False)
                topic, key = self._expect(call), self._key(call)
                future = self._client.submit(
                    make,
                    *(first, topic, call.number, *ahead),
                    key=key,
                    pure=False,
                    priority=call.options.priority,
                )
                await self._answer(call, future)
        except Exception as error:  # noqa: BLE001 - whatever Dask raises
            self._went_wrong(call, error)
        finally:
            if apart is not None:
                apart.release()
            self._has_left(call)

    def _key(self, call: DaskCall) -> str:
        call.tries += 1
        return f"{call.name}-{self._uid}-{call.number}-{call.tries}"

    def _expect(self, call: DaskCall) -> str:
        """Return where its worker is to tell that it has begun."""
        self._told[call.number] = call
        return self._topic

    # Outcomes

    async def _follow(self, call: DaskCall, future: Any) -> None:
        """Wait for the outcome of a call."""
        try:
            await self._answer(call, future)
        except Exception as error:  # noqa: BLE001 - whatever Dask raises
            self._went_wrong(call, error)
        finally:
            self._has_left(call)

    async def _answer(self, call: DaskCall, future: Any) -> None:
        call.future = future
        if call.done:
            future.release()
            return
        try:
            answer = await self._result(call, future)
        except CancelledError:  # that of threads', not of the loop's
            if not self._may_try_again(call):
                raise
        else:
            self._take(call, answer)
        finally:
            future.release()

    async def _result(self, call: DaskCall, future: Any) -> Answer:
        """Wait for what came of a call, or until an argument of it is lost.

        :raises CancelledError: if it is, or Dask has cancelled it
        """
        if call.ahead is None:
            return await future.result()
        # Of the loss of data Dask wakes no one, so they are looked at now and then.
        waiting = self._spawn(future.result())
        try:
            while not (await asyncio.wait({waiting}, timeout=_LOOK))[0]:
                if call.ahead.is_lost or future.status == "lost":
                    raise CancelledError("an argument was lost with its worker")
            return waiting.result()
        finally:
            waiting.cancel()

    def _may_try_again(self, call: DaskCall) -> bool:
        """Whether it was only its arguments that got lost, with a worker."""
        has_large = call.ahead is not None
        return has_large and call.tries < _TRIES and self._client.status == "running"

    def _has_left(self, call: DaskCall) -> None:
        self._sent -= 1
        self._told.pop(call.number, None)
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

    def _went_wrong(self, call: DaskCall, error: Exception) -> None:
        """Give a call the outcome that Dask gave up on it, or that it was lost."""
        if call.done:
            return
        if self._client.status != "running":
            self._lose()
        elif isinstance(error, KilledWorker):
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

    async def _let_go(self) -> None:
        """Have Dask forget calls that no one wants, unless a worker is at them.

        Of those it has to know: it would give the worker another one to do.
        """
        while self._unwanted:
            calls, self._unwanted = self._unwanted, []
            running = await self._running([call.future.key for call in calls])
            for call in calls:
                if call.future.key not in running:
                    call.future.release()

    async def _running(self, keys: list[str]) -> set[str]:
        """Return which of these calls a worker is at."""
        try:
            stacks = await self._client.call_stack(keys=keys)
        except Exception:  # noqa: BLE001 - the scheduler does not know one of them
            alone = [await self._running([key]) for key in keys if len(keys) > 1]
            return {key for keys in alone for key in keys}
        return {key for of_worker in stacks.values() for key in of_worker}

    def _hear(self, event: tuple[float, int]) -> None:
        """Note that a call has begun; it may do so again, elsewhere."""
        call = self._told.get(event[1])
        if call is None or call.done:
            return
        call.begun = True
        seconds = call.options.timeout
        if seconds is not None:
            if call.timer is not None:
                call.timer.cancel()
            late = TimeoutError(f"task {call.name} took longer than {seconds:g} s")
            call.timer = self.loop.call_later(seconds, lambda: self.stop(call, late))
        self._notify()

    # Life

    async def _live(self) -> None:
        """Connect, and wait for the connection to break."""
        try:
            client = await self._home.open()
            if self._initialize is not None:
                await self._register(client, self._initialize)
        except Exception as error:  # noqa: BLE001 - whatever Dask raises
            self._break(error)
            return
        client.subscribe_topic(self._topic, self._hear)
        self._scattering = Scattering(client)
        self._client = client
        self._notify()
        self.go_on()
        self._alarm = Future(f"{self._topic}-alarm", client)
        try:
            await self._alarm.result()
        except CancelledError:  # Dask's, not the loop's
            self._lose()
        finally:
            self._alarm.release()

    async def _register(self, client: Any, initialize: Initialize) -> None:
        try:
            await client.register_plugin(initialize, name=self._topic)
        except BaseException:
            # Dask keeps it all the same, and no worker that comes later could start.
            await client.unregister_worker_plugin(self._topic)
            raise

    def _break(self, error: Exception) -> None:
        said = f"can't reach Dask, {self._home}: {type(error).__name__}: {error}"
        self.broken, self.refusal = WorkerStartError(said), said
        self.broken.__cause__ = error
        self._fail_all(self.broken)
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
            with anyio.move_on_after(_CLOSING):
                await self._end_tasks()
                if self._client is not None and self._client.status == "running":
                    self._client.unsubscribe_topic(self._topic)
                    if self._initialize is not None and not self._home.is_own:
                        await self._client.unregister_worker_plugin(self._topic)
                await self._home.close()
        except Exception:  # noqa: BLE001 - what can't be closed is broken already
            _log.warning("%s could not be closed", self._home, exc_info=True)
        finally:
            self._home.kill()
            self._ended = True
            self._notify()

    async def _end_tasks(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def abandon(self) -> None:
        self.refuse()
        self.closed = True
        if not self._ended:
            self._home.kill()
        if self.open:
            self._fail_abandoned()

    def statistics(self) -> PoolStatistics:
        """Return how many threads and tasks there are.

        Those that the cluster has count as running, up to the number of its threads
        where there is no limit: so it is, unless others keep it busy, too.
        """
        sent = sum(isinstance(it, DaskCall) and it.is_sent for it in self.open)
        running = sent if self.limit is not None else min(sent, self.width)
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


def _crash(call: Call, why: str, error: BaseException) -> WorkerCrashed:
    crash = WorkerCrashed(f"task {call.name}: {why}", call.name)
    crash.__cause__ = error
    return crash
