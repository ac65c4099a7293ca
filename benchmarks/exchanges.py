"""What is timed: the loops over ``send`` and ``recv``, and the peer's half of them.

Every loop stands here twice, plain and awaiting, line for line the same, so that
the ratio of the two holds nothing but the cost of awaiting. The peer is always plain:
it has never heard of aioipc.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

END = "end"
LOT = 256
"""Messages in a call that sends, or receives, many."""


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

    :param peers: how many there are, at the same end of the link
    :param last: the message that a peer ends after
    """

    peer: Callable[[Link, Any], None]
    blocking: Callable[[Link, Any, int], Any]
    awaiting: Callable[[Link, Any, int], Awaitable[Any]]
    peers: int = 1
    last: Any = None


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


# Several producers, each of which makes a share, and the coordinator receives it all.


def _fan_in_blocking(peers: int, link: Link, _message: Any, count: int) -> Any:
    send, recv = link
    received = None
    for _ in range(peers):
        send(count // peers)
    for _ in range(count // peers * peers):
        received = recv()
    return received


async def _fan_in_awaiting(peers: int, link: Link, _message: Any, count: int) -> Any:
    send, recv = link
    received = None
    for _ in range(peers):
        await send(count // peers)
    for _ in range(count // peers * peers):
        received = await recv()
    return received


def fan_in(peers: int) -> Exchange:
    """From so many producers."""
    blocking, awaiting = (partial(it, peers) for it in _FAN_IN)
    return Exchange(_produce, blocking, awaiting, peers)


_FAN_IN = (_fan_in_blocking, _fan_in_awaiting)


# Several consumers share what the coordinator sends. Who takes how much is left to
# them, so each is told the end of it, and says that it has come there.


def _take(link: Link, _message: Any) -> None:
    send, recv = link
    while (message := recv()) is not None:
        if message == END:
            send(END)


def _fan_out_blocking(peers: int, link: Link, message: Any, count: int) -> Any:
    send, recv = link
    for _ in range(count):
        send(message)
    for _ in range(peers):
        send(END)
    return [recv() for _ in range(peers)]


async def _fan_out_awaiting(peers: int, link: Link, message: Any, count: int) -> Any:
    send, recv = link
    for _ in range(count):
        await send(message)
    for _ in range(peers):
        await send(END)
    return [await recv() for _ in range(peers)]


def fan_out(peers: int) -> Exchange:
    """Towards so many consumers."""
    blocking, awaiting = (partial(it, peers) for it in _FAN_OUT)
    return Exchange(_take, blocking, awaiting, peers)


_FAN_OUT = (_fan_out_blocking, _fan_out_awaiting)


# The same streams in lots, over a link that sends a list, and receives one. What is
# sent first is the number of messages, and may come together with some of them.


def _lots(message: Any, count: int) -> Iterator[list[Any]]:
    for start in range(0, count, LOT):
        yield [message] * min(LOT, count - start)


def _produce_lots(link: Link, message: Any) -> None:
    send, recv = link
    while (count := recv()[0]) is not None:
        for lot in _lots(message, count):
            send(lot)


def _receive_lots_blocking(link: Link, _message: Any, count: int) -> Any:
    send, recv = link
    received, left = [], count
    send([count])
    while left:
        received = recv()
        left -= len(received)
    return received


async def _receive_lots_awaiting(link: Link, _message: Any, count: int) -> Any:
    send, recv = link
    received, left = [], count
    await send([count])
    while left:
        received = await recv()
        left -= len(received)
    return received


def _consume_lots(link: Link, _message: Any) -> None:
    send, recv = link
    while True:
        count, *first = recv()
        if count is None:
            return
        left = count - len(first)
        while left:
            left -= len(recv())
        send([count])


def _send_lots_blocking(link: Link, message: Any, count: int) -> Any:
    send, recv = link
    send([count])
    for lot in _lots(message, count):
        send(lot)
    return recv()


async def _send_lots_awaiting(link: Link, message: Any, count: int) -> Any:
    send, recv = link
    await send([count])
    for lot in _lots(message, count):
        await send(lot)
    return await recv()


ROUND_TRIP = Exchange(_echo, _call_blocking, _call_awaiting)
RECEIVE = Exchange(_produce, _receive_blocking, _receive_awaiting)
SEND = Exchange(_consume, _send_blocking, _send_awaiting)
FAN_IN, FAN_OUT = fan_in(2), fan_out(2)
RECEIVE_LOTS = Exchange(
    _produce_lots, _receive_lots_blocking, _receive_lots_awaiting, last=[None]
)
SEND_LOTS = Exchange(
    _consume_lots, _send_lots_blocking, _send_lots_awaiting, last=[None]
)
