"""A broker in a thread's loop, and connections to it, all in the test's process."""

import os
import socket
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from aioipc.broker.broker import Broker
from aioipc.broker.connecting import Address, connect
from aioipc.broker.descriptors import Descriptors
from aioipc.broker.link import Link
from aioipc.wire.broker import SLOTS


def new_link(sock: socket.socket) -> Link:
    """Return a worker's connection by a socket that has no broker at its end."""
    descriptors = Descriptors(sock.detach())
    flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK
    descriptors.tokens += (os.eventfd(0, flags) for _ in range(SLOTS))
    link = Link(descriptors)
    link.greet()
    return link


class Served:
    """A broker whose loop runs in a thread, and links to it."""

    def __init__(self, address: Address | None = None) -> None:
        self._manager = start_blocking_portal("asyncio")
        self.portal: BlockingPortal = self._manager.__enter__()
        self.broker = Broker(address, b"key" if address else None)
        self.portal.call(self.broker.__aenter__)
        self.links: list[Link] = []

    def new_link(self) -> Link:
        link = connect(self.broker.address, self.broker.authkey, 5)
        self.links.append(link)
        return link

    def end_link(self, link: Link) -> None:
        """End as a worker does that dies, and wait until the broker knows."""
        self.links.remove(link)
        link.fail()

        async def known() -> None:
            while len(self.broker._server.sessions) > len(self.links):  # noqa: ASYNC110
                await anyio.sleep(0.0005)

        self.portal.call(known)

    def use(self, obj: Any, link: Link) -> Any:
        """Return what a worker has of an object, by this link."""
        remote = type(obj.sync)(obj._spec)  # one for each link
        remote._attach(link)
        return remote

    def close(self) -> None:
        self.portal.call(self.broker.aclose)
        for link in self.links:
            link.fail()
        self._manager.__exit__(None, None, None)
