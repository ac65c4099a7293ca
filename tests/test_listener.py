"""Listener: who is let in, who is not, and what that costs the others."""

import asyncio
import contextlib
import multiprocessing.connection as stdlib
import os
import random
import resource
import socket
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import bridge_peers as peers
import pytest
from anyio import wait_all_tasks_blocked
from anyio.streams.buffered import BufferedByteReceiveStream
from callers import (
    KEY,
    SHORT,
    TCP,
    call,
    greet,
    hang_up,
    hang_up_midway,
    knock,
    say_a_length,
    say_a_pickle,
    say_a_wrong_key,
    say_garbage,
    say_half,
    say_nothing,
    serve,
)

import aioipc
from aioipc.transport import acceptor as acceptor_module
from aioipc.transport import greeting as greeting_module
from aioipc.transport import handshakes as handshakes_module
from aioipc.transport.acceptor import Acceptor
from aioipc.transport.greeting import Greeting
from aioipc.wire.handshake import FramedHandshake

PEER = str(Path(__file__).with_name("listener_peer.py"))
PYTHONS = [
    sys.executable,
    *(
        str(path)
        for minor in (11, 12, 13)
        for path in (Path.home() / ".pyenv/versions").glob(f"3.{minor}.*/bin/python")
        if minor != sys.version_info.minor
    ),
]
"""This one, and the others that are here."""


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


@pytest.fixture
async def impatient(transport):
    """A listener with a short deadline."""
    async with aioipc.Listener(
        TCP, authkey=KEY, transport=transport, handshake_timeout=SHORT
    ) as listener:
        yield listener


def written(address) -> str:
    return address if isinstance(address, str) else "{}:{}".format(*address)


# With each other, and with any Python


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
async def test_a_private_file(key, transport) -> None:
    async with aioipc.Listener(authkey=key, transport=transport) as listener:
        path = Path(listener.address)
        assert peers.mode(path) == 0o600
        assert peers.mode(path.parent) == 0o700
        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener, 1)
            client = await aioipc.Client(
                listener.address, authkey=key, transport=transport
            )
            async with client:
                await client.send(1)
                assert await client.recv() == 1
        assert listener.last_accepted == ""
    assert not peers.exists(path)


async def test_a_file_that_is_given(tmp_path) -> None:
    path = tmp_path / "socket"
    with aioipc.Listener(str(path), "AF_UNIX", 5) as listener:
        assert listener.address == str(path)
        assert listener.last_accepted is None
        assert peers.mode(path) == 0o600
        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener, 1)
            with await aioipc.Client(str(path), "AF_UNIX") as client:
                await client.send(1)
                assert await client.recv() == 1
        with pytest.raises(OSError, match="in use"):
            aioipc.Listener(str(path))
        with pytest.raises(TypeError, match="byte string"):
            await aioipc.Client(str(path), authkey="text")
    assert not peers.exists(path)


@pytest.mark.parametrize(
    ("address", "family"),
    [(TCP, None), (("localhost", 0), "AF_INET"), (("::1", 0), "AF_INET6")],
)
async def test_over_tcp(address, family, transport) -> None:
    async with aioipc.Listener(
        address, family, authkey=KEY, transport=transport
    ) as listener:
        host, port = listener.address[:2]
        assert port > 0
        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener, 1)
            connection = await aioipc.Client(
                (address[0], port), family, KEY, transport=transport
            )
            async with connection:
                await connection.send("x" * 1_000_000)
                assert await connection.recv() == "x" * 1_000_000
        assert listener.last_accepted[0] == host


async def test_an_abstract_address() -> None:
    name = f"\0aioipc-{os.getpid()}-{random.random()}"
    async with (
        aioipc.Listener(name, authkey=KEY) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(serve, listener, 1)
        await call(listener)


@pytest.mark.parametrize("address", [None, TCP], ids=["unix", "tcp"])
async def test_clients_of_any_python(address) -> None:
    said = []

    async def run_client(python: str, key: bytes) -> None:
        done = await anyio.run_process(
            [python, PEER, "connect", written(listener.address), key.decode()]
        )
        said.append(done.stdout.decode().strip())

    async def answer() -> None:
        async for connection in listener:
            async with connection:
                await connection.send(await connection.recv())

    async with aioipc.Listener(address, authkey=KEY) as listener:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                async with anyio.create_task_group() as clients:
                    for python in PYTHONS:
                        clients.start_soon(run_client, python, KEY)
                        clients.start_soon(run_client, python, b"another key")
                group.cancel_scope.cancel()
        assert listener.statistics().refused == len(PYTHONS)
    assert said.count("AuthenticationError") == len(PYTHONS)
    assert len({word for word in said if "hello" in word}) == len(PYTHONS)


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
@pytest.mark.parametrize("key", [KEY, b"another key"], ids=["same key", "other key"])
async def test_listeners_of_any_python(family, key) -> None:
    async def talk(python: str) -> None:
        command = [python, PEER, "listen", family, KEY.decode()]
        async with await anyio.open_process(command) as process:
            output = BufferedByteReceiveStream(process.stdout)
            text = (await output.receive_until(b"\n", 200)).decode()
            host, colon, port = text.rpartition(":")
            address = (host, int(port)) if colon else text
            if key == KEY:
                async with await aioipc.Client(address, authkey=key) as connection:
                    await connection.send(("hello", None))
                    assert await connection.recv() == ("you said", "hello")
                assert await output.receive_until(b"\n", 200) == b"answered"
            else:
                with pytest.raises(aioipc.AuthenticationError, match="another authkey"):
                    await aioipc.Client(address, authkey=key)
                said = await output.receive_until(b"\n", 200)
                assert said == b"AuthenticationError"

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for python in PYTHONS:
                group.start_soon(talk, python)


# Who is not let in


@pytest.mark.parametrize("address", [TCP, ("::1", 0), "\0abstract"])
async def test_where_others_can_connect_there_must_be_a_key(address) -> None:
    with pytest.raises(ValueError, match="demands an authkey"):
        aioipc.Listener(address)
    with pytest.raises(ValueError, match="demands an authkey"):
        await aioipc.Client(address)
    with pytest.raises(ValueError, match="empty"):
        aioipc.Listener(address, authkey=b"")
    with pytest.raises(TypeError, match="byte string"):
        aioipc.Listener(address, authkey="text")
    with pytest.raises(ValueError, match="AF_PIPE"):
        aioipc.Listener(address, "AF_PIPE", authkey=KEY)


def test_also_of_a_plain_listener() -> None:
    with (
        stdlib.Listener(TCP) as plain,
        pytest.raises(ValueError, match="demands an authkey"),
    ):
        aioipc.wrap(plain)


RUDE = {
    say_nothing: "no handshake in time",
    say_half: "no handshake in time",
    say_garbage: "something else than the handshake",
    say_a_length: "something else than the handshake",
    say_a_pickle: "something else than the handshake",
    say_a_wrong_key: "it has another authkey",
    hang_up: "it hung up in the middle",
    hang_up_midway: "it hung up in the middle",
}


@pytest.mark.parametrize("behave", RUDE, ids=lambda behave: behave.__name__)
async def test_the_others_are_served_meanwhile(behave, impatient, caplog) -> None:
    refused = anyio.Event()

    async def be_rude() -> None:
        async with await knock(impatient) as stream:
            await behave(stream)
        refused.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(be_rude)
            group.start_soon(serve, impatient, 2)
            await call(impatient)
            await refused.wait()
            await call(impatient)
        while impatient.statistics().handshakes:  # noqa: ASYNC110 - no one tells us
            await anyio.sleep(0.01)
    assert impatient.statistics().refused == 1
    assert impatient.statistics().accepted == 2
    (record,) = (r for r in caplog.records if r.name == "aioipc")
    assert record.levelname == "WARNING"
    assert RUDE[behave] in record.getMessage()
    assert "127.0.0.1" in record.getMessage()
    assert KEY.decode() not in caplog.text
    assert "HTTP" not in caplog.text


async def test_a_client_without_a_key_is_told(caplog) -> None:
    async with (
        aioipc.Listener(authkey=KEY) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(serve, listener, 1)
        async with await aioipc.Client(listener.address) as connection:
            with pytest.raises(aioipc.DecodeError, match="demands an authkey"):
                await connection.recv()
        await call(listener)
    assert listener.statistics().refused == 1


async def test_stallers_do_not_starve_the_others(monkeypatch, transport) -> None:
    # All places are taken, by clients that have a minute; and more of them wait.
    monkeypatch.setattr(handshakes_module, "CROWDED", 0.1)
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    acceptor = Acceptor(
        sock, KEY, max_handshakes=4, handshake_timeout=60, transport=transport
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(acceptor.close)
        for _ in range(10):
            await stack.enter_async_context(await knock(acceptor))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(call, acceptor)
                client, _ = await acceptor.accept()
                client.setblocking(True)
                async with aioipc.wrap(stdlib.Connection(client.detach())) as peer:
                    await peer.send(await peer.recv())
        assert acceptor.statistics().handshakes <= 4
        assert acceptor.statistics().refused >= 7


@pytest.mark.parametrize("address", [None, TCP], ids=["unix", "tcp"])
async def test_two_hundred_clients_at_once(address, monkeypatch) -> None:
    # Before them came a hundred stallers, which take all places.
    monkeypatch.setattr(handshakes_module, "CROWDED", 0.1)
    async with (
        aioipc.Listener(address, authkey=KEY) as listener,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(100):
            await stack.enter_async_context(await knock(listener))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(serve, listener, 200)
                for _ in range(200):
                    group.start_soon(call, listener)
        assert listener.statistics().accepted == 200


@pytest.mark.slow
async def test_two_hundred_plain_clients_at_once() -> None:
    async def connect() -> None:
        await anyio.to_thread.run_sync(be_plain, limiter=limiter)

    def be_plain() -> None:
        with stdlib.Client(listener.address, authkey=KEY) as connection:
            connection.send("hello")
            assert connection.recv() == "hello"

    limiter = anyio.CapacityLimiter(200)
    async with aioipc.Listener(TCP, authkey=KEY) as listener:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(serve, listener, 200)
                for _ in range(200):
                    group.start_soon(connect)
        assert listener.statistics().accepted == 200
        assert listener.statistics().refused == 0


# Cancelled


async def pass_after_a_cancelled_accept(listener, stream) -> None:
    """Do the handshake, and cancel the accept in the middle of it."""
    arrived = anyio.Event()
    listener.on_ready.add(arrived.set)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.accept)
        framed = FramedHandshake(KEY, "client")
        framed.feed(await stream.receive(4))
        answer = framed.feed(await stream.receive(framed.missing))
        group.cancel_scope.cancel()
    state = listener.statistics()
    assert (state.tasks_accepting, state.handshakes, state.ready) == (0, 1, 0)
    await stream.send(answer)
    await greet(stream, framed=framed)
    await arrived.wait()
    listener.on_ready.clear()
    assert listener.is_ready()
    assert repr(listener).endswith("ready=1 handshakes=0>")


async def test_a_cancelled_accept_loses_no_client(listener) -> None:
    with anyio.fail_after(10):
        async with await knock(listener) as stream:
            await pass_after_a_cancelled_accept(listener, stream)
            async with await listener.accept() as connection:
                await stream.send(b"\0\0\0\2hi")
                assert await connection.recv_bytes() == b"hi"


@pytest.mark.parametrize("address", [None, TCP], ids=["unix", "tcp"])
async def test_many_cancelled_accepts_lose_no_client(address, anyio_backend) -> None:
    clients, rng, got = 60, random.Random(1), []

    async def accept() -> aioipc.AsyncConnection | None:
        seconds = rng.choice([0, 0.0003, 0.001, 0.003])
        if anyio_backend[0] == "asyncio" and rng.random() < 0.5:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(listener.accept(), seconds)
        else:
            with anyio.move_on_after(seconds):
                return await listener.accept()
        return None

    async def connect(n: int) -> None:
        connection = await aioipc.Client(listener.address, authkey=KEY, timeout=20)
        async with connection:
            await connection.send(n)
            await connection.recv()

    async with aioipc.Listener(address, authkey=KEY) as listener:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for n in range(clients):
                    group.start_soon(connect, n)
                while len(got) < clients:
                    connection = await accept()
                    if connection is not None:
                        async with connection:
                            got.append(await connection.recv())
                            await connection.send(None)
        assert sorted(got) == list(range(clients))
        assert listener.statistics().refused == 0


async def test_those_who_accept_are_served_in_order(listener) -> None:
    served = []

    async def accept(n: int) -> None:
        async with await listener.accept():
            served.append(n)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(accept, n)
                await wait_all_tasks_blocked()
            for _ in range(5):
                async with await aioipc.Client(listener.address, authkey=KEY):
                    pass
    assert served == [0, 1, 2, 3, 4]


# The end


async def test_close_while_accepting(listener) -> None:
    async def accept() -> None:
        with pytest.raises(aioipc.ClosedResourceError):
            await listener.accept()

    async with await knock(listener) as stream:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(accept)
                group.start_soon(accept)
                await stream.receive(4)  # it is in the middle of the handshake
                assert listener.statistics().tasks_accepting == 2
                listener.close()
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await stream.receive()
    assert repr(listener) == "<AsyncListener closed>"
    for _ in range(2):
        listener.close()
        await listener.aclose()
    for use in (listener.fileno, listener.detach, lambda: listener.sync):
        with pytest.raises(aioipc.ClosedResourceError):
            use()
    with pytest.raises(aioipc.ClosedResourceError):
        await listener.accept()


async def test_close_drops_who_was_not_accepted(listener) -> None:
    with anyio.fail_after(10):
        async with await knock(listener) as stream:
            await pass_after_a_cancelled_accept(listener, stream)
            with pytest.raises(aioipc.UndeliveredError, match="1 clients wait"):
                listener.detach()
            with pytest.raises(aioipc.BusyResourceError, match="ready=1"):
                listener.sync  # noqa: B018
            listener.close()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()


async def test_one_that_is_dropped_warns_and_leaves_no_file() -> None:
    listener = [aioipc.Listener()]
    path = Path(listener[0].address)
    with pytest.warns(ResourceWarning, match="unclosed <AsyncListener"):
        listener.clear()
    assert not peers.exists(path)


def test_it_serves_one_loop_after_the_other(anyio_backend) -> None:
    listener = aioipc.Listener(authkey=KEY)
    name, options = anyio_backend

    async def once() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener, 2)
            await call(listener)
            await call(listener)

    async def leave_in_the_middle() -> None:
        async with await knock(listener):
            with anyio.move_on_after(0.01):
                await listener.accept()

    with listener:
        for main in (once, leave_in_the_middle, once):
            anyio.run(main, backend=name, backend_options=options)
        assert listener.statistics().accepted == 4


async def test_in_a_forked_worker_it_is_closed(fork) -> None:
    async with aioipc.Listener(TCP, authkey=KEY) as listener:
        with anyio.move_on_after(0.01):
            await listener.accept()
        ours, theirs = aioipc.Pipe(context=fork)
        worker = aioipc.Process(target=wait_for_word, args=(theirs,), context=fork)
        async with ours, worker:
            theirs.close()
            assert await ours.recv() == "here"
            listener.close()
            # Were it open there, this would succeed, and never be answered.
            with pytest.raises(ConnectionRefusedError):
                await aioipc.Client(listener.address, authkey=KEY, timeout=SHORT)
            await ours.send("end")


def wait_for_word(connection) -> None:
    connection.send("here")
    connection.recv()


async def test_out_of_descriptors_it_does_not_spin(
    listener, monkeypatch, caplog
) -> None:
    steps = 0
    real = Acceptor._step

    def step(self) -> bool:
        nonlocal steps
        steps += 1
        return real(self)

    monkeypatch.setattr(Acceptor, "_step", step)
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.01)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What needs a descriptor has it before.
    with socket.socket() as sock:
        sock.setblocking(False)
        async with anyio.create_task_group() as group:

            async def accept() -> None:
                (await listener.accept()).close()

            group.start_soon(accept)
            await wait_all_tasks_blocked()
            fillers = []
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (max(peers.descriptors()) + 20, limits[1])
            )
            try:
                with contextlib.suppress(OSError):
                    while True:
                        fillers.append(os.open(os.devnull, os.O_RDONLY))
                sock.connect_ex(listener.address)
                await anyio.sleep(0.1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in fillers:
                    os.close(fd)
            greeting = Greeting(sock, KEY, "client", what="", transport=None)
            with anyio.fail_after(10):
                await greeting.run()
    (record,) = caplog.records
    assert "no client can be accepted for now" in record.getMessage()
    assert steps < 100


async def test_out_of_threads_or_descriptors_one_client_is_refused(
    listener, monkeypatch, caplog
) -> None:
    with monkeypatch.context() as patch:

        def open_watch(*args):
            patch.undo()
            raise OSError("too many open files")

        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener, 1)
            await wait_all_tasks_blocked()
            patch.setattr(greeting_module, "open_watch", open_watch)
            async with await knock(listener) as stream:
                with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await stream.receive()
            await call(listener)
    assert listener.statistics().refused == 1
    assert "too many open files" in caplog.text


async def test_a_socket_that_no_longer_works(transport) -> None:
    plain = stdlib.Listener(TCP, authkey=KEY)

    async def accept() -> None:
        with pytest.raises(aioipc.BrokenResourceError, match="no longer works"):
            await listener.accept()

    async with aioipc.wrap(plain, transport=transport) as listener:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(accept)
                group.start_soon(accept)
                await wait_all_tasks_blocked()
                plain._listener._socket.shutdown(socket.SHUT_RDWR)
            await accept()
