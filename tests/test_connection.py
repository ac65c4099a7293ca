"""AsyncConnection as a Connection, and as an anyio stream."""

import array
import multiprocessing

import anyio
import anyio.abc
import bridge_peers as peers
import pytest
from anyio.lowlevel import checkpoint

import aioipc


@pytest.fixture
async def pair(transport):
    """An end to await and the plain other end."""
    connection, plain = aioipc.Pipe(transport=transport)
    async with connection:
        yield connection, peers.Peer(plain)
    plain.close()


async def test_everything_that_pickles_arrives(context, transport) -> None:
    connection, child = aioipc.Pipe(context=context, transport=transport)
    process = aioipc.Process(target=peers.echo, args=(child,), context=context)
    objects = [None, 1, "é" * 70_000, b"x" * 300_000, list(range(200_000)), {"a": ...}]
    async with process:
        child.close()
        async with connection:
            for obj in objects:
                await connection.send(obj)
                assert await connection.recv() == obj


async def test_the_peer_may_be_awaited_too(transport) -> None:
    left, plain = aioipc.Pipe(transport=transport)
    right = aioipc.wrap(plain, transport=transport)
    async with left, right, anyio.create_task_group() as group:
        for n in range(1000):
            group.start_soon(left.send, n)
        # trio starts tasks in random order
        assert {await right.recv() for _ in range(1000)} == set(range(1000))


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_536, 1_000_000, 5_000_000])
async def test_bytes_of_any_size_to_and_from_a_plain_peer(
    size, fork, transport
) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(target=peers.echo_bytes, args=(child,), context=fork)
    message = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    async with process:
        child.close()
        async with connection:
            await connection.send_bytes(message)
            assert await connection.recv_bytes() == message


async def test_send_bytes_takes_slices_and_any_buffer(pair) -> None:
    connection, plain = pair
    await connection.send_bytes(bytearray(b"abcdef"), 1, 3)
    await connection.send_bytes(array.array("i", [1, 2]), 4)
    assert plain.recv_bytes() == b"bcd"
    assert plain.recv_bytes() == array.array("i", [2]).tobytes()
    for wrong in [(-1, None), (9, None), (0, -1), (0, 9)]:
        with pytest.raises(ValueError, match=r"negative|buffer length"):
            await connection.send_bytes(b"abcdef", *wrong)


async def test_recv_bytes_into(pair) -> None:
    connection, plain = pair
    target = bytearray(b"........")
    plain.send_bytes(b"abc")
    assert await connection.recv_bytes_into(target, 2) == 3
    assert target == b"..abc..."
    plain.send_bytes(b"too long for it")
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        await connection.recv_bytes_into(target)
    assert caught.value.args == (b"too long for it",)
    with pytest.raises(ValueError, match="offset"):
        await connection.recv_bytes_into(target, 9)


async def test_recv_bytes_longer_than_maxlength_ends_receiving(pair) -> None:
    connection, plain = pair
    plain.send_bytes(b"12345")
    assert await connection.recv_bytes(5) == b"12345"
    plain.send_bytes(b"123456")
    with pytest.raises(OSError, match="bad message length"):
        await connection.recv_bytes(5)
    assert not connection.readable
    await connection.send(1)
    assert plain.recv() == 1


async def test_poll(pair) -> None:
    connection, plain = pair
    assert not await connection.poll()
    assert not await connection.poll(0.01)
    plain.send(1)
    assert await connection.poll()
    assert await connection.poll(None)
    assert await connection.recv() == 1
    async with anyio.create_task_group() as group:

        async def poll() -> None:
            assert await connection.poll(10)

        group.start_soon(poll)
        await anyio.wait_all_tasks_blocked()
        plain.send(2)
    assert await connection.recv() == 2
    plain.close()
    assert await connection.poll()
    with pytest.raises(EOFError):
        await connection.recv()


async def test_a_cancelled_poll_takes_nothing(pair) -> None:
    connection, plain = pair
    with anyio.move_on_after(0.001):
        await connection.poll(None)
        raise AssertionError
    plain.send("there")
    assert await connection.recv() == "there"


async def test_it_is_an_object_stream(pair) -> None:
    connection, plain = pair
    stream: anyio.abc.ObjectStream = connection
    for n in range(3):
        plain.send(n)
    plain.close()
    assert await stream.receive() == 0
    assert [n async for n in stream] == [1, 2]
    with pytest.raises(anyio.EndOfStream):
        await stream.receive()


async def test_send_eof_ends_the_peers_loop_and_receiving_goes_on(
    fork, transport
) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(target=_sum_up, args=(child,), context=fork)
    async with connection, process:
        child.close()
        for n in range(5):
            await connection.send(n)
        await connection.send_eof()
        await connection.send_eof()
        assert await connection.recv() == 10
        with pytest.raises(OSError, match="read-only"):
            await connection.send(1)


async def test_one_way_ends(transport, fork) -> None:
    receiver, plain = aioipc.Pipe(duplex=False, transport=transport)
    sender = aioipc.wrap(plain, transport=transport)
    assert (receiver.readable, receiver.writable) == (True, False)
    assert (sender.readable, sender.writable) == (False, True)
    with pytest.raises(OSError, match="read-only"):
        await receiver.send(1)
    with pytest.raises(OSError, match="write-only"):
        await sender.recv()
    with pytest.raises(OSError, match="write-only"):
        await sender.poll()
    await sender.send(1)
    await sender.send_eof()
    assert sender.closed
    assert [n async for n in receiver] == [1]
    await receiver.aclose()


async def test_receivers_are_served_in_the_order_in_which_they_came(pair) -> None:
    connection, plain = pair
    served: list[tuple[int, int]] = []

    async def receive(task: int) -> None:
        served.append((task, await connection.recv()))

    async with anyio.create_task_group() as group:
        for task in range(5):
            group.start_soon(receive, task)
            await anyio.wait_all_tasks_blocked()
        for n in range(5):
            plain.send(n)
    assert served == [(n, n) for n in range(5)]


async def test_close_wakes_those_who_wait(pair) -> None:
    connection, _ = pair
    raised: list[Exception] = []

    async def wait_for(call, *args) -> None:
        try:
            await call(*args)
        except anyio.ClosedResourceError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(wait_for, connection.recv)
        group.start_soon(wait_for, connection.recv)
        group.start_soon(wait_for, connection.send_bytes, b"x" * 10_000_000)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(wait_for, connection.send_bytes, b"y")
        await anyio.wait_all_tasks_blocked()
        connection.close()
    assert len(raised) == 4
    assert all(isinstance(error, OSError) for error in raised)
    for call in (connection.recv, connection.poll, connection.recv_bytes):
        with pytest.raises(aioipc.ClosedResourceError):
            await call()
    with pytest.raises(aioipc.ClosedResourceError):
        await connection.send(1)
    with pytest.raises(OSError, match="closed"):
        connection.fileno()
    await connection.aclose()
    connection.close()


async def test_send_eof_comes_after_a_message_that_another_task_is_sending(
    pair, transport
) -> None:
    connection, plain = pair
    big = b"x" * 10_000_000
    async with aioipc.wrap(plain.connection, transport=transport) as peer:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.send_bytes, big)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(connection.send_eof)
            await anyio.wait_all_tasks_blocked()
            assert await peer.recv_bytes() == big
        with pytest.raises(EOFError):
            await peer.recv_bytes()


@pytest.mark.slow
async def test_no_task_starves_while_messages_keep_coming(fork, transport) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(
        target=peers.count_up, args=(child.send, 20_000), context=fork
    )
    turns = 0
    async with connection, process, anyio.create_task_group() as group:
        child.close()

        async def other() -> None:
            nonlocal turns
            while True:
                await checkpoint()
                turns += 1

        group.start_soon(other)
        assert [n async for n in connection] == list(range(20_000))
        group.cancel_scope.cancel()
    assert turns > 20


async def test_no_task_starves_while_all_sends_succeed(fork, transport) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    report, result = aioipc.Pipe(context=fork)
    process = aioipc.Process(
        target=peers.drain, args=(child.recv, result.send), context=fork
    )
    turns = 0
    async with connection, report, process, anyio.create_task_group() as group:
        child.close()
        result.close()

        async def other() -> None:
            nonlocal turns
            while True:
                await checkpoint()
                turns += 1

        group.start_soon(other)
        for n in range(5000):
            await connection.send(n)
        await connection.send(None)
        assert await report.recv() == list(range(5000))
        group.cancel_scope.cancel()
    assert turns > 20


async def test_repr_and_statistics_tell_the_state(pair) -> None:
    connection, plain = pair
    fd = connection.fileno()
    assert repr(connection) == (
        f"<AsyncConnection fd={fd} readable writable buffered=0>"
    )
    plain.send(1)
    plain.send(2)
    assert await connection.recv() == 1
    assert connection.statistics() == aioipc.ConnectionStatistics(
        buffered_messages=1, unsent_bytes=0, tasks_receiving=0, tasks_sending=0
    )
    assert "buffered=1" in repr(connection)
    connection.close()
    assert repr(connection) == "<AsyncConnection closed>"


async def test_an_unclosed_connection_warns_and_closes() -> None:
    connection, plain = aioipc.Pipe()
    with pytest.warns(ResourceWarning, match="unclosed <AsyncConnection"):
        del connection
    async with aioipc.wrap(plain) as peer:
        with pytest.raises(EOFError):
            await peer.recv()


@pytest.mark.parametrize("transport", ["threads", "readiness", "pigeons"])
def test_an_unknown_transport_is_refused(transport) -> None:
    first, second = multiprocessing.Pipe()
    with first, second:
        if transport == "pigeons":
            with pytest.raises(ValueError, match="'pigeons'"):
                aioipc.wrap(first, transport=transport)
        else:
            aioipc.wrap(first, transport=transport).close()


def _sum_up(connection) -> None:
    total = 0
    try:
        while True:
            total += connection.recv()
    except EOFError:
        connection.send(total)
