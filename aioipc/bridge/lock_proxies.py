"""The locks of a manager, awaited: Lock, RLock, Semaphore and Condition.

To the next reader. The manager holds a lock in the thread that serves the connection.
A Lock or a Semaphore may be released over any connection, an RLock and a Condition only
over the one that acquired it. So these two keep a line as long as they are held; and so
does what may be any of them.

What may race is a cancel with the manager's answer. Whatever waits for an answer is a
job in a thread, and what must follow on a cancel is submitted to the same line, where
it comes after the answer, even if the loop is over by then.

- `acquire` waits in slices: a job that was given up ends within one,
  and what it got is released. The tasks of one object ask one after the other, in
  their order, so they need one thread.
- `Condition.wait` must not: a notification that comes just as a slice ends would be
  lost. To end a wait that was cancelled, all waiters are notified.
"""

import contextlib
import inspect
import math
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import anyio
import anyio.lowlevel

from aioipc.bridge.insides.managers import ProxyInsides
from aioipc.bridge.lines import Line, Lines
from aioipc.bridge.proxy import WaitingProxy, stands_for
from aioipc.bridge.slices import in_slices
from aioipc.errors import ClosedResourceError
from aioipc.transport.loops import current_task
from aioipc.transport.threads import Job
from aioipc.transport.turns import Turn

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "AsyncAcquirerProxy",
    "AsyncConditionProxy",
    "AsyncLockProxy",
    "AsyncRLockProxy",
    "AsyncSemaphoreProxy",
]

R = TypeVar("R")


class _Acquirer(WaitingProxy):
    """What can be acquired, over a line."""

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; False if that takes longer than `timeout` seconds.

        A cancelled one holds nothing: what the manager grants too late is released.
        """
        raise NotImplementedError

    async def release(self) -> None:
        """Release it. A cancel does not keep that from happening."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: "type[BaseException] | None",
        exc_value: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        await self.release()

    async def _acquire(self, block: bool, timeout: float | None) -> Line | None:
        """Acquire it, and return the line over which it was; None if it was not."""
        insides = self._open()
        seconds = _seconds(block, timeout)
        if seconds == -math.inf:
            return await self._attempt(insides, seconds)
        self._settle()
        turn = self._turn
        deadline = anyio.current_time() + seconds
        if turn.taken:
            with anyio.move_on_after(timeout) as scope:
                await turn.wait()
            if scope.cancelled_caught:
                return None
        turn.taken = True
        try:
            return await self._attempt(self._open(), deadline - anyio.current_time())
        finally:
            turn.pass_on()

    async def _attempt(
        self, insides: ProxyInsides, seconds: float, kept: Line | None = None
    ) -> Line | None:
        """Acquire it over a line, one that is `kept` or another."""
        given_up = threading.Event()

        def acquire() -> bool:
            if seconds == -math.inf:
                return insides.proxy.acquire(False)
            return in_slices(
                lambda left: insides.proxy.acquire(True, left),
                seconds,
                lambda: given_up.is_set() or self._closed,
            )

        def undo() -> None:
            if job.succeeded and job.result():
                insides.proxy.release()

        def give_back() -> None:
            if line is not kept:
                lines.give_back(line)

        lines = self._lines
        line = kept or lines.borrow()
        job = line.submit(insides, acquire)
        try:
            await job.wait()
            self._check_open()
        except BaseException:
            given_up.set()
            line.submit(insides, undo).then(give_back)
            raise
        if job.succeeded and job.result():
            return line
        give_back()
        job.result()
        return None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError(f"{self!r} was closed while a task waited")

    def _forget_tasks(self) -> None:
        self._turn = Turn()


def _seconds(block: bool, timeout: float | None) -> float:
    """For how long to wait; minus infinity if not at all."""
    if not block:
        return -math.inf
    return math.inf if timeout is None else timeout


@stands_for("AcquirerProxy:Lock")
class AsyncLockProxy(_Acquirer):
    """A manager's Lock, awaited. Anyone may release it."""

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; False if that takes longer than `timeout` seconds.

        A cancelled one holds nothing: what the manager grants too late is released.
        """
        line = await self._acquire(block, timeout)
        if line is not None:
            self._lines.give_back(line)
        return line is not None

    async def release(self) -> None:
        """Release it. A cancel does not keep that from happening.

        :raises RuntimeError: if no one holds it
        """
        await self._call("release")


@stands_for("AcquirerProxy:Semaphore", "AcquirerProxy:BoundedSemaphore")
class AsyncSemaphoreProxy(AsyncLockProxy):
    """A manager's Semaphore or BoundedSemaphore, awaited.

    A BoundedSemaphore raises ValueError if it is released more often than acquired.
    """


class _Hold:
    """An RLock or a Condition that a task has, or what may be one.

    :ivar task: itself, not its id, which might be another's later
    :ivar line: over which it was acquired, once
    :ivar depth: how often the task has acquired it
    """

    __slots__ = ("_insides", "_lines", "depth", "line", "task")

    def __init__(
        self, task: object, insides: ProxyInsides, lines: Lines, line: Line
    ) -> None:
        self._insides = insides
        self._lines = lines
        self.task = task
        self.line = line
        self.depth = 1

    def call(self, method: str, *args: Any) -> Job[Any]:
        """Call a method of what is held."""
        insides = self._insides
        return self.line.submit(insides, lambda: insides.call(method, args, {}))

    def let_go(self) -> Job[Any]:
        """Release it, and give the line back."""
        job = self.call("release")
        job.then(lambda: self._lines.give_back(self.line))
        return job

    def leave(self) -> None:
        """Give the line back when its calls are done: it holds nothing."""
        line = self.line
        line.submit_aside(_nothing).then(lambda: self._lines.give_back(line))

    def wake_all(self) -> None:
        """Have all wake who wait at it, among them one whose wait is the line's."""
        proxy = self._insides.proxy

        def notify_all() -> None:
            # It gets the lock after the wait has begun, which holds it until then.
            proxy.acquire()
            try:
                proxy.notify_all()
            finally:
                proxy.release()

        self._lines.call_apart(self._insides, notify_all)


@stands_for("AcquirerProxy")
class AsyncAcquirerProxy(AsyncLockProxy):
    """A lock of a type that was registered with `AcquirerProxy`, awaited.

    Only the manager knows whether it is a Lock, an RLock or a Semaphore. A task that
    has acquired it may do so again if that is what it is; and another task may release
    it unless it is an RLock.

    Release it before you close this: `close` does not, and no one else can release an
    RLock.
    """

    def forget(self) -> None:
        super().forget()
        self._may_be_rlock = True
        self._hold: _Hold | None = None  # the only one there is, if it is an RLock

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; False if that takes longer than `timeout` seconds.

        A cancelled one holds nothing: what the manager grants too late is released.
        """
        insides, task, hold = self._open(), current_task(), self._hold
        if hold is not None and hold.task is task:
            # Not in its turn: whoever has that may be waiting for this task.
            seconds = _seconds(block, timeout)
            again = await self._attempt(insides, seconds, hold.line) is not None
            hold.depth += again
            return again
        line = await self._acquire(block, timeout)
        if line is None:
            return False
        if self._hold is not None:  # two have it
            self._may_be_rlock = False
            self._hold.leave()
            self._hold = None
        if self._may_be_rlock:
            self._hold = _Hold(task, insides, self._lines, line)
        else:
            self._lines.give_back(line)
        return True

    async def release(self) -> None:
        """Release it. A cancel does not keep that from happening.

        :raises RuntimeError: if no one holds it; of an RLock: if this task does not
        """
        self._open()
        hold = self._hold
        if hold is None or hold.task is not current_task():
            await super().release()
            return
        hold.depth -= 1
        if hold.depth:
            job = hold.call("release")
        else:
            self._hold = None
            job = hold.let_go()
        await job.wait()
        job.result()

    def close(self) -> None:
        """Use it no more here; it stays held."""
        if not self._closed and self._hold is not None:
            self._lines.drop(self._hold.line)
            self._hold = None
        super().close()


@stands_for("AcquirerProxy:RLock")
class AsyncRLockProxy(_Acquirer):
    """A manager's RLock, awaited. It belongs to the task that acquired it.

    That task may acquire it again through the same object, and must release it as
    often. For every other task it is locked, also if it is of the same program.
    """

    def forget(self) -> None:
        super().forget()
        self._hold: _Hold | None = None

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; False if that takes longer than `timeout` seconds.

        A cancelled one holds nothing: what the manager grants too late is released.
        """
        self._open()
        task, hold = current_task(), self._hold
        if hold is not None and hold.task is task:
            await anyio.lowlevel.checkpoint()
            hold.depth += 1
            return True
        line = await self._acquire(block, timeout)
        if line is not None:
            self._hold = _Hold(task, self._open(), self._lines, line)
        return line is not None

    async def release(self) -> None:
        """Release it. A cancel does not keep that from happening.

        :raises RuntimeError: if this task does not hold it
        """
        hold = self._held("release")
        hold.depth -= 1
        if hold.depth:
            await anyio.lowlevel.checkpoint()
            return
        self._hold = None
        job = hold.let_go()
        await job.wait()
        job.result()

    def close(self) -> None:
        """Use it no more here; if a task holds it, it is released."""
        if not self._closed and self._hold is not None:
            self._hold.let_go()
            self._hold = None
        super().close()

    def _held(self, what: str) -> _Hold:
        self._open()
        hold = self._hold
        if hold is None or hold.task is not current_task():
            raise RuntimeError(f"cannot {what}: this task has not acquired {self!r}")
        return hold


@stands_for("ConditionProxy")
class AsyncConditionProxy(AsyncRLockProxy):
    """A manager's Condition, awaited. It belongs to the task that acquired it.

    As with every condition, look at what you wait for in a loop, or use `wait_for`: a
    wait may end because another one was cancelled, here or in another process.
    """

    async def wait(self, timeout: float | None = None) -> bool:
        """Release it, wait to be notified, and acquire it again.

        A cancelled one raises after it has acquired it again. To get there, it notifies
        all who wait; so no notification is lost with it.

        :param timeout: seconds to wait at most, for ever if None; a notification that
            comes just as they end may be lost with them, as with every Condition
        :returns: False if no one notified in time
        :raises RuntimeError: if this task does not hold it
        """
        hold = self._held("wait")
        self._hold = None
        job = hold.call("wait", timeout)
        try:
            await job.wait()
        except BaseException as error:
            self._end_wait(hold, job)
            if isinstance(error, GeneratorExit):
                job.then(hold.let_go)
                raise  # from outside of a loop
            await self._be_back(hold, job)
            raise
        self._take_again(hold, job)
        return job.result()

    async def wait_for(
        self, predicate: Callable[[], R | Awaitable[R]], timeout: float | None = None
    ) -> R:
        """Wait until `predicate` returns, or is awaited to, something true.

        :returns: what it returned at last, which is false if the time is over
        """
        deadline = anyio.current_time() + (math.inf if timeout is None else timeout)
        while True:
            found = predicate()
            result = cast("R", await found if inspect.isawaitable(found) else found)
            left = deadline - anyio.current_time()
            if result or left <= 0:
                return result
            await self.wait(None if timeout is None else left)

    async def notify(self, n: int = 1) -> None:
        """Wake `n` of those who wait.

        :raises RuntimeError: if this task does not hold it
        """
        await self._call_holding("notify", n)

    async def notify_all(self) -> None:
        """Wake all who wait.

        :raises RuntimeError: if this task does not hold it
        """
        await self._call_holding("notify_all")

    async def _call_holding(self, method: str, *args: Any) -> None:
        job = self._held(method).call(method, *args)
        await job.wait()
        job.result()

    def _end_wait(self, hold: _Hold, job: Job[bool]) -> None:
        """Have a wait end that was cancelled."""
        if not job.done:
            hold.wake_all()
        elif job.succeeded and job.result():
            hold.call("notify")  # it was notified: let another one be

    async def _be_back(self, hold: _Hold, job: Job[Any]) -> None:
        """Wait for the end of a wait, whatever cancels come meanwhile."""
        try:
            while not job.done:
                # asyncio's own cancel goes through a shield. One is on its way already.
                with (
                    contextlib.suppress(anyio.get_cancelled_exc_class()),
                    anyio.CancelScope(shield=True),
                ):
                    await job.wait()
        except BaseException:  # the loop is being torn down
            job.then(hold.let_go)
            raise
        self._take_again(hold, job)

    def _take_again(self, hold: _Hold, job: Job[Any]) -> None:
        if self._closed or not job.succeeded:
            hold.let_go()
        else:
            self._hold = hold


def _nothing() -> None:
    pass
