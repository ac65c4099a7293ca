"""A worker's connection, and threads that use it while it breaks: no broker."""

import os
import socket
import threading

import pytest
from broker_served import new_link

from aioipc.broker import connecting, remote
from aioipc.broker.link import Link
from aioipc.broker.remote import Spec
from aioipc.broker.remote_queue import RemoteQueue
from aioipc.broker.waiting import flush, wait
from aioipc.wire.broker import Kind


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    link = new_link(ours)
    yield link, theirs
    link.fail()
    theirs.close()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_number_is_no_other_s_while_a_thread_uses_it(pair) -> None:
    link, _ = pair
    used = link.descriptors
    numbers = [used.fd, *used.tokens]
    link.fail()
    assert all(map(is_open, numbers))
    del used
    assert not any(map(is_open, numbers))


def test_a_broken_link_keeps_no_descriptors_though_an_object_has_it(pair) -> None:
    link, theirs = pair
    fd = link.descriptors.fd
    theirs.close()
    with pytest.raises(BrokenPipeError):
        link.send(Kind.PUT, 1, 0, [b"x"])
    assert not is_open(fd)


@pytest.mark.parametrize(
    "use",
    [
        lambda link: link.read(),
        lambda link: link.look(),
        lambda link: link.flush(),
        lambda link: link.send(Kind.PUT, 1, 0, [b"small"]),
        lambda link: link.send(Kind.PUT, 1, 0, [bytes(100_000)]),
        lambda link: link.take_tokens(0, 1),
        flush,
        lambda link: wait(link, lambda: False),
    ],
)
def test_nothing_is_read_or_written_by_who_is_late(pair, use) -> None:
    """Whatever has the numbers of the descriptors by then."""
    link, _ = pair
    link.fail()
    with pytest.raises(BrokenPipeError):
        use(link)


@pytest.mark.parametrize("threads", [1, 3])
def test_those_who_wait_hear_that_a_thread_has_broken_the_link(pair, threads) -> None:
    link, _ = pair
    told = []

    def work() -> None:
        with pytest.raises(BrokenPipeError):
            wait(link, lambda: False)
        told.append(True)

    waiting = [threading.Thread(target=work) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    while link._leader is None or len(link._bells) < threads - 1:
        pass
    link.fail()
    for thread in waiting:
        thread.join()
    assert len(told) == threads


def test_a_writer_that_waits_hears_of_it_too(pair) -> None:
    link, _ = pair
    while link.send(Kind.PUT, 1, 0, [bytes(60_000)]):
        pass
    told = []

    def work() -> None:
        with pytest.raises(BrokenPipeError):
            flush(link)
        told.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    link.fail()
    thread.join()
    assert told


def test_a_late_thread_leaves_alone_what_another_has_by_a_new_link(
    pair, monkeypatch
) -> None:
    link, _ = pair
    jobs = RemoteQueue(Spec("address", b"key", 1))
    found = []

    def find_link(*_) -> Link:
        if not found:
            monkeypatch.setattr(remote, "find_link", lambda *_: link)
            found.append(jobs._open())  # another thread, meanwhile
        return link

    monkeypatch.setattr(remote, "find_link", find_link)
    assert jobs._open() is found[0]
    assert link.listening[1] is found[0]


def test_what_comes_late_by_the_old_link_is_not_taken_for_what_comes_by_the_new(
    pair, monkeypatch
) -> None:
    old, _ = pair
    ours, theirs = socket.socketpair()
    new = new_link(ours)
    monkeypatch.setattr(remote, "find_link", lambda *_: new if found else old)
    found: list = []
    jobs = RemoteQueue(Spec("address", b"key", 1))
    found.append(jobs._open())
    old.fail()
    asked = jobs._open().left.ask(1, fair=True)
    old._dispatch(Kind.NO_ITEMS, 1, asked.slot, b"\1")  # read before it failed
    old._dispatch(Kind.SHUT, 1, 0, b"")
    assert not asked.is_answered
    assert not jobs._open().is_shut
    new.fail()
    theirs.close()


def test_a_broker_that_does_not_answer_holds_up_no_other(pair, monkeypatch) -> None:
    link, _ = pair
    asked, gives_up = threading.Event(), threading.Event()

    def connect(address, *_) -> Link:
        if address == "dead":
            asked.set()
            gives_up.wait()
            raise TimeoutError
        return link

    def find_dead() -> None:
        with pytest.raises(TimeoutError):
            connecting.find_link("dead", b"key", 30)

    monkeypatch.setattr(connecting, "connect", connect)
    monkeypatch.setattr(connecting, "_links", {})
    thread = threading.Thread(target=find_dead)
    thread.start()
    asked.wait()
    assert connecting.find_link("alive", b"key", 30) is link
    assert connecting.find_link("alive", b"key", 30) is link
    gives_up.set()
    thread.join()
