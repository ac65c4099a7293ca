"""`AsyncBarrier`: a `multiprocessing.Barrier`, awaited.

The algorithm is that of `threading.Barrier`, over the same state in shared memory and
the same condition, so that tasks meet with plain waiters in other processes. Its states
are: 0 filling, 1 draining, -1 resetting, -2 broken.

Two things are asyncio's: a task that is cancelled before the barrier has filled leaves
as if it had not come, and `async with` is a way to wait.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context, synchronize
from multiprocessing.context import BaseContext
from typing import Any

import anyio
import anyio.lowlevel

from aioipc.bridge.attached import Attached, SharedState
from aioipc.bridge.conditions import AsyncCondition
from aioipc.bridge.insides.locks import BarrierInsides
from aioipc.errors import BrokenBarrierError
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.threads import Job, run_in_thread

__all__ = ["AsyncBarrier", "Barrier", "BarrierStatistics"]

FILLING, DRAINING, RESETTING, BROKEN = 0, 1, -1, -2


@dataclass(frozen=True, slots=True)
class BarrierStatistics:
    """The state of an `AsyncBarrier`.

    :ivar n_waiting: in all processes
    :ivar tasks_waiting: in this process, in `wait`
    :ivar broken: whether it is
    """

    n_waiting: int
    tasks_waiting: int
    broken: bool


class Place:
    """A waiting task's place in the barrier."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Visitors:
    """The tasks of this process at one plain barrier.

    :ivar entering: how many are in `wait`
    :ivar places: of those who are counted
    """

    def __init__(self, _: object) -> None:
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be without any: they are the parent's; in a forked child."""
        self.entering = 0
        self.places: list[Place] = []


_visitors = SharedState(Visitors)


class AsyncBarrier(Attached):
    """A `multiprocessing.Barrier`, awaited. ``async with barrier as index:`` waits.

    Get one from `Barrier` or `wrap`.

    :param barrier: the plain one
    """

    def __init__(self, barrier: Any) -> None:
        if not isinstance(barrier, synchronize.Barrier):
            msg = f"AsyncBarrier wraps a Barrier, not {barrier!r}"
            raise TypeError(msg)
        super().__init__(barrier)
        self._insides = BarrierInsides(barrier)
        self._condition = AsyncCondition(self._insides.condition)
        self._visitors = _visitors.of(barrier)

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until as many as the barrier is for are waiting, in all processes.

        A task that is cancelled before that leaves as if it had not come, and its
        index goes to another task of this process. (If the one that should have it
        waits in another process, two may get the same index.) One that is cancelled
        while it has `action` called raises that when `action` has ended: the others
        pass, or the barrier is broken, as if there had been no cancel.

        :param timeout: seconds to wait at most, or else break the barrier; the
            barrier's own if None
        :returns: a number from 0 to `parties` - 1, for each another one
        :raises BrokenBarrierError: if the barrier is broken or reset, now or meanwhile
        :raises Exception: what `action` raised; the barrier is broken then. (If the
            task was cancelled, too, this is the cause of the cancel that is raised.)
        """
        self._require_attached()
        if timeout is None:
            timeout = self._insides.timeout
        self._visitors.entering += 1
        try:
            async with self._condition:
                await self._enter()
                return await self._pass(timeout)
        finally:
            self._visitors.entering -= 1

    async def reset(self) -> None:
        """Make it as new. Those who wait get BrokenBarrierError."""
        self._require_attached()
        async with self._condition:
            if self._insides.count == 0:
                self._change(FILLING)
            elif self._insides.state in (FILLING, BROKEN):
                self._change(RESETTING)  # until the last of them has left

    async def abort(self) -> None:
        """Break it: those who wait, or come, get BrokenBarrierError until a `reset`."""
        self._require_attached()
        async with self._condition:
            self._change(BROKEN)

    @property
    def parties(self) -> int:
        """How many it takes to pass."""
        return self._insides.parties

    @property
    def n_waiting(self) -> int:
        """How many are waiting, in all processes."""
        return self._insides.count if self._insides.state == FILLING else 0

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._insides.state == BROKEN

    def statistics(self) -> BarrierStatistics:
        """Return how many wait, in all and here."""
        return BarrierStatistics(self.n_waiting, self._visitors.entering, self.broken)

    def detach(self) -> Any:
        self._require_attached()
        if not self._is_in_use():
            self._condition.detach()
        return super().detach()

    async def __aenter__(self) -> int:
        return await self.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    def _is_in_use(self) -> bool:
        return self._visitors.entering > 0

    def _state(self) -> str:
        return "broken" if self.broken else f"waiting={self.n_waiting}/{self.parties}"

    async def _enter(self) -> None:
        """Wait until the ones before have left it."""
        while self._insides.state in (RESETTING, DRAINING):
            await self._condition.wait()
        if self._insides.state == BROKEN:
            raise BrokenBarrierError("the barrier is broken")

    async def _pass(self, timeout: float | None) -> int:
        insides = self._insides
        place = Place(insides.count)
        insides.count += 1
        self._visitors.places.append(place)
        try:
            if insides.count == insides.parties:
                await self._fill()
            else:
                await self._wait(timeout)
        finally:
            self._leave(place)
        return place.index

    async def _fill(self) -> None:
        action = self._insides.action
        if action is None:
            self._change(DRAINING)
            return
        try:
            job = run_in_thread(action, "barrier action")
            cancelled = await _until_done(job)
        except BaseException:
            self._change(BROKEN)
            raise
        # It depends on the action, not on a cancel, whether the others pass.
        self._change(DRAINING if job.succeeded else BROKEN)
        try:
            job.result()
        except BaseException as error:
            if cancelled is None:
                raise
            raise cancelled from error
        if cancelled is not None:
            raise cancelled

    async def _wait(self, timeout: float | None) -> None:
        if not await self._condition.wait_for(self._is_over, timeout):
            self._change(BROKEN)
        if self._insides.state != DRAINING:
            raise BrokenBarrierError("the barrier was broken, or reset")

    def _is_over(self) -> bool:
        return self._insides.state != FILLING

    def _leave(self, place: Place) -> None:
        insides = self._insides
        self._visitors.places.remove(place)
        insides.count -= 1
        if insides.state == FILLING:
            # The next to come gets the last index, so whoever has that takes ours.
            for other in self._visitors.places:
                if other.index == insides.count:
                    other.index = place.index
        elif insides.count == 0 and insides.state in (RESETTING, DRAINING):
            self._change(FILLING)

    def _change(self, state: int) -> None:
        self._insides.state = state
        # Not awaited: the lock stays held until all are awake, whatever happens to us.
        self._condition.notify_soon(sys.maxsize)


async def _until_done(job: Job[Any]) -> BaseException | None:
    """Wait for the job, whatever cancels come meanwhile, and return the last."""
    cancelled: BaseException | None = None
    while not job.done:
        try:
            # asyncio's own cancel goes through the shield
            with anyio.CancelScope(shield=True):
                await job.wait()
        except anyio.get_cancelled_exc_class() as error:
            cancelled = error
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class() as error:
        cancelled = error
    return cancelled


def Barrier(  # noqa: N802 - multiprocessing's name
    parties: int,
    action: Callable[[], object] | None = None,
    timeout: float | None = None,
    *,
    context: BaseContext | None = None,
) -> AsyncBarrier:
    """Return a `multiprocessing.Barrier` to await; in a worker it is the plain one.

    :param action: called by the one that fills it, if that is a task, in a thread
    :param timeout: seconds: for every `wait` that has none of its own
    """
    barrier = (context or get_context()).Barrier(parties, action, timeout)
    return AsyncBarrier(barrier)
