"""Client; and the plain Listener that is wrapped and detached."""

import asyncio
import contextlib
import multiprocessing.connection as stdlib
import os
import pickle
import socket

import anyio
import anyio.lowlevel
import bridge_peers as peers
import pytest
from anyio import wait_all_tasks_blocked
from callers import (
    KEY,
    SHORT,
    TCP,
    call,
    say_nothing,
    serve,
)

import aioipc


@pytest.fixture(params=["readiness", pytest.param("threads", marks=pytest.mark.slow)])
def transport(request):
    return request.param


@pytest.fixture
async def listener(transport):
    """One with more time than a test has: what is late, fails."""
    async with aioipc.Listener(
        TCP, authkey=KEY, transport=transport, handshake_timeout=60
    ) as listener:
        yield listener


# The client's side


@contextlib.asynccontextmanager
async def raw_listener(behave):
    """Someone else's server."""
    server = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with server, anyio.create_task_group() as group:

        async def handle(stream) -> None:
            async with stream:
                await behave(stream)

        group.start_soon(server.serve, handle)
        yield server.extra(anyio.abc.SocketAttribute.local_address)
        group.cancel_scope.cancel()


async def http(stream) -> None:
    await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def hurl(stream) -> None:
    await stream.send(b"\0\0\0\x08nonsense")
    await say_nothing(stream)


async def leave(stream) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        (say_nothing, TimeoutError, "the handshake took longer than 0.1 s"),
        (http, aioipc.AuthenticationError, "something else than the handshake"),
        (hurl, aioipc.AuthenticationError, "something else than the handshake"),
        (leave, aioipc.BrokenResourceError, "hung up"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_listener_that_is_none(behave, error, words, transport) -> None:
    async with raw_listener(behave) as address:
        with anyio.fail_after(10), pytest.raises(error, match=words) as caught:
            await aioipc.Client(
                address, authkey=KEY, timeout=SHORT, transport=transport
            )
        assert "listener at ('127.0.0.1'" in str(caught.value)


async def test_a_listener_without_a_key() -> None:
    async def wait_for_the_end() -> None:
        async with await listener.accept() as connection:
            with pytest.raises(aioipc.EndOfStream):
                await connection.recv()

    async with aioipc.Listener() as listener, anyio.create_task_group() as group:
        group.start_soon(wait_for_the_end)
        with pytest.raises(TimeoutError, match=r"handshake .* may have no authkey"):
            await aioipc.Client(listener.address, authkey=KEY, timeout=SHORT)


async def test_a_wrong_key_is_everyones_authentication_error(listener) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(serve, listener, 1)
        for base in (stdlib.AuthenticationError, anyio.BrokenResourceError):
            with pytest.raises(base, match="another authkey: it refused ours"):
                await aioipc.Client(listener.address, authkey=b"wrong")
        await call(listener)
    assert listener.statistics().refused == 2


async def test_no_listener(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await aioipc.Client(str(tmp_path / "nowhere"), authkey=KEY)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = sock.getsockname()
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1"):
        await aioipc.Client(address, authkey=KEY)


@pytest.mark.parametrize("seconds", [0, 0.001, 0.05])
async def test_a_cancelled_client_leaves_nothing(
    seconds, transport, anyio_backend
) -> None:
    async with raw_listener(say_nothing) as address:
        before = len(peers.descriptors())
        if anyio_backend[0] == "asyncio":
            client = aioipc.Client(address, authkey=KEY, transport=transport)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client, seconds)
        with anyio.move_on_after(seconds) as scope:
            await aioipc.Client(address, authkey=KEY, transport=transport)
        assert scope.cancelled_caught
        await wait_all_tasks_blocked()
    assert len(peers.descriptors()) <= before


async def test_a_full_backlog_is_waited_for(tmp_path, transport) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "full"))
        sock.listen(0)
        sock.setblocking(False)
        first = await aioipc.Client(sock.getsockname(), transport=transport)
        async with first:
            with pytest.raises(TimeoutError, match="connecting took longer"):
                await aioipc.Client(sock.getsockname(), timeout=0.05)
            async with anyio.create_task_group() as group:

                async def connect() -> None:
                    async with await aioipc.Client(sock.getsockname()):
                        pass

                group.start_soon(connect)
                await wait_all_tasks_blocked()
                sock.accept()[0].close()


# The plain one


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
async def test_wrap_and_detach(key, tmp_path, transport) -> None:
    path = tmp_path / "plain"
    plain = stdlib.Listener(str(path), authkey=key)
    listener = aioipc.wrap(plain, transport=transport)
    assert isinstance(listener, aioipc.AsyncListener)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, listener, 1)
        async with await aioipc.Client(listener.address, authkey=key) as connection:
            await connection.send(1)
            assert await connection.recv() == 1
    assert listener.detach() is plain
    assert listener.closed
    assert plain.last_accepted == ""
    assert os.get_blocking(plain._listener._socket.fileno())
    assert peers.exists(path)

    def accept() -> object:
        with plain.accept() as connection:
            return connection.recv()

    async with anyio.create_task_group() as group:

        async def connect() -> None:
            async with await aioipc.Client(str(path), authkey=key) as connection:
                await connection.send("plain again")

        group.start_soon(connect)
        assert await anyio.to_thread.run_sync(accept) == "plain again"
    aioipc.wrap(plain).close()
    assert not peers.exists(path)
    with pytest.raises(aioipc.ClosedResourceError):
        aioipc.wrap(plain)


async def test_detach_while_accepting(listener) -> None:
    async def accept() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await listener.accept()

    async with anyio.create_task_group() as group:
        group.start_soon(accept)
        await wait_all_tasks_blocked()
        with pytest.raises(aioipc.BusyResourceError, match="tasks_accepting=1"):
            listener.sync  # noqa: B018
        plain = listener.detach()
    plain.close()


async def test_one_of_ours_detached_is_a_plain_one() -> None:
    listener = aioipc.Listener(TCP, authkey=KEY)
    plain = listener.detach()
    assert isinstance(plain, stdlib.Listener)
    assert plain.address == listener.address

    def accept() -> object:
        with plain, plain.accept() as connection:
            return connection.recv()

    async with anyio.create_task_group() as group:

        async def connect() -> None:
            async with await aioipc.Client(listener.address, authkey=KEY) as connection:
                await connection.send("plain")

        group.start_soon(connect)
        assert await anyio.to_thread.run_sync(accept) == "plain"


async def test_a_forked_worker_may_get_it(fork) -> None:
    async with aioipc.Listener(authkey=KEY) as listener:
        with anyio.move_on_after(0.01):
            await listener.accept()
        worker = aioipc.Process(target=answer_one, args=(listener,), context=fork)
        async with (
            worker,
            await aioipc.Client(listener.address, authkey=KEY) as connection,
        ):
            assert await connection.recv() == "from the worker"


async def test_another_one_can_not(listener) -> None:
    with pytest.raises(TypeError, match="only a forked worker"):
        pickle.dumps(listener)


def answer_one(listener: stdlib.Listener) -> None:
    with listener.accept() as connection:
        connection.send("from the worker")
