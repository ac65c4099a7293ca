"""Other programs and other machines: names, keys, TCP; and who is not let in."""

import multiprocessing
import socket
import subprocess
import sys
import textwrap
from multiprocessing import AuthenticationError

import anyio
import broker_peers as peers
import pytest
from anyio.lowlevel import checkpoint

import aioipc
from aioipc import Broker, RemoteBroker
from aioipc.wire.broker import Kind, encode_greeting
from aioipc.wire.messages import encode_header

KEY = b"a key that both know"


@pytest.fixture(params=["unix", "tcp"])
async def broker(request):
    address = ("127.0.0.1", 0) if request.param == "tcp" else None
    async with Broker(address, KEY) as broker:
        yield broker


async def in_thread(function, *args):
    with anyio.fail_after(20):
        return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


async def gather(queue_, count: int) -> list:
    with anyio.fail_after(20):
        return [await queue_.get() for _ in range(count)]


async def test_another_program(broker) -> None:
    jobs, results = broker.Queue(name="jobs"), broker.Queue(name="results")
    broker.Lock(name="lock")
    broker.Condition(name="condition")
    program = f"""
        import sys, aioipc
        broker = aioipc.RemoteBroker({broker.address!r}, {KEY!r})
        jobs, results = broker.find("jobs"), broker.find("results")
        with broker.find("lock"):
            pass
        with broker.find("condition") as condition:
            pass
        for number in jobs:
            results.put(2 * number)
        results.put(sorted({{"anyio", "asyncio"}} & {{*sys.modules}}))
        try:
            broker.find("nothing")
        except KeyError:
            results.put("no such thing")
    """
    async with await anyio.open_process(
        [sys.executable, "-c", textwrap.dedent(program)]
    ) as process:
        await jobs.put_many(range(300))
        jobs.shutdown()
        got = await gather(results, 302)
        assert got == [*range(0, 600, 2), [], "no such thing"]
        assert await process.wait() == 0


async def test_names_are_taken_once(broker) -> None:
    broker.Queue(name="jobs")
    with pytest.raises(ValueError, match="jobs"):
        broker.Lock(name="jobs")


async def test_a_wrong_key(broker, caplog) -> None:
    broker.Queue(name="jobs")
    stranger = RemoteBroker(broker.address, b"another key")
    with pytest.raises(AuthenticationError, match="authkey"):
        await in_thread(stranger.find, "jobs")
    while not broker.statistics().refused:
        await checkpoint()


async def test_no_key_on_tcp() -> None:
    with pytest.raises(ValueError, match="authkey"):
        Broker(("127.0.0.1", 0))


async def test_no_broker_at_all(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        await in_thread(RemoteBroker(str(tmp_path / "none"), KEY).find, "jobs")


def connected(broker) -> socket.socket:
    family = socket.AF_UNIX if isinstance(broker.address, str) else socket.AF_INET
    sock = socket.socket(family)
    sock.connect(broker.address)
    return sock


def authenticated(broker) -> socket.socket:
    """Return a connection that is let in, and has said nothing more."""
    from aioipc.broker.connecting import _authenticate

    sock = connected(broker)
    _authenticate(sock, KEY)
    return sock


def sends(sock: socket.socket, data: bytes) -> bytes:
    """Send something; return what comes before the broker hangs up."""
    sock.sendall(data)
    answer = b""
    try:
        while some := sock.recv(4096):
            answer += some
    except ConnectionResetError:
        pass
    return answer


COOKIE = b"8 bytes!"
GREETING = encode_greeting(COOKIE, 1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        GREETING + b"garbage" * 100,
        (250, 0, b""),
        (Kind.WANT, 0, b""),
        (Kind.DONE, 0, b""),
        (Kind.TAKEN, 7, b""),
        (Kind.PUT_ALL, 0, b"oops"),
        (Kind.CALL, 0, b"oops"),
        GREETING + encode_header(COOKIE, Kind.PUT, 1, 1 << 60),
    ],
    ids=repr,
)
async def test_garbage_of_one_who_knows_the_key(broker, garbage, caplog) -> None:
    jobs, results = broker.Queue(), broker.Queue()
    if isinstance(garbage, tuple):
        kind, tag, body = garbage
        header = encode_header(COOKIE, kind, jobs._service.number, len(body), tag)
        garbage = GREETING + header + body
    sock = await in_thread(authenticated, broker)
    with sock:
        assert await in_thread(sends, sock, garbage) == b""
    assert "garbage" in caplog.text
    assert broker.statistics().workers == ()
    # The others are served.
    async with aioipc.Process(
        target=peers.get_some,
        args=(jobs, results, 1),
        context=multiprocessing.get_context("forkserver"),
    ):
        await jobs.put("still there")
        assert await gather(results, 1) == ["still there"]


async def test_an_object_of_another_broker(broker) -> None:
    """Of one that was here before, say: it is an error, and costs nothing else."""
    spec = broker.Queue(name="jobs").sync._spec._replace(number=12345)
    stale, lock = aioipc.RemoteQueue(spec), aioipc.RemoteLock(spec)
    found = await in_thread(RemoteBroker(broker.address, KEY).find, "jobs")
    for use in (lock.acquire, lambda: stale.put(1), stale.qsize):
        with pytest.raises(RuntimeError, match="does not know"):
            await in_thread(use)
    with pytest.raises(aioipc.ShutDown):
        await in_thread(stale.get)
    await in_thread(found.put, "still connected")
    assert await gather(broker._directory._named["jobs"], 1) == ["still connected"]
    await broker.aclose()
    close_links()


def close_links() -> None:
    from aioipc.broker.connecting import _links

    for key in [*_links]:
        _links.pop(key).fail()


async def test_one_who_stalls_holds_up_no_one(broker) -> None:
    jobs = broker.Queue(name="jobs")
    stalled = [await in_thread(connected, broker) for _ in range(3)]
    stalled += [await in_thread(authenticated, broker) for _ in range(3)]
    half = await in_thread(authenticated, broker)
    await in_thread(half.sendall, GREETING[:5])
    jobs.put_nowait("served")
    found = await in_thread(RemoteBroker(broker.address, KEY).find, "jobs")
    assert await in_thread(found.get) == "served"
    for sock in (*stalled, half):
        sock.close()
    close_links()


async def test_one_who_knows_the_key_and_says_nothing_is_dropped(
    broker, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("aioipc.broker.session.GREETING_TIMEOUT", 0.05)
    with await in_thread(authenticated, broker) as sock:
        assert broker.statistics().handshakes == 1
        assert await in_thread(sends, sock, GREETING[:5]) == b""
    assert broker.statistics().handshakes == 0
    assert "in time" in caplog.text


async def test_who_has_said_who_it_is_may_be_silent(broker, monkeypatch) -> None:
    monkeypatch.setattr("aioipc.broker.session.GREETING_TIMEOUT", 0.05)
    with await in_thread(authenticated, broker) as sock:
        await in_thread(sock.sendall, GREETING)
        with anyio.fail_after(5):
            while broker.statistics().handshakes:
                await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.06)
        assert broker.statistics().workers == (1,)


@pytest.mark.slow
async def test_two_hundred_at_once(broker) -> None:
    jobs, results = broker.Queue(name="jobs"), broker.Queue(name="results")
    program = f"""
        import os, sys, aioipc
        broker = aioipc.RemoteBroker({broker.address!r}, {KEY!r})
        broker.find("jobs")  # so that all is imported once, and not 200 times
        children = []
        for _ in range(200):
            pid = os.fork()
            if not pid:
                jobs, results = broker.find("jobs"), broker.find("results")
                for number in jobs:
                    results.put(number)
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
    """
    async with await anyio.open_process(
        [sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE
    ) as process:
        with anyio.fail_after(40):
            while len(broker.statistics().workers) < 201:
                await checkpoint()
            for number in range(10_000):
                await jobs.put(number)
            assert sorted(await gather(results, 10_000)) == [*range(10_000)]
            jobs.shutdown()
            assert await process.wait() == 0
