"""What the tests of locks have in common: the coordinator's side of a peer."""

import threading

import anyio
import lock_peers as peers
import pytest

import aioipc

ASYNCIO = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


class Peer:
    """A process that does with the plain lock what it is told."""

    def __init__(self, context, lock, target=peers.obey) -> None:
        self.connection, theirs = aioipc.Pipe(context=context)
        self.process = aioipc.Process(
            target=target, args=(lock, theirs), context=context
        )

    async def __aenter__(self):
        await self.process.start()
        return self

    async def call(self, *order):
        await self.connection.send(order)
        return await self.connection.recv()

    async def __aexit__(self, *exc_info) -> None:
        with anyio.CancelScope(shield=True):
            if exc_info[0] is None and self.process.is_alive():
                await self.connection.send(None)
                await self.process.join()
            await self.process.__aexit__(*exc_info)
            await self.connection.aclose()


def service_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("aioipc")]


async def until_no_service_threads() -> None:
    while service_threads():  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(0.01)
