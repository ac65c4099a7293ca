"""Peers that die, stall or send nonsense: a clear error each, and little memory."""

import os
import pickle
import queue
import struct
import threading

import anyio
import bridge_peers as peers
import pytest

import aioipc

TERABYTE = 1 << 40
ABORTED = {
    "2**40": (struct.pack("!iQ", -1, TERABYTE), "more than max_message_size"),
    "negative": (struct.pack("!i", -2), "a length of -2"),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "starting b'/'"),
    "text": (b"garbage, and more garbage", "starting b'a'"),
}


@pytest.fixture
async def pair(transport):
    connection, plain = aioipc.Pipe(transport=transport)
    async with connection:
        yield connection, peers.Peer(plain)
    plain.close()


@pytest.fixture
async def queue_and_fd(transport, fork):
    """A queue, and a descriptor to write nonsense to."""
    async with aioipc.Queue(transport=transport, context=fork) as queue:
        yield queue, queue.sync._writer.fileno()


@pytest.mark.parametrize("name", ABORTED)
async def test_nonsense_instead_of_a_frame(name, pair) -> None:
    connection, plain = pair
    nonsense, reason = ABORTED[name]
    before = peers.resident()
    plain.send("sound")
    plain.write(nonsense)
    assert await connection.recv() == "sound"
    with anyio.fail_after(5):
        for _ in range(2):  # the stream stays out of step
            with pytest.raises(aioipc.FrameError, match=reason) as caught:
                await connection.recv()
    assert isinstance(caught.value, anyio.BrokenResourceError)
    assert isinstance(caught.value, BrokenPipeError)
    assert peers.resident() - before < 16_000_000


async def test_nonsense_whose_length_arrives_first(pair) -> None:
    connection, plain = pair
    plain.write(b"GET ")
    with anyio.move_on_after(0.01):
        await connection.recv()
        raise AssertionError
    plain.write(b"/ HTTP/1.1\r\n")
    with anyio.fail_after(5), pytest.raises(aioipc.FrameError, match="starting b'/'"):
        await connection.recv()


@pytest.mark.parametrize("name", ABORTED)
async def test_nonsense_in_a_queue(name, queue_and_fd) -> None:
    queue, fd = queue_and_fd
    nonsense, reason = ABORTED[name]
    before = peers.resident()
    threading.Thread(target=os.write, args=(fd, nonsense)).start()
    with anyio.fail_after(5), pytest.raises(aioipc.FrameError, match=reason):
        await queue.get()
    assert peers.resident() - before < 16_000_000
    with pytest.raises(aioipc.FrameError):
        queue.get_nowait()


async def test_a_truncated_frame(pair) -> None:
    connection, plain = pair
    plain.write(struct.pack("!i", 1000) + b"abc")
    plain.close()
    with pytest.raises(aioipc.FrameError, match="3 of its 1000 bytes"):
        await connection.recv()


async def test_a_truncated_header(pair) -> None:
    connection, plain = pair
    plain.write(b"\0\0")
    plain.close()
    with pytest.raises(aioipc.FrameError, match="2 bytes of its header"):
        await connection.recv()


async def test_a_long_promise_sets_nothing_aside(pair) -> None:
    connection, plain = pair
    before = peers.resident()
    plain.write(struct.pack("!i", 1_500_000_000) + b"\x80 few bytes")
    with anyio.move_on_after(0.05):
        await connection.recv()
        raise AssertionError
    assert peers.resident() - before < 16_000_000
    plain.close()
    with pytest.raises(aioipc.FrameError, match="11 of its 1500000000 bytes"):
        await connection.recv()


@pytest.mark.parametrize("nonsense", [b"", b"garbage", b"\x80\x04K\x01", b"\x80\x7f."])
async def test_a_sound_frame_that_is_no_pickle_costs_one_message(
    nonsense, pair
) -> None:
    connection, plain = pair
    plain.send_bytes(nonsense)
    plain.send("next")
    with pytest.raises(aioipc.DecodeError) as caught:
        await connection.recv()
    assert isinstance(caught.value, pickle.UnpicklingError)
    assert not isinstance(caught.value, EOFError)
    assert await connection.recv() == "next"


class Unloadable:
    """Pickles, but can't be rebuilt."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self):
        return _raise, (self.error,)


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), EOFError(), StopIteration(), SystemExit(3), GeneratorExit()],
    ids=repr,
)
@pytest.mark.parametrize("size", [0, 1_000_000])
async def test_an_object_that_cant_be_rebuilt_costs_one_message(
    error, size, pair
) -> None:
    connection, plain = pair
    async with anyio.create_task_group() as group:
        sender = aioipc.wrap(plain.connection)
        group.start_soon(sender.send, [b"x" * size, Unloadable(error)])
        with pytest.raises(aioipc.DecodeError, match=type(error).__name__) as caught:
            await connection.recv()
        assert type(caught.value.__cause__) is type(error)
        await sender.send("next")
        assert await connection.recv() == "next"
    await sender.aclose()


async def test_an_item_that_cant_be_rebuilt_costs_one_item(queue_and_fd) -> None:
    queue, _ = queue_and_fd
    await queue.put(Unloadable(ZeroDivisionError("no")))
    await queue.put("next")
    with pytest.raises(aioipc.DecodeError, match="ZeroDivisionError: no"):
        await queue.get()
    assert await queue.get() == "next"
    assert queue.qsize() == 0


async def test_what_cant_be_pickled_is_the_senders_error(pair, queue_and_fd) -> None:
    connection, plain = pair
    queue, _ = queue_and_fd
    for send in (connection.send, queue.put):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            await send(lambda: None)
        with pytest.raises((pickle.PicklingError, AttributeError)):
            await send([b"x" * 1_000_000, [lambda: None] * 3])
        await send("next")
    assert plain.recv() == "next"
    assert await queue.get() == "next"


async def test_the_peer_closes(pair) -> None:
    connection, plain = pair
    plain.send("last")
    plain.close()
    with pytest.raises(BrokenPipeError) as broken:
        await connection.send(1)
    assert isinstance(broken.value, anyio.BrokenResourceError)
    assert await connection.recv() == "last"
    for _ in range(2):
        with pytest.raises(EOFError) as ended:
            await connection.recv()
        assert isinstance(ended.value, anyio.EndOfStream)


async def test_the_peer_closes_without_reading(pair) -> None:
    connection, plain = pair
    await connection.send("unread")
    plain.close()
    with pytest.raises(ConnectionResetError) as broken:
        await connection.recv()
    assert isinstance(broken.value, anyio.BrokenResourceError)


async def test_the_peer_closes_while_a_message_goes_out(pair) -> None:
    connection, plain = pair

    async def send() -> None:
        with pytest.raises(aioipc.BrokenResourceError):
            await connection.send_bytes(b"x" * 10_000_000)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        plain.close()


async def test_the_peer_is_killed_in_the_middle_of_a_message(fork, transport) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(
        target=peers.send_half_a_frame, args=(child, 100_000), context=fork
    )
    async with connection, process:
        child.close()
        with pytest.raises(TimeoutError), anyio.fail_after(0.2):
            await connection.recv_bytes()
        process.kill()
        with pytest.raises(aioipc.FrameError, match="50000 of its 100000 bytes"):
            await connection.recv_bytes()


async def test_a_message_longer_than_allowed(fork, transport) -> None:
    connection, plain = aioipc.Pipe(max_message_size=1000, transport=transport)
    async with connection:
        peers.Peer(plain).send_bytes(b"x" * 1000)
        peers.Peer(plain).send_bytes(b"x" * 1001)
        assert len(await connection.recv_bytes()) == 1000
        with pytest.raises(aioipc.FrameError, match="max_message_size=1000"):
            await connection.recv_bytes()
    plain.close()


async def test_full_and_empty_are_everyones_words(transport, fork) -> None:
    async with aioipc.Queue(1, transport=transport, context=fork) as bounded:
        with pytest.raises(queue.Empty) as empty:
            await bounded.get(timeout=0.01)
        assert isinstance(empty.value, anyio.WouldBlock)
        with pytest.raises(queue.Empty):
            await bounded.get(block=False)
        await bounded.put(1)
        with pytest.raises(queue.Full) as full:
            await bounded.put(2, timeout=0.01)
        assert isinstance(full.value, anyio.WouldBlock)
        with pytest.raises(queue.Full):
            await bounded.put(2, block=False)
        assert await bounded.get() == 1
    with pytest.raises(ValueError, match="closed"):
        await bounded.get()
    with pytest.raises(OSError, match="closed"):
        await bounded.put(1)
