"""Sends calls to a cluster, and brings their answers.

Calls that are sent together are one graph. One with large data is sent alone: they are
sent to a worker ahead of it, and are no part of the graph. So is its pickle, if large.

Note to the next reader. Dask computes a task again whose worker died, but it has no one
to ask again for data that were sent to that worker. It cancels what needs them; so here
they are sent once more, and the call behind them.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from aioipc.dask.connection import Connection
from aioipc.dask.remote import Answer, make
from aioipc.dask.scattering import LARGE, Ahead, Scattering, split
from aioipc.dask.scheduler import assigned
from aioipc.memory.bulky import size_of
from aioipc.pool.task import Call

__all__ = ["DaskCall", "DataLost", "PackedCall", "Sender"]

_TRIES = 4
"""How often a call is sent whose large data are lost with a worker: so often does Dask
run a task that its workers do not survive."""

_ANSWER = 0.5
"""Seconds that a worker has to say what it is at. It can't while a task has the GIL."""

_PAUSE = 0.1
"""Seconds before data are sent again, which met a worker that was about to die."""

PackedCall = tuple["DaskCall", bytes]


class DataLost(Exception):
    """The data of a call were lost with its worker, as often as it was sent."""


class DaskCall(Call):
    """A call that a cluster makes.

    :ivar future: Dask's, once it is sent
    :ivar ahead: its data that are sent ahead of it
    :ivar begun: whether a worker has told that it has
    :ivar keys: that Dask has known it by
    """

    __slots__ = ("ahead", "begun", "future", "is_sent", "keys", "timer")

    def __init__(self, number: int, *call: Any) -> None:
        super().__init__(number, *call)
        self.future: Any = None
        self.ahead: Ahead | None = None
        self.begun = self.is_sent = False
        self.keys = 0
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

    def send(self, batch: Sequence[PackedCall]) -> list[Any]:
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

        :raises DataLost: if they are lost again and again
        :raises Exception: as `answer` does
        """
        assert call.ahead is not None
        for _ in range(_TRIES):
            ahead = await self._send_ahead(call, call.ahead)
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
                if call.done or not self._connection.is_open:
                    raise
        raise DataLost(f"its data were lost with their worker {_TRIES} times")

    async def _send_ahead(self, call: DaskCall, ahead: Ahead) -> list[Any]:
        """Send what goes ahead of a call, as soon as there is a worker to take it.

        If it was for a worker that just died, Dask tries to connect to that for 30 s:
        its `distributed.comm.timeouts.connect`.
        """
        while not call.done:
            try:
                futures = await ahead.futures()
            except OSError:  # a worker that dies, or that there is none yet
                if not self._connection.is_open:
                    raise
                await asyncio.sleep(_PAUSE)
            else:
                if not call.done:
                    return futures
        raise CancelledError("no one wants it")

    def _key(self, call: DaskCall) -> str:
        call.keys += 1
        name = call.name.encode(errors="replace").decode()
        return f"{name}-{self._connection.uid}-{call.number}-{call.keys}"

    async def answer(self, call: DaskCall, future: Any) -> Answer:
        """Wait for what comes of a call that was sent.

        :raises CancelledError: that of `concurrent.futures`, if Dask has cancelled it
        :raises Exception: as Dask's futures do
        """
        call.future = future
        try:
            if call.done:
                raise CancelledError("no one wants it")
            return await future.result()
        finally:
            future.release()

    async def withdraw(self, calls: Sequence[DaskCall]) -> None:
        """Have Dask forget calls that no one wants, unless a worker is at them.

        Of those it has to know: it would give the worker another one to do.
        """
        keys = [call.future.key for call in calls]
        at = await self._client.run_on_scheduler(assigned, keys)
        asked = [self._running(some) for some in at.values()]
        running = set[str]().union(*await asyncio.gather(*asked))
        for call in calls:
            if call.future.key not in running and not call.begun:
                call.future.release()

    async def _running(self, keys: list[str]) -> set[str]:
        """Return which of a worker's calls it is at; of one that is deaf, none."""
        try:
            async with asyncio.timeout(_ANSWER):
                stacks = await self._client.call_stack(keys=keys)
        except Exception:  # noqa: BLE001 - also if one of them has just ended
            return set()
        return {key for of_worker in stacks.values() for key in of_worker}
