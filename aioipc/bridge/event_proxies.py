"""What is waited for in a manager, by any number: Event and Barrier, awaited.

An event is waited for in slices of `SLICE` seconds, by one job for all the tasks of one
object: it ends within a slice when none of them waits any more. A barrier can't be: a
slice that ends would break it. So each party has a thread, and a cancel breaks it.
"""

import threading

import anyio

from aioipc.bridge.insides.managers import ProxyInsides
from aioipc.bridge.proxy import AsyncProxy, WaitingProxy, stands_for
from aioipc.bridge.slices import SLICE
from aioipc.errors import BrokenBarrierError
from aioipc.transport.threads import Job

__all__ = ["AsyncBarrierProxy", "AsyncEventProxy"]


@stands_for("EventProxy")
class AsyncEventProxy(WaitingProxy):
    """A manager's Event, awaited.

    An event that is set and cleared at once may be missed by those who wait.
    """

    def forget(self) -> None:
        super().forget()
        self._watching: Job[bool] | None = None

    async def is_set(self) -> bool:
        """Return whether it is set."""
        return await self._call("is_set")

    async def set(self) -> None:
        """Set it: wake all who wait."""
        await self._call("set")

    async def clear(self) -> None:
        """Unset it."""
        await self._call("clear")

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set.

        However many tasks wait, one thread does.

        :param timeout: seconds to wait at most, for ever if None
        :returns: whether it is set
        """
        with anyio.move_on_after(timeout):
            await self._wait()
            return True
        return await self.is_set()

    async def _wait(self) -> None:
        # A watch that began before this wait may tell of what was before it.
        self._settle()
        stale, waiting, me = self._watching, self._waiting, object()
        waiting.add(me)
        try:
            while True:
                job = self._watch()
                await job.wait()
                if job.result() and job is not stale:
                    return
        finally:
            waiting.discard(me)

    def _watch(self) -> Job[bool]:
        insides, job = self._open(), self._watching
        if job is None or job.done:
            job = self._lines.call_apart(insides, lambda: self._look(insides))
            self._watching = job
        return job

    def _look(self, insides: ProxyInsides) -> bool:
        while self._waiting and not self._closed:
            if insides.proxy.wait(SLICE):
                return True
        return False

    def _forget_tasks(self) -> None:
        self._waiting: set[object] = set()


@stands_for("BarrierProxy")
class AsyncBarrierProxy(AsyncProxy):
    """A manager's Barrier, awaited. It lets go when `parties` wait for it.

    A party that is cancelled while it waits breaks the barrier, as one does whose time
    is over: the others get BrokenBarrierError until someone resets it.
    """

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until as many wait as there are parties.

        :param timeout: seconds to wait at most; a barrier that takes longer is broken
        :returns: a number from 0 to `parties - 1`, another for each
        :raises BrokenBarrierError: if it is broken, reset or aborted
        """
        insides, lines = self._open(), self._lines
        job = lines.call_apart(insides, lambda: insides.proxy.wait(timeout))
        try:
            await job.wait()
        except BaseException:
            if not job.done:
                lines.call_apart(insides, insides.proxy.abort)
            raise
        try:
            return job.result()
        except threading.BrokenBarrierError:
            raise BrokenBarrierError("the barrier was broken, or reset") from None

    async def reset(self) -> None:
        """Mend it; those who wait get BrokenBarrierError."""
        await self._call("reset")

    async def abort(self) -> None:
        """Break it; those who wait get BrokenBarrierError."""
        await self._call("abort")

    async def parties(self) -> int:
        """Return how many must wait for it to let go."""
        return await self._call("__getattribute__", "parties")

    async def n_waiting(self) -> int:
        """Return how many are waiting."""
        return await self._call("__getattribute__", "n_waiting")

    async def broken(self) -> bool:
        """Return whether it is broken."""
        return await self._call("__getattribute__", "broken")
