"""Large arguments, which are sent to a worker ahead of the calls that have them.

One that several calls have at the same time is sent once: until they have ended it must
not be changed, so it is the same one. When no call has it any more, Dask forgets it. A
task that has it runs where it is, or Dask brings it there.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from aioipc.dask.remote import Blank, Row, dumps, pack
from aioipc.memory.bulky import size_of
from aioipc.pool.task import Call
from aioipc.worker.chunks import call_each_row

__all__ = ["LARGE", "Ahead", "Scattering", "split"]

LARGE = 1 << 20
"""Bytes from which on an argument is no part of a graph."""


def split(call: Call) -> tuple[bytes, list[Any]]:
    """Pickle a call; return that, and its large arguments, which are not in it.

    :raises Exception: if it can't be pickled
    """
    large: list[Any] = []
    has_rows = call.function is call_each_row

    def blank(value: Any) -> Any:
        if size_of(value) >= LARGE:
            large.append(value)
            return Blank(len(large) - 1)
        if has_rows and type(value) in {tuple, list}:
            before, row = len(large), [blank(each) for each in value]
            return Row(row) if len(large) > before else value
        return value

    args = tuple(map(blank, call.args))
    kwargs = {name: blank(value) for name, value in call.kwargs.items()}
    return dumps((call.function, args, kwargs)), large


class _Sent:
    """A value that is sent ahead.

    :ivar users: calls that have it
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self.users = 0
        self.future: Any = None
        self._one_by_one = asyncio.Lock()

    @property
    def is_lost(self) -> bool:
        """Whether it has gone with the worker that had it."""
        return self.future is not None and self.future.status in {"cancelled", "lost"}

    async def send(self, client: Any) -> Any:
        """Return Dask's future of it; send it first if it is nowhere (any more)."""
        async with self._one_by_one:
            if self.future is None or self.is_lost:
                self.future = await client.scatter(pack(self.value), hash=False)
            if not self.users:
                self.future.release()
            return self.future


class Ahead:
    """What is sent ahead of one call."""

    def __init__(self, scattering: "Scattering", values: Iterable[Any]) -> None:
        self._scattering = scattering
        self._sent = [scattering.take(value) for value in values]

    async def futures(self) -> list[Any]:
        """Send what is not there yet; return Dask's futures of all."""
        return [await self._scattering.send(sent) for sent in self._sent]

    def let_go(self) -> None:
        """Have it forgotten, unless other calls have it."""
        sent, self._sent = self._sent, []
        for each in sent:
            self._scattering.leave(each)


class Scattering:
    """Sends large values by a client of Dask's."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._by_id: dict[int, _Sent] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def take(self, value: Any) -> _Sent:
        """Note that one more call has a value."""
        sent = self._by_id.get(id(value))
        if sent is None:
            sent = self._by_id[id(value)] = _Sent(value)
        sent.users += 1
        return sent

    def leave(self, sent: _Sent) -> None:
        """Note that one call less has it."""
        sent.users -= 1
        if not sent.users:
            del self._by_id[id(sent.value)]
            if sent.future is not None:
                sent.future.release()

    async def send(self, sent: _Sent) -> Any:
        """Return Dask's future of a value."""
        return await sent.send(self._client)
