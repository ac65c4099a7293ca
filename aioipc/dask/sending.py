"""Sends calls to a cluster, and brings their answers.

Calls that are sent together are one graph. One with large data is sent alone: they are
sent to a worker ahead of it, past the scheduler, and so is its pickle if that is large.

Note to the next reader. If such data are lost with their worker, no future that needs
them fails. So they are looked at now and then.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from aioipc.dask.connection import Connection
from aioipc.dask.remote import Answer, make
from aioipc.dask.scattering import LARGE, Ahead, Scattering, split
from aioipc.memory.bulky import size_of
from aioipc.pool.task import Call

__all__ = ["DaskCall", "Packed", "Sender"]

_TRIES = 5
"""How often a call is sent whose large data are lost with a worker."""

_LOOK = 1.0
"""Seconds between two looks at whether large data are still there."""

Packed = tuple["DaskCall", bytes]


class DaskCall(Call):
    """A call that a cluster makes.

    :ivar future: Dask's, once it is sent
    :ivar ahead: its data that are sent ahead of it
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


class Sender:
    """Sends the calls of one pool.

    :param connection: an open one
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = connection.client
        self.scattering = Scattering(self._client)

    def pack(self, call: DaskCall) -> bytes:
        """Pickle a call, but for its large arguments.

        :raises Exception: if that is impossible
        """
        packed, large = split(call)
        if call.size:
            call.weight = len(packed) + sum(map(size_of, large))
        if len(packed) >= LARGE:
            large.append(packed)
        if large:
            call.ahead = Ahead(self.scattering, large)
        return packed

    def send(self, batch: Sequence[Packed]) -> list[Any]:
        """Send calls that are as urgent as each other; return Dask's future of each.

        None of them has data that go `ahead`.
        """
        calls = [call for call, _ in batch]
        return self._client.map(
            make,
            [packed for _, packed in batch],
            [self._connection.topic] * len(batch),
            [call.number for call in calls],
            key=[self._key(call) for call in calls],
            pure=False,
            priority=calls[0].options.priority,
        )

    async def send_large(self, call: DaskCall, packed: bytes) -> Answer:
        """Send a call behind its large data, and again if those are lost; await it.

        :raises Exception: as `answer` does
        """
        assert call.ahead is not None
        while True:
            ahead = await call.ahead.futures()
            first = ahead.pop() if len(packed) >= LARGE else packed
            future = self._client.submit(
                make,
                *(first, self._connection.topic, call.number, *ahead),
                key=self._key(call),
                pure=False,
                priority=call.options.priority,
            )
            try:
                return await self.answer(call, future)
            except CancelledError:  # that of threads', not of the loop's
                if call.done or not self._may_try_again(call):
                    raise

    def _key(self, call: DaskCall) -> str:
        call.tries += 1
        return f"{call.name}-{self._connection.uid}-{call.number}-{call.tries}"

    async def answer(self, call: DaskCall, future: Any) -> Answer:
        """Wait for what comes of a call that was sent, or until its data are lost.

        :raises CancelledError: that of `concurrent.futures`, if they are, or Dask has
            cancelled it
        :raises Exception: as Dask's futures do
        """
        call.future = future
        try:
            if call.done:
                raise CancelledError("no one wants it")
            if call.ahead is None:
                return await future.result()
            return await _unless_lost(call.ahead, future)
        finally:
            future.release()

    def _may_try_again(self, call: DaskCall) -> bool:
        return call.tries < _TRIES and self._connection.is_open

    async def withdraw(self, calls: Sequence[DaskCall]) -> None:
        """Have Dask forget calls that no one wants, unless a worker is at them.

        Of those it has to know: it would give the worker another one to do.
        """
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


async def _unless_lost(ahead: Ahead, future: Any) -> Answer:
    waiting = asyncio.ensure_future(future.result())
    try:
        while not (await asyncio.wait({waiting}, timeout=_LOOK))[0]:
            if ahead.is_lost or future.status == "lost":
                raise CancelledError("data were lost with their worker")
        return waiting.result()
    finally:
        waiting.cancel()
