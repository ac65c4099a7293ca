"""What is timed: the loops over ``send`` and ``recv``, and the peer's half of them.

Every loop stands here twice, plain and awaiting, line for line the same, so that
the ratio of the two holds nothing but the cost of awaiting. The peer is always plain:
it has never heard of aioipc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Link(NamedTuple):
    """Both directions between coordinator and peer, whatever carries them.

    The coordinator's are coroutine functions where its contestant awaits.
    """

    send: Callable[[Any], Any]
    recv: Callable[[], Any]


@dataclass(frozen=True)
class Exchange:
    """A pattern of messages: the peer's side, and the coordinator's written twice.

    The coordinator's side exchanges ``count`` messages like ``message``, and returns
    the last that came in, because to free it is not part of the exchange.
    """

    peer: Callable[[Link, Any], None]
    blocking: Callable[[Link, Any, int], Any]
    awaiting: Callable[[Link, Any, int], Awaitable[Any]]


# There and back, one in flight.


def _echo(link: Link, _message: Any) -> None:
    while (message := link.recv()) is not None:
        link.send(message)


def _call_blocking(link: Link, message: Any, count: int) -> Any:
    send, recv = link
    reply = None
    for _ in range(count):
        send(message)
        reply = recv()
    return reply


async def _call_awaiting(link: Link, message: Any, count: int) -> Any:
    send, recv = link
    reply = None
    for _ in range(count):
        await send(message)
        reply = await recv()
    return reply


# A stream towards the coordinator, which says when it is ready.


def _produce(link: Link, message: Any) -> None:
    send, recv = link
    while (count := recv()) is not None:
        for _ in range(count):
            send(message)


def _receive_blocking(link: Link, _message: Any, count: int) -> Any:
    send, recv = link
    received = None
    send(count)
    for _ in range(count):
        received = recv()
    return received


async def _receive_awaiting(link: Link, _message: Any, count: int) -> Any:
    send, recv = link
    received = None
    await send(count)
    for _ in range(count):
        received = await recv()
    return received


# A stream towards the peer, which acknowledges the last.


def _consume(link: Link, _message: Any) -> None:
    send, recv = link
    while (count := recv()) is not None:
        for _ in range(count):
            recv()
        send(count)


def _send_blocking(link: Link, message: Any, count: int) -> Any:
    send, recv = link
    send(count)
    for _ in range(count):
        send(message)
    return recv()


async def _send_awaiting(link: Link, message: Any, count: int) -> Any:
    send, recv = link
    await send(count)
    for _ in range(count):
        await send(message)
    return await recv()


ROUND_TRIP = Exchange(_echo, _call_blocking, _call_awaiting)
RECEIVE = Exchange(_produce, _receive_blocking, _receive_awaiting)
SEND = Exchange(_consume, _send_blocking, _send_awaiting)
