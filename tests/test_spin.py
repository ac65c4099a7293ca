"""Looking for an answer for a moment before going to sleep."""

import random

import anyio
import anyio.lowlevel
import bridge_peers as peers
import pytest

import aioipc
from aioipc.transport import stream
from aioipc.transport.stream import SPIN, SPINS


@pytest.fixture
async def echo(fork, transport):
    """A connection to a process that sends back what it gets."""
    connection, child = aioipc.Pipe(context=fork, transport=transport)
    process = aioipc.Process(target=peers.echo, args=(child,), context=fork)
    async with process:
        child.close()
        async with connection:
            yield connection


@pytest.fixture
async def ready():
    """A connection in use and its plain other end; its last answer came at once."""
    connection, plain = aioipc.Pipe()
    async with connection:
        peer = peers.Peer(plain)
        peer.send("settle in this loop")
        await connection.recv()
        receiver = connection._receiver
        receiver.waited(0)
        receiver.waited(0)
        assert receiver.eager == SPINS
        yield connection, peer, receiver
    plain.close()


async def test_answers_whose_receives_are_cancelled_are_not_lost(echo) -> None:
    rng = random.Random(4)
    cancelled = 0
    for n in range(2000):
        await echo.send(n)
        while True:
            with anyio.move_on_after(rng.choice((0, 1))) as scope:
                assert await echo.recv() == n
            if not scope.cancelled_caught:
                break
            cancelled += 1
    assert cancelled > 20


async def test_other_tasks_get_their_turn_between_quick_answers(echo) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        for n in range(50 * (SPINS + 1)):
            await echo.send(n)
            assert await echo.recv() == n
        assert turns >= 49
        tasks.cancel_scope.cancel()


async def test_an_answer_that_is_there_is_taken_at_once(ready) -> None:
    connection, peer, receiver = ready
    for left in reversed(range(SPINS)):
        await connection.send("question")
        peer.send("answer")
        assert receiver.try_now()
        assert receiver.eager == left
        assert await connection.recv() == "answer"


async def test_only_an_answer_is_looked_for(ready, monkeypatch) -> None:
    connection, peer, _ = ready
    monkeypatch.setattr(stream.os, "sched_yield", pytest.fail)
    peer.send("no answer: nothing has been asked")
    assert await connection.recv() == "no answer: nothing has been asked"


async def test_in_vain_it_ends_soon_and_is_not_tried_again(ready, monkeypatch) -> None:
    connection, _, receiver = ready
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += SPIN / 10
        return now

    monkeypatch.setattr(stream, "perf_counter", clock)
    await connection.send("question")
    assert not receiver.try_now()
    assert not receiver.eager
    assert SPIN < now < 2 * SPIN


async def test_a_slow_answer_ends_it(ready) -> None:
    *_, receiver = ready
    receiver.waited(2 * SPIN)
    assert not receiver.eager


async def test_a_loop_that_serves_others_too_is_not_kept_from_it(ready) -> None:
    _, _, receiver = ready
    connection, plain = aioipc.Pipe()
    async with connection:
        peers.Peer(plain).send("for another task")
        await connection.recv()
        receiver.waited(0)
        assert not receiver.eager
    plain.close()
