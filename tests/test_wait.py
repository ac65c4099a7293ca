"""`wait`: which of several objects are ready."""

import asyncio
import os
import selectors
import socket
import struct
import tempfile

import anyio
import anyio.lowlevel
import bridge_peers as peers
import peers as workers
import pytest
from anyio import wait_all_tasks_blocked

import aioipc
from aioipc.wire.handshake import FramedHandshake

KEY = b"the key of these tests"


@pytest.fixture
def pipes():
    """Three plain pipes: what is waited for, and what makes it ready."""
    pairs = [socket.socketpair() for _ in range(3)]
    for _, right in pairs:
        right.setblocking(False)
    yield [left for left, _ in pairs], [right for _, right in pairs]
    for left, right in pairs:
        left.close()
        right.close()


@pytest.fixture
async def pair(transport):
    connection, plain = aioipc.Pipe(transport=transport)
    async with connection:
        yield connection, peers.Peer(plain)
    plain.close()


async def test_those_that_are_ready_in_the_given_order(pipes) -> None:
    objects, others = pipes
    assert await aioipc.wait(objects, 0) == []
    others[2].send(b"x")
    others[0].send(b"x")
    assert await aioipc.wait(objects) == [objects[0], objects[2]]
    assert await aioipc.wait(reversed(objects), 10) == [objects[2], objects[0]]
    assert await aioipc.wait(iter(objects), -1) == [objects[0], objects[2]]


async def test_it_waits(pipes) -> None:
    objects, others = pipes
    results = []

    async def wait() -> None:
        results.append(await aioipc.wait(objects))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await wait_all_tasks_blocked()
            assert results == []
            others[1].send(b"x")
    assert results == [[objects[1]]]


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
async def test_nothing_in_time(timeout, pipes) -> None:
    assert await aioipc.wait(pipes[0], timeout) == []
    assert await aioipc.wait([], timeout) == []


async def test_sockets_numbers_connections_and_what_has_a_fileno(pipes) -> None:
    connection, plain = aioipc.Pipe()
    objects, others = pipes
    mixed = [connection, plain, objects[0], objects[1].fileno(), objects[2].fileno()]
    async with connection:
        assert await aioipc.wait(mixed, 0) == []
        await connection.send(1)
        others[1].send(b"x")
        assert await aioipc.wait(mixed) == [plain, objects[1].fileno()]
        peers.Peer(plain).send(2)
        others[0].close()  # the end is something to be read, too
        assert await aioipc.wait(mixed) == mixed[:4]
    plain.close()


async def test_one_object_twice_and_a_file() -> None:
    with tempfile.TemporaryFile() as file:
        assert await aioipc.wait([file, file]) == [file, file]


async def test_the_descriptors_are_left_as_they_are(pipes) -> None:
    objects, others = pipes
    assert all(os.get_blocking(sock.fileno()) for sock in objects)
    others[0].send(b"x")
    await aioipc.wait(objects)
    with anyio.move_on_after(0.01):
        await aioipc.wait(objects[1:])
    assert all(os.get_blocking(sock.fileno()) for sock in objects)
    objects[0].setblocking(False)
    assert objects[0].recv(1) == b"x"


@pytest.mark.parametrize("wrong", ["text", None, -1, object()])
async def test_what_has_no_descriptor(wrong, pipes) -> None:
    with pytest.raises(ValueError, match="no descriptor") as caught:
        await aioipc.wait([*pipes[0], wrong])
    with selectors.PollSelector() as plain, pytest.raises(type(caught.value)):
        plain.register(wrong, selectors.EVENT_READ)


async def test_a_cancel_leaves_nothing_registered(pipes, anyio_backend) -> None:
    objects, others = pipes
    before = len(peers.descriptors())
    async with aioipc.Listener() as listener:
        for _ in range(10):
            with anyio.move_on_after(0.001):
                await aioipc.wait([*objects, listener])
                raise AssertionError
            if anyio_backend[0] == "asyncio":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(aioipc.wait([*objects, listener]), 0.001)
        assert listener.on_ready == set()
        assert len(peers.descriptors()) == before + 1
    others[0].send(b"x")
    assert await aioipc.wait(objects) == [objects[0]]


async def test_many_wait_for_one(pipes) -> None:
    objects, others = pipes
    results = []

    async def wait() -> None:
        results.append(await aioipc.wait(objects))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(wait)
            await wait_all_tasks_blocked()
            others[1].send(b"x")
    assert results == [[objects[1]]] * 20


# Connections


async def test_a_connection_that_holds_a_message_is_ready_at_once(pair, pipes) -> None:
    connection, plain = pair
    for n in range(3):
        plain.send(n)
    assert await connection.recv() == 0  # and now the others are no longer in the pipe
    for n in (1, 2):
        assert await aioipc.wait([*pipes[0], connection]) == [connection]
        assert await connection.recv() == n
    assert await aioipc.wait([*pipes[0], connection], 0) == []


async def test_half_a_message_is_none(pair) -> None:
    connection, plain = pair
    plain.write(struct.pack("!i", 8) + b"\x80\x04")
    assert await aioipc.wait([connection], 0.01) == []
    results = []

    async def wait() -> None:
        results.append(await aioipc.wait([connection]))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await wait_all_tasks_blocked()
            plain.write(b"\x8c\x02hi\x94.")
    assert results == [[connection]]
    assert connection.statistics().buffered_messages == 1


async def test_the_end_of_a_connection(pair) -> None:
    connection, plain = pair
    plain.close()
    assert await aioipc.wait([connection]) == [connection]
    with pytest.raises(EOFError):
        await connection.recv()


@pytest.mark.parametrize("first", ["the one who waits", "the one who receives"])
async def test_a_message_beside_that_of_another_task(first, pair) -> None:
    # Two arrive at once. The task that receives takes both in, and leaves one.
    connection, plain = pair
    results = []

    async def receive() -> None:
        assert await connection.recv() == 1

    async def wait() -> None:
        results.append(await aioipc.wait([connection]))

    tasks = [wait, receive] if first == "the one who waits" else [receive, wait]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(task)
                await wait_all_tasks_blocked()
            plain.write(b"".join(b"\0\0\0\5\x80\x04K%c." % n for n in (1, 2)))
    assert results == [[connection]]
    assert await connection.recv() == 2


async def test_only_what_can_be_read(fork) -> None:
    closed, plain = aioipc.Pipe()
    closed.close()
    plain.close()
    with pytest.raises(aioipc.ClosedResourceError):
        await aioipc.wait([closed])
    reader, plain = fork.Pipe(duplex=False)
    with reader:
        async with aioipc.wrap(plain) as writer:
            with pytest.raises(OSError, match="write-only"):
                await aioipc.wait([writer])


# Processes


async def test_a_process_is_ready_when_it_has_ended(context) -> None:
    mine, child = aioipc.Pipe(context=context)
    worker = aioipc.Process(target=workers.end_with, args=(child,), context=context)
    with pytest.raises(ValueError, match="not started"):
        await aioipc.wait([worker])
    async with mine, worker:
        child.close()
        assert await aioipc.wait([worker, worker.sentinel], 0) == []
        await mine.send("end")
        assert await aioipc.wait([worker]) == [worker]
        assert await worker.join() == 0
        assert await aioipc.wait([worker]) == [worker]


async def test_the_example_of_the_library_reference(fork) -> None:
    readers, got, ended = [], [], 0
    for n in range(3):
        ours, theirs = aioipc.Pipe(duplex=False, context=fork)
        process = aioipc.Process(
            target=workers.count_to, args=(theirs, 4, n), context=fork
        )
        async with process:
            theirs.close()
        readers.append(ours)
    while readers:
        for reader in await aioipc.wait(readers):
            try:
                got.append(await reader.recv())
            except EOFError:
                readers.remove(reader)
                reader.close()
                ended += 1
    assert sorted(got) == [(n, i) for n in range(3) for i in range(4)]
    assert ended == 3


async def test_a_process_that_leaves_a_child_behind(fork) -> None:
    # The child has the descriptor that tells of the process's end.
    report, theirs = aioipc.Pipe(context=fork)
    lifeline, grandchilds = aioipc.Pipe(context=fork)
    worker = aioipc.Process(
        target=workers.leave_a_child_behind, args=(theirs, grandchilds), context=fork
    )
    async with report, lifeline, worker:
        theirs.close()
        grandchilds.close()
        await report.recv()
        with anyio.fail_after(10):
            assert await aioipc.wait([worker]) == [worker]


# Listeners


async def test_a_listener_with_a_client(transport) -> None:
    async with aioipc.Listener(transport=transport) as listener:
        assert await aioipc.wait([listener], 0) == []
        async with await aioipc.Client(listener.address):
            assert await aioipc.wait([listener]) == [listener]
            async with await listener.accept():
                assert await aioipc.wait([listener], 0.01) == []


async def test_a_client_whose_handshake_ends_while_no_one_accepts(transport) -> None:
    results = []
    async with aioipc.Listener(authkey=KEY, transport=transport) as listener:

        async def wait() -> None:
            results.append(await aioipc.wait([listener]))

        with anyio.fail_after(10):
            async with await anyio.connect_unix(listener.address) as stream:
                framed = FramedHandshake(KEY, "client")
                async with anyio.create_task_group() as group:
                    group.start_soon(listener.accept)
                    framed.feed(await stream.receive(4))
                    group.cancel_scope.cancel()
                async with anyio.create_task_group() as group:
                    group.start_soon(wait)
                    await wait_all_tasks_blocked()
                    assert results == []
                    while framed.missing:
                        reply = framed.feed(await stream.receive(framed.missing))
                        if reply:
                            await stream.send(reply)
                async with await listener.accept():
                    pass
    assert results == [[listener]]
