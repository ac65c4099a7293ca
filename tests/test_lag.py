"""The loop is never blocked: not by half a message, a full pipe or a large pickle.

How long it stands still, the benchmarks measure. Here it is counted how often it turns
meanwhile, which does not depend on what else the machine has to do: a loop that is
blocked does not turn at all.
"""

import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import anyio
import anyio.lowlevel
import bridge_peers as peers
import pytest

import aioipc

pytestmark = pytest.mark.slow

ENOUGH = 50
"""Turns of the loop, where a blocked one takes two or three."""


@contextlib.asynccontextmanager
async def loop_turns() -> AsyncIterator[None]:
    """Fail if the loop does not turn meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        yield
        group.cancel_scope.cancel()
    assert turns >= ENOUGH


async def test_a_frame_dribbled_over_a_second(fork, transport) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    frame = (1_000_000).to_bytes(4, "big") + b"d" * 1_000_000
    process = aioipc.Process(
        target=peers.write_slowly, args=(child.fileno(), frame, 100, 1.0), context=fork
    )
    async with connection, process, loop_turns():
        child.close()
        assert await connection.recv_bytes() == b"d" * 1_000_000


async def test_a_peer_that_stalls_in_the_middle_of_a_frame(fork, transport) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(
        target=peers.send_half_a_frame, args=(child, 200_000), context=fork
    )
    async with connection, process:
        child.close()
        async with loop_turns():
            with anyio.move_on_after(0.6):
                await connection.recv_bytes()
        await connection.send("go on")
        with anyio.fail_after(10):
            await process.join()


async def test_two_hundred_megabytes_there_and_back(fork, transport) -> None:
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(target=peers.echo, args=(child,), context=fork)
    large = bytes(200_000_000)
    async with connection, process:
        child.close()
        async with loop_turns():
            await connection.send(large)
            received = await connection.recv()
        assert received == large
        connection.close()


class Witness:
    """Notes in which threads it is pickled and unpickled."""

    threads: ClassVar[list[threading.Thread]] = []

    def __reduce__(self) -> tuple[Callable[[], "Witness"], tuple[()]]:
        self.threads.append(threading.current_thread())
        return come_back, ()


def come_back() -> Witness:
    Witness.threads.append(threading.current_thread())
    return Witness()


async def test_a_large_graph_is_pickled_elsewhere(fork, transport) -> None:
    mine, theirs = fork.Pipe()
    graph = [*({"n": n} for n in range(300_000)), Witness()]
    Witness.threads.clear()
    async with (
        aioipc.wrap(mine, transport=transport) as sender,
        aioipc.wrap(theirs, transport=transport) as receiver,
        anyio.create_task_group() as group,
    ):
        group.start_soon(sender.send, graph)
        assert len(await receiver.recv()) == 300_001
    assert len(Witness.threads) == 2
    assert threading.current_thread() not in Witness.threads


async def test_starting_eight_processes(context) -> None:
    # conftest's detector fails it if the loop's own thread starts or joins one.
    async with anyio.create_task_group() as group:

        async def run() -> None:
            process = aioipc.Process(target=int, context=context)
            async with process:
                pass
            assert process.exitcode == 0
            process.close()

        for _ in range(8):
            group.start_soon(run)
