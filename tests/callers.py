"""Clients of a listener, polite and rude, and what the tests of both ends share."""

import contextlib

import anyio

import aioipc
from aioipc.wire.handshake import FramedHandshake

KEY = b"the key of these tests"
TCP = ("127.0.0.1", 0)
SHORT = 0.1
"""Seconds: a deadline that a test waits for."""


async def serve(listener, clients: int) -> None:
    """Echo one message to each."""

    async def echo() -> None:
        async with await listener.accept() as connection:
            await connection.send(await connection.recv())

    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(echo)


async def call(listener, transport=None, **options) -> None:
    """Be one of those clients."""
    async with await aioipc.Client(
        listener.address, authkey=KEY, transport=transport, **options
    ) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"


async def knock(listener):
    """Connect, and no more: a stream of bytes."""
    address = listener.address
    if isinstance(address, str):
        return await anyio.connect_unix(address)
    return await anyio.connect_tcp(*address[:2])


async def greet(stream, key=KEY, rounds=3, framed=None) -> FramedHandshake:
    """Do the client's part of the handshake, or some of it, or the rest."""
    framed = framed or FramedHandshake(key, "client")
    for _ in range(2 * rounds):
        if framed.missing:
            reply = framed.feed(await stream.receive(framed.missing))
            if reply:
                await stream.send(reply)
    return framed


async def say_nothing(stream) -> None:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await stream.receive()


async def say_half(stream) -> None:
    await greet(stream, rounds=1)
    await say_nothing(stream)


async def say_garbage(stream) -> None:
    await stream.send(b"GET / HTTP/1.1\r\n\r\n")
    await say_nothing(stream)


async def say_a_length(stream) -> None:
    await stream.send(b"\x7f\xff\xff\xff")
    await say_nothing(stream)


async def say_a_pickle(stream) -> None:
    """As a client without a key does."""
    await stream.send(b"\0\0\0\x12\x80\x04" + bytes(16))
    await say_nothing(stream)


async def say_a_wrong_key(stream) -> None:
    framed = await greet(stream, b"a wrong key")
    assert "another authkey" in framed.handshake.refusal
    await say_nothing(stream)


async def hang_up(stream) -> None:
    await stream.receive(10)


async def hang_up_midway(stream) -> None:
    await greet(stream, rounds=2)
