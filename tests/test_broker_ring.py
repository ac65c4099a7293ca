"""What a worker says through its socket and by its ring: all of it, in one order."""

import gc
import linecache
import mmap
import os
import pickle
import random
import select
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from broker_peers import put_in_threads
from broker_served import Served, new_link
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import aioipc
from aioipc.broker import link
from aioipc.broker import ring as rings
from aioipc.broker.inbox import Inbox
from aioipc.broker.link import Link
from aioipc.broker.remote import rebuild
from aioipc.broker.remote_queue import RemoteQueue
from aioipc.broker.ring import SIZE, RingReader, RingWriter
from aioipc.broker.session import Session
from aioipc.broker.waiting import send
from aioipc.transport.loops import current_loop
from aioipc.wire.broker import Kind, encode_lot

core = settings(max_examples=100, stateful_step_count=40)


class Pair:
    """A worker's connection, and the broker's inbox of it."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.link = new_link(ours)
        self.inbox = Inbox(self.theirs)
        assert self.inbox.read()

    def close(self) -> None:
        self.link.fail()
        self.inbox.close()
        self.theirs.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def new_ring() -> tuple[RingWriter, RingReader]:
    fd = rings.open_ring()
    ends = [rings.map_ring(fd) for _ in range(2)]
    os.close(fd)
    writing, reading = ends
    assert writing is not None
    assert reading is not None
    return RingWriter(writing), RingReader(reading)


def taken(reader: RingReader, seen: int = 0) -> list[bytes]:
    messages = deque()
    reader.take(seen, messages)
    return [body for _, _, _, body in messages]


# The ring


def test_what_is_written_is_read_as_it_was() -> None:
    writer, reader = new_ring()
    assert writer.write(0, Kind.PUT, 7, 1, b"body")
    messages = deque()
    reader.take(0, messages)
    assert [*messages] == [(Kind.PUT, 7, 1, b"body")]
    assert taken(reader) == []


def test_it_goes_round_for_ever() -> None:
    writer, reader = new_ring()
    sizes, left, number = random.Random(7), deque[bytes](), 0
    for _ in range(2_000):
        for _ in range(sizes.randrange(8)):
            body = bytes([number % 256]) * sizes.randrange(20_000)
            number += 1
            if writer.write(0, Kind.PUT, 1, 0, body):
                left.append(body)
        if sizes.random() < 0.7:
            assert taken(reader) == [*left]
            left.clear()
    assert number > 5_000


def test_it_is_full_and_has_room_again() -> None:
    writer, reader = new_ring()
    body = bytes(1_000)
    count = 0
    while writer.write(0, Kind.PUT, 1, 0, body):
        count += 1
    assert count == SIZE // 1_056
    assert not writer.write(0, Kind.PUT, 1, 0, body)
    assert len(taken(reader)) == count
    assert writer.write(0, Kind.PUT, 1, 0, body)


def test_what_can_never_fit_is_refused() -> None:
    writer, _ = new_ring()
    assert not writer.write(0, Kind.PUT, 1, 0, bytes(SIZE))


def test_what_is_not_finished_is_not_there() -> None:
    """A worker that dies while it writes has said nothing."""
    writer, reader = new_ring()

    class Fatal(bytes):
        def __len__(self) -> int:
            return 9  # so that the header is written, and the body does not fit

    for _ in range(SIZE // 32 * 2):  # all the way round
        with pytest.raises((IndexError, ValueError)):
            writer.write(0, Kind.PUT, 1, 0, Fatal(b"x"))
        assert writer.write(0, Kind.PUT, 1, 0, b"whole")
        assert taken(reader) == [b"whole"]


@pytest.mark.parametrize("number", [rings._WRITTEN, rings._START // 8 + 2])
def test_nonsense_is_refused(number) -> None:
    memory = mmap.mmap(-1, rings._START + SIZE)
    writer, reader = RingWriter(memory), RingReader(memory)
    writer.write(0, Kind.PUT, 1, 0, b"body")
    memoryview(memory).cast("Q")[number] = 1 << 60
    memoryview(memory).cast("I")[(rings._START + 28) // 4] = SIZE
    with pytest.raises(ValueError, match="nonsense"):
        taken(reader)


def test_memory_that_could_be_cut_off_is_no_ring() -> None:
    fd = os.memfd_create("not sealed")
    os.ftruncate(fd, 1 << 20)
    assert rings.map_ring(fd) is None
    os.close(fd)


# Both ways in one order


class InOrder(RuleBasedStateMachine):
    """A link that sends in any way, and an inbox that reads when it likes."""

    pair: Pair | None = None

    @initialize()
    def begin(self) -> None:
        self.pair = Pair()
        self.sent: list[tuple[int, int]] = []
        self.got: list[tuple[int, int]] = []
        self.number = 0

    def teardown(self) -> None:
        if self.pair is not None:
            for _ in range(1_000):
                if self.pair.link.flush():
                    break
                self.read()
            self.read()
            while len(self.got) < len(self.sent) and self.pair.inbox.read():
                self.take()
            assert self.got == self.sent
            self.pair.close()

    @rule(size=st.integers(0, 60_000), small=st.booleans())
    def send(self, size, small) -> None:
        self.number += 1
        body = bytes(size % 200 if small else size)
        self.pair.link.send_small(Kind.PUT, 1, self.number, body)
        self.sent.append((self.number, len(body)))

    @rule(size=st.integers(65_536, 300_000))
    def send_large(self, size) -> None:
        self.number += 1
        self.pair.link.send(Kind.PUT, 1, self.number, [bytes(size)])
        self.sent.append((self.number, size))

    @rule()
    def wake(self) -> None:
        self.pair.inbox.wake()

    @rule()
    def sleep(self) -> None:
        self.pair.inbox.sleep()

    @rule()
    def read(self) -> None:
        assert self.pair.inbox.read()
        self.take()

    @rule()
    def read_ring(self) -> None:
        assert self.pair.inbox.read_ring()
        self.take()

    @precondition(lambda self: self.pair and self.pair.link._unsent)
    @rule()
    def flush(self) -> None:
        self.pair.link.flush()

    def take(self) -> None:
        messages = self.pair.inbox.messages
        while messages:
            kind, _, tag, body = messages.popleft()
            if kind != Kind.LOOK:
                self.got.append((tag, len(body)))
        assert self.got == self.sent[: len(self.got)]


def test_all_is_in_the_order_in_which_it_was_sent() -> None:
    run_state_machine_as_test(InOrder, settings=core)


def test_nothing_goes_through_the_socket_while_the_broker_is_awake(pair) -> None:
    pair.inbox.wake()
    for _ in range(10):
        assert pair.link.send_small(Kind.PUT, 1, 0, b"x")
    with pytest.raises(BlockingIOError):
        pair.theirs.recv(1)
    pair.inbox.read_ring()
    assert len(pair.inbox.messages) == 10


def test_a_broker_that_falls_asleep_meanwhile_is_woken(pair, monkeypatch) -> None:
    pair.inbox.wake()
    write = RingWriter.write

    def written_late(*args) -> bool:
        pair.inbox.sleep()
        return write(*args)

    monkeypatch.setattr(RingWriter, "write", written_late)
    assert pair.link.send_small(Kind.PUT, 1, 0, b"x")
    assert pair.theirs.recv(1, socket.MSG_PEEK)
    pair.inbox.read()
    assert [kind for kind, *_ in pair.inbox.messages] == [Kind.PUT, Kind.LOOK]


def stepwise(call: Callable[[], object], step: int) -> bool:
    """Interrupt a call before a line of the link or its ring; whether it was.

    Python hears of no signal between the body of a `with` and its end, nor at a `try`.
    """
    left = step

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_globals.get("__name__") not in {link.__name__, rings.__name__}:
            return None
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not source.strip().startswith(("with ", "try:")):
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("way", ["ring", "falls asleep", "socket", "large"])
def test_an_interrupt_while_sending_costs_no_other_message(way, monkeypatch) -> None:
    def begin() -> Pair:
        pair = Pair()
        if way in {"ring", "falls asleep"}:
            pair.inbox.wake()
        return pair

    write = RingWriter.write

    def written_late(*args: Any) -> bool:
        pair.inbox.sleep()
        return write(*args)

    if way == "falls asleep":
        monkeypatch.setattr(RingWriter, "write", written_late)
    body = bytes(100_000 if way == "large" else 10)
    for step in range(200):
        pair = begin()
        is_interrupted = stepwise(
            lambda pair=pair: pair.link.send(Kind.PUT, 1, 1, [body]), step
        )
        if pair.link.is_open:
            pair.inbox.wake()
            pair.link.send_small(Kind.PUT, 1, 2, b"next")
        tags: list[int] = []
        for _ in range(100):
            if pair.link.is_open:
                pair.link.flush()
            goes_on = pair.inbox.read()
            tags += (tag for kind, _, tag, _ in pair.inbox.messages if kind == Kind.PUT)
            pair.inbox.messages.clear()
            if not goes_on or 2 in tags:
                break
        told = [tag for tag in tags if tag]
        assert told in ([1, 2], [2]) if pair.link.is_open else told in ([1], [])
        pair.close()
        if not is_interrupted:
            return
    pytest.fail("it has not come to an end")


def test_without_memory_all_goes_through_the_socket(monkeypatch) -> None:
    def refuse(*_) -> int:
        raise OSError

    monkeypatch.setattr(os, "memfd_create", refuse)
    pair = Pair()
    assert not pair.inbox.wake()
    pair.link.send_small(Kind.PUT, 1, 0, b"x")
    pair.inbox.read()
    assert [kind for kind, *_ in pair.inbox.messages] == [Kind.PUT]
    pair.close()


# Sessions


def session_of_or_none(served: Served) -> Session | None:
    return next(iter(served.broker._server.sessions), None)


def session_of(served: Served) -> Session:
    (session,) = served.broker._server.sessions
    return session


def putting(served: Served) -> tuple[Any, Any, Link]:
    """Return a queue, what a worker has of it, and its link; it has put before."""
    jobs = served.portal.call(served.broker.Queue)
    link = served.new_link()
    remote = served.use(jobs, link)
    remote.put("first")
    assert remote.get() == "first"
    return jobs, remote, link


def awake(served: Served) -> Session:
    """Have the only worker use its ring, though the loop will not look."""
    session = session_of(served)
    session._inbox.wake()
    session._is_polling = True
    return session


def test_what_a_dead_worker_has_put_is_there(served) -> None:
    jobs, remote, link = putting(served)
    served.portal.call(awake, served)
    for number in range(100):
        remote.put(number)
    served.end_link(link)
    assert served.portal.call(jobs.get_many, 200) == [*range(100)]


def test_who_looks_sees_what_has_been_put(served) -> None:
    jobs, remote, _ = putting(served)
    session = served.portal.call(awake, served)
    remote.put("item")
    served.portal.call(session.look)
    assert served.portal.call(jobs.get_nowait) == "item"


def test_a_broker_that_falls_asleep_looks_once_more(served, monkeypatch) -> None:
    jobs, remote, _ = putting(served)
    sleep, asleep = Inbox.sleep, threading.Event()
    put_late = ["between the last look and falling asleep"]

    def sleep_late(inbox: Inbox) -> None:
        while put_late:
            remote.put(put_late.pop())  # into the ring
        sleep(inbox)
        asleep.set()

    monkeypatch.setattr(Inbox, "sleep", sleep_late)
    for number in range(2):
        remote.put(number)
    assert asleep.wait(5)
    got = [served.portal.call(jobs.get, True, 5) for _ in range(3)]
    assert got == [0, 1, "between the last look and falling asleep"]


def test_a_stream_that_ends_lets_the_loop_sleep(served) -> None:
    jobs, remote, _ = putting(served)
    for _ in range(3):
        remote.put_many(range(1_000))
        for number in range(1_000):
            remote.put(number)
        while served.portal.call(lambda: session_of(served)._is_polling):
            pass
        assert served.portal.call(jobs.qsize) == 2_000
        served.portal.call(jobs.get_many, 2_000)
    assert not remote._open().link._ring.is_read[0]


def test_garbage_in_the_ring_ends_one_worker(served, caplog) -> None:
    jobs, remote, link = putting(served)
    link._ring._numbers[rings._WRITTEN] = 1 << 60
    with pytest.raises(BrokenPipeError):
        remote.qsize()
    assert "nonsense" in caplog.text
    other = served.use(jobs, served.new_link())
    other.put(1)
    assert other.get() == 1


@pytest.mark.slow
def test_a_greeting_that_the_deadline_finds_brings_its_descriptors(
    served, monkeypatch
) -> None:
    jobs = served.portal.call(served.broker.Queue)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_read", lambda _: False)  # a busy loop
        remote = served.use(jobs, served.new_link())
        while (session := served.portal.call(session_of_or_none, served)) is None:
            pass
        assert select.select([session.fileno()], [], [], 5)[0]
        served.portal.call(session._is_late)
    served.portal.call(jobs.put_nowait, "item")
    assert remote.get(timeout=5) == "item"


def test_a_broker_that_is_closed_while_awake_takes_nothing_more(served) -> None:
    _, remote, _ = putting(served)
    served.portal.call(awake, served)
    remote.put(1)
    served.portal.call(served.broker.aclose)
    with pytest.raises(BrokenPipeError):
        remote.put(2)


def test_a_poll_that_is_interrupted_leaves_the_broker_asleep(
    served, monkeypatch
) -> None:
    jobs, remote, link = putting(served)
    session = served.portal.call(awake, served)

    def interrupt(_: Inbox) -> bool:
        raise KeyboardInterrupt

    def poll() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Inbox, "read_ring", interrupt)
            with pytest.raises(KeyboardInterrupt):
                session._poll()

    remote.put(1)
    served.portal.call(poll)
    assert not link._is_read[0]
    remote.put(2)
    assert [served.portal.call(jobs.get, True, 5) for _ in range(2)] == [1, 2]


def test_a_put_that_may_not_be_is_not_counted(served, caplog) -> None:
    jobs = served.portal.call(served.broker.PriorityQueue)
    link = served.new_link()
    served.use(jobs, link).qsize()
    send(link, Kind.PUT_ALL, jobs._spec.number, 0, encode_lot([pickle.dumps(1)] * 3))
    while served.portal.call(session_of_or_none, served) is not None:
        pass
    assert "does not wait" in caplog.text
    served.portal.call(jobs.join)


def test_who_puts_into_a_queue_that_is_forgotten_does_not_keep_it(served) -> None:
    _, _, link = putting(served)
    reply = served.portal.call(served.broker.Queue)
    remote = rebuild(RemoteQueue, reply._spec)
    remote._attach(link)
    served.portal.call(reply.aclose)
    with pytest.raises(RuntimeError, match="does not know"):
        remote.put("late")
    while reply._spec.number in link.kept:
        link.look()


async def test_a_stream_leaves_no_reference_cycle() -> None:
    class Something:
        def __init__(self) -> None:
            self.turns = 0

        def turn(self) -> bool:
            self.turns += 1
            return self.turns == 3

    something = Something()
    gone = weakref.ref(something)
    current_loop().repeat(something.turn)
    while something.turns < 3:
        await checkpoint()
    gc.disable()
    try:
        del something
        for _ in range(3):
            await checkpoint()
        assert gone() is None
    finally:
        gc.enable()


# Processes


@pytest.mark.parametrize("ends", ["in peace", "killed"])
async def test_threads_of_a_worker_put_in_their_orders(
    ends, anyio_backend, fork
) -> None:
    async with aioipc.Broker() as broker:
        jobs, told = broker.Queue(), broker.Queue()
        async with aioipc.Process(
            target=put_in_threads, args=(jobs, told), context=fork
        ) as worker:
            got: list[list[int]] = [[], [], []]
            with anyio.fail_after(30):
                while sum(map(len, got)) < 3_000:
                    thread, number, _ = await jobs.get()
                    got[thread].append(number)
            if ends == "killed":
                worker.kill()
            else:
                await told.put("enough")
            await worker.join()
        while worker.pid in broker.statistics().workers:
            await checkpoint()
        while not jobs.empty():
            thread, number, _ = await jobs.get()
            got[thread].append(number)
    for numbers in got:
        assert numbers == [*range(len(numbers))]


def test_a_forked_child_has_no_part_in_its_parent_s_ring(served) -> None:
    _, remote, link = putting(served)
    remote.put(1)
    pid = os.fork()
    if not pid:
        link.forget()
        os._exit(link._ring is not None)
    assert os.waitpid(pid, 0)[1] == 0
    remote.put(2)
    assert [remote.get(), remote.get()] == [1, 2]
