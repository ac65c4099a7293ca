"""Tokens as the broker has them: how many there are, and that some were taken."""

import errno
import os

import anyio
import broker_peers as peers
import pytest

import aioipc
from aioipc.broker.session import SlotTokens
from aioipc.broker.taking import Taking
from aioipc.transport.loops import current_loop
from aioipc.wire.broker import SLOTS


@pytest.fixture
async def tokens():
    taking = Taking(current_loop())
    fd = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    tokens = SlotTokens(fd, taking)
    yield tokens
    taking.close()
    tokens.close()


async def test_they_are_counted(tokens) -> None:
    assert tokens.count() == 0
    tokens.put(20)
    assert tokens.count() == 20
    assert tokens.take(5) == 5
    assert tokens.count() == 15
    assert tokens.take(99) == 15
    assert tokens.count() == 0


async def test_without_a_descriptor_left_they_are_as_many_as_before(
    tokens, monkeypatch
) -> None:
    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    tokens.put(3)
    with monkeypatch.context() as patch:
        patch.setattr("os.open", exhausted)
        assert tokens.count() == 3
    tokens.take(1)
    assert tokens.count() == 2
    with monkeypatch.context() as patch:
        patch.setattr("os.open", exhausted)
        tokens.take(1)
        assert tokens.count() == 1, "it needs no other one"


async def test_it_is_heard_when_some_are_taken(tokens) -> None:
    heard = anyio.Event()

    def hear() -> None:
        if tokens.count() < 3:
            heard.set()
        else:
            tokens.tell(hear)

    tokens.put(3)
    tokens.tell(hear)
    await anyio.wait_all_tasks_blocked()
    assert not heard.is_set()
    tokens.take(1)
    with anyio.fail_after(5):
        await heard.wait()


async def test_who_has_heard_hears_no_more(tokens) -> None:
    heard: list[int] = []
    tokens.put(3)
    for _ in range(2):
        tokens.tell(lambda: heard.append(tokens.count()))
    with anyio.fail_after(5):
        while not heard:
            await anyio.lowlevel.checkpoint()
    before = len(heard)
    tokens.take(3)
    await anyio.sleep(0.01)
    assert len(heard) == before


@pytest.mark.parametrize("missing", ["select.epoll", "aioipc.broker.taking.open_watch"])
async def test_without_a_descriptor_left_it_is_heard_nevertheless(
    tokens, monkeypatch, missing
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    heard, again = anyio.Event(), anyio.Event()
    tokens.put(1)
    with monkeypatch.context() as patch:
        patch.setattr(missing, exhausted)
        for _ in range(2):
            tokens.tell(heard.set)
        assert len(tokens._taking._timers) == 1
    with anyio.fail_after(5):
        await heard.wait()
    tokens.tell(again.set)  # there is a descriptor again, which is read
    assert not tokens._taking._timers
    tokens.take(1)
    with anyio.fail_after(5):
        await again.wait()


async def test_no_child_inherits_them(fork) -> None:
    async with aioipc.Broker() as broker:
        jobs, results = broker.Queue(), broker.Queue()
        async with aioipc.Process(
            target=peers.get_some, args=(jobs, results, 1), context=fork
        ):
            await jobs.put("job")
            assert await results.get() == "job"
            (session,) = broker._server.sessions
            fds = [tokens._fd for tokens in session._tokens]
            assert len(fds) == SLOTS
            assert not any(map(os.get_inheritable, fds))
