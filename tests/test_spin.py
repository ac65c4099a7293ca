"""Looking for an answer for a moment before going to sleep."""

import random

import anyio
import anyio.lowlevel
import bridge_peers as peers
import pytest

import aioipc
from aioipc.transport import spin
from aioipc.transport.spin import AT_ONCE, BUDGET, REST, SPIN, Spin


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
        receiver.eager = receiver._spin.looped(SPIN / 2, alone=True)
        assert receiver.eager
        yield connection, peer, receiver
    plain.close()


# When to look


def test_quick_answers_are_looked_for_until_the_loop_is_due() -> None:
    spin, looked = Spin(), BUDGET / 8
    assert spin.looped(BUDGET / 5, alone=True)
    assert [spin.looked(looked) for _ in range(8)] == [True] * 7 + [False]
    assert spin.looped(BUDGET / 5, alone=True)


@pytest.mark.parametrize(("seconds", "alone"), [(2 * SPIN, True), (SPIN / 2, False)])
def test_slow_answers_are_not_and_neither_if_others_were_served(seconds, alone) -> None:
    assert not Spin().looped(seconds, alone=alone)


def test_looking_that_is_no_quicker_than_the_loop_is_left_for_a_while() -> None:
    spin = Spin()
    answers = 0
    while spin.looped(SPIN / 2, alone=True):  # until it has been seen often enough
        answers += 1
        assert answers < 20
        while spin.looked(SPIN / 2):
            pass
    rest = [spin.looped(SPIN / 2, alone=True) for _ in range(REST + 1)]
    assert rest == [False] * REST + [True]


# How


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


async def test_an_answer_that_is_there_is_taken_at_once_but_not_for_ever(ready) -> None:
    connection, peer, receiver = ready
    for n in reversed(range(AT_ONCE)):
        await connection.send("question")
        peer.send("answer")
        assert receiver.try_now()
        assert receiver.eager == bool(n)
        assert await connection.recv() == "answer"


async def test_an_end_that_comes_meanwhile_is_found(ready, monkeypatch) -> None:
    connection, peer, _ = ready

    def yield_to_peer() -> None:
        if not peer.connection.closed:
            peer.close()

    monkeypatch.setattr(spin.os, "sched_yield", yield_to_peer)
    await connection.send("question")
    with pytest.raises(aioipc.BrokenResourceError):
        await connection.recv()


async def test_only_an_answer_is_looked_for(ready, monkeypatch) -> None:
    connection, peer, _ = ready
    monkeypatch.setattr(spin.os, "sched_yield", pytest.fail)
    peer.send("no answer: nothing has been asked")
    assert await connection.recv() == "no answer: nothing has been asked"


async def test_in_vain_it_ends_soon_and_is_not_tried_again(ready, monkeypatch) -> None:
    connection, _, receiver = ready
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += SPIN / 10
        return now

    monkeypatch.setattr(spin, "perf_counter", clock)
    await connection.send("question")
    assert not receiver.try_now()
    assert not receiver.eager
    assert SPIN <= now < 2 * SPIN


async def test_a_loop_that_serves_others_too_is_not_kept_from_it(ready) -> None:
    connection, peer, receiver = ready
    receiver.eager = False
    other, plain = aioipc.Pipe()
    async with other:
        peers.Peer(plain).send("for another task")
        await other.recv()
        await connection.send("question")
        peer.send("answer")
        assert await connection.recv() == "answer"
        assert not receiver.eager
    plain.close()
