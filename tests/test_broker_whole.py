"""A broker and its workers' objects in one process, against a model.

The broker's loop runs in a thread; the workers are this one, by links of their own.
"""

import gc
import pickle
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import anyio
import pytest
from broker_served import Served
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aioipc.broker import releasing, services
from aioipc.broker.remote import rebuild
from aioipc.broker.shelves import Item
from aioipc.broker.waiting import call, wait
from aioipc.errors import DecodeError, QueueEmpty, QueueFull, QueueShutDown
from aioipc.wire.broker import SLOTS, Kind
from aioipc.wire.shutdown import ShutDown

core = settings(max_examples=100, stateful_step_count=30)
long = settings(max_examples=500, stateful_step_count=50)

KINDS = ["Queue", "LifoQueue", "PriorityQueue", "Deque"]
who = st.integers(0, 1)
urgencies = st.integers(0, 3)


class Whole(RuleBasedStateMachine):
    """One queue, the coordinator, and two workers.

    :ivar there: what can be had, in its order
    :ivar leased: by each worker, and not yet dealt with, by what got them
    """

    served: Served | None = None

    @initialize(
        kind=st.sampled_from(KINDS),
        maxsize=st.sampled_from([0, 0, 3]),
        ack=st.sampled_from(["auto", "manual"]),
    )
    def begin(self, kind, maxsize, ack) -> None:
        served = self.served = Served()
        self.kind = kind
        self.maxsize = maxsize
        self.is_manual = ack == "manual"
        make = getattr(served.broker, kind)
        self.queue = served.portal.call(lambda: make(maxsize, ack=ack))
        self.links = [served.new_link() for _ in range(2)]
        self.workers = [served.use(self.queue, link) for link in self.links]
        self.there: list[tuple[int, int]] = []
        self.leased: list[list[list[tuple[int, int]]]] = [[], []]
        self.unfinished = self.number = 0
        self.is_shut = False

    def teardown(self) -> None:
        if self.served is not None:
            self.look()
            self.served.close()

    # What there is

    def new(self, urgency: int) -> tuple[int, int]:
        self.number += 1
        # The place in the order is what is put.
        return (urgency if self.kind == "PriorityQueue" else 0), self.number

    def added(self, item: tuple[int, int]) -> None:
        self.there.append(item)
        self.there.sort()
        self.unfinished += 1

    @property
    def is_full(self) -> bool:
        return 0 < self.maxsize <= len(self.there)

    def took(self, items: list[tuple[int, int]], worker: int | None = None) -> None:
        for item in items:
            # Of a FIFO queue without a bound, some may wait with the other worker.
            if self.kind != "Queue" or self.maxsize:
                assert item == self.there[-1 if self.kind == "LifoQueue" else 0]
            self.there.remove(item)
        if worker is not None:
            self.leased[worker].append(items)

    def look(self) -> None:
        state = self.served.portal.call(self.queue.statistics)
        assert state.items == len(self.there)
        assert state.unfinished == self.unfinished
        assert state.getting == state.putting == 0

    # The coordinator

    @rule(urgency=urgencies)
    def put(self, urgency) -> None:
        item = self.new(urgency)
        try:
            self.served.portal.call(self.queue.put_nowait, item)
        except QueueShutDown:
            assert self.is_shut
        except QueueFull:
            assert self.is_full
        else:
            assert not self.is_full
            assert not self.is_shut
            self.added(item)

    @rule()
    def get(self) -> None:
        try:
            item = self.served.portal.call(self.queue.get_nowait)
        except QueueShutDown:
            assert self.is_shut
            assert not self.there
        except QueueEmpty:
            assert not self.there
        else:
            self.took([item])

    @rule()
    def cancelled_get(self) -> None:
        async def get() -> Any:
            with anyio.move_on_after(0):
                return await self.queue.get_many(2)

        try:
            self.took(self.served.portal.call(get) or [])
        except QueueShutDown:
            assert self.is_shut
            assert not self.there

    @rule()
    def look_at_the_numbers(self) -> None:
        self.look()

    # The workers

    @rule(worker=who, urgency=urgencies)
    def worker_puts(self, worker, urgency) -> None:
        item = self.new(urgency)
        try:
            self.workers[worker].put_nowait(item)
        except ShutDown:
            assert self.is_shut
            return
        except queue.Full:
            assert self.is_full
            return
        # Otherwise it has not heard of it yet.
        assert not self.is_shut or not (self.maxsize or self.kind == "PriorityQueue")
        assert not self.is_full
        self.added(item)
        assert self.workers[worker].qsize() == len(self.there)

    @rule(worker=who, most=st.integers(1, 3))
    def worker_gets(self, worker, most) -> None:
        remote = self.workers[worker]
        try:
            items = remote.get_many(most, timeout=0)
        except ShutDown:
            assert self.is_shut
            assert not self.there
        except queue.Empty:
            assert not self.there
        else:
            assert 0 < len(items) <= most
            self.took(items, worker)

    @precondition(lambda self: not self.there and not self.is_shut)
    @rule(worker=who, urgency=urgencies)
    def worker_waits(self, worker, urgency) -> None:
        """For what the coordinator puts while it waits."""
        item = self.new(urgency)

        async def put() -> None:
            while not self.queue.statistics().getting:  # noqa: ASYNC110
                await anyio.sleep(0.0005)
            await self.queue.put(item)

        putting = self.served.portal.start_task_soon(put)
        assert self.workers[worker].get(timeout=5) == item
        putting.result(5)
        self.added(item)
        self.took([item], worker)

    @rule(worker=who)
    def worker_is_done(self, worker) -> None:
        if self.leased[worker]:
            self.end_lease(worker)
            self.workers[worker].task_done()
            self.workers[worker].qsize()  # so it has arrived
            self.unfinished -= 1

    @precondition(lambda self: self.is_manual)
    @rule(worker=who)
    def worker_gives_back(self, worker) -> None:
        if self.leased[worker]:
            self.there.append(self.end_lease(worker))
            self.there.sort()
            self.workers[worker].give_back()
            self.workers[worker].qsize()

    @precondition(lambda self: self.is_manual and self.there)
    @rule(worker=who, works=st.booleans())
    def worker_leases(self, worker, works) -> None:
        remote = self.workers[worker]
        try:
            with remote.lease(timeout=0) as item:
                self.took([item])
                assert works
        except AssertionError:
            self.there.append(item)
            self.there.sort()
        else:
            self.unfinished -= 1
        remote.qsize()

    def end_lease(self, worker) -> tuple[int, int]:
        """Return the item that the worker is at."""
        last = self.leased[worker][-1]
        item = last.pop(0)
        if not last:
            self.leased[worker].pop()
        return item

    @rule(worker=who)
    def worker_dies(self, worker) -> None:
        self.served.end_link(self.links[worker])
        leased = [item for items in self.leased[worker] for item in items]
        if self.is_manual:
            self.there = sorted(self.there + leased)
        else:
            self.unfinished -= len(leased)
        self.leased[worker] = []
        link = self.links[worker] = self.served.new_link()
        self.workers[worker] = self.served.use(self.queue, link)

    @precondition(lambda self: self.number > 8)
    @rule(worker=who)
    def shutdown(self, worker) -> None:
        self.workers[worker].shutdown()
        self.is_shut = True


def test_a_queue_does_what_its_model_does():
    run_state_machine_as_test(Whole, settings=core)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_queue_does_what_its_model_does_in_the_long_run():
    run_state_machine_as_test(Whole, settings=long)


def abandon_after_the_answer(served: Served, obj: Any, method: str, *args: Any) -> None:
    """Call, and be interrupted when the answer is there but not taken."""
    link = served.links[0]
    number = obj.sync._number
    request = link.new_request()
    link.send(Kind.CALL, number, request, [pickle.dumps((method, args))])
    while request not in link.outcomes:
        link.read()
    link.abandon(number, request)


def test_a_permit_that_no_one_heard_of_is_given_back(served):
    semaphore = served.portal.call(served.broker.Semaphore, 1)
    remote = served.use(semaphore, served.new_link())
    abandon_after_the_answer(served, semaphore, "acquire", True)
    assert remote.get_value() == 1


def test_a_permit_that_there_was_not_is_not_given_back(served):
    semaphore = served.portal.call(served.broker.Semaphore, 0)
    remote = served.use(semaphore, served.new_link())
    abandon_after_the_answer(served, semaphore, "acquire", False)
    assert remote.get_value() == 0


def test_a_lock_that_was_not_had_is_not_given_back(served):
    lock = served.portal.call(served.broker.Lock)
    remote = served.use(lock, served.new_link())
    assert remote.acquire()
    abandon_after_the_answer(served, lock, "acquire", False)  # in another thread, say
    assert remote.locked()


def test_a_surplus_task_done_does_not_end_the_worker(served):
    jobs = served.portal.call(served.broker.Queue)
    link = served.new_link()
    remote = served.use(jobs, link)
    remote.put(1)
    assert remote.get(timeout=5) == 1
    served.portal.call(jobs.task_done)
    remote.task_done()
    assert remote.qsize() == 0
    assert call(link, remote._number, "is_shut") is False
    with pytest.raises(ValueError, match="too many"):
        remote.task_done()


def test_what_came_after_a_shutdown_is_had_by_who_had_asked_ahead_before(served):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    remote.put_many([1, 2])
    assert remote.get(timeout=5) == 1
    remote._baskets.left._ahead = 2  # as if it had been quick
    assert remote.get(timeout=5) == 2
    assert remote.qsize() == 0

    def shut_down_and_put() -> None:
        assert len(jobs._store.ahead) == 1
        jobs.shutdown()
        jobs._store.put_late([Item(3)])

    served.portal.call(shut_down_and_put)
    assert remote.get_nowait() == 3
    with pytest.raises(ShutDown):
        remote.get_nowait()


def test_without_tokens_slots_are_used_again(served):
    jobs = served.portal.call(served.broker.Queue)
    link = served.new_link()
    remote = served.use(jobs, link)
    taken = [link.take_slot() for _ in range(SLOTS)]
    for number in range(20):
        remote.put(number)
        assert remote.get(timeout=5) == number
    (session,) = served.broker._server.sessions
    assert len(session.slots) <= 2
    for slot in taken:
        link.free_slot(slot)


def bad(number: int) -> None:
    raise ValueError(f"bad {number}")


class Bad:
    """What can't be unpickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return bad, (self.number,)


@pytest.mark.parametrize("ack", ["auto", "manual"])
@pytest.mark.parametrize("kind", ["Queue", "LifoQueue"])
def test_an_item_that_cannot_be_unpickled_costs_no_other(served, kind, ack):
    jobs = served.portal.call(lambda: getattr(served.broker, kind)(ack=ack))
    link = served.new_link()
    remote = served.use(jobs, link)
    remote.put_many([1, 2, Bad(3), 4, Bad(5), 6])
    items = [1, 2, 4, 6] if kind == "Queue" else [6, 4, 2, 1]
    got: list[int] = []
    told: list[str] = []
    while len(got) + len(told) < 6:
        try:
            got += remote.get_many(6)
        except ValueError as error:
            told.append(str(error))
    assert got == items
    assert sorted(told) == ["bad 3", "bad 5"]
    for _ in range(6):
        remote.task_done()
    remote.join()
    with pytest.raises(ValueError, match="too many"):
        remote.task_done()


def test_what_an_unloadable_item_has_held_up_is_on_lease_when_it_is_got(served):
    jobs = served.portal.call(lambda: served.broker.Queue(ack="manual"))
    link = served.new_link()
    remote = served.use(jobs, link)
    remote.put_many([1, Bad(2), 3])
    with pytest.raises(ValueError, match="bad"):
        remote.get_many(3)
    remote.task_done()
    assert remote.get() == 1
    remote.task_done()
    remote.qsize()
    served.end_link(link)
    assert served.portal.call(jobs.get_nowait) == 3


def test_an_interrupt_while_items_are_unpickled_takes_none(served, monkeypatch):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    remote.put_many([1, 2])

    def interrupted(_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aioipc.broker.remote_queue.loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remote.get_many(2)
    assert remote.get_many(2) == [1, 2]


def test_a_lease_is_given_back_if_the_work_fails(served):
    jobs = served.portal.call(lambda: served.broker.Queue(ack="manual"))
    remote = served.use(jobs, served.new_link())
    remote.put_many([1, 2, Bad(3)])
    with pytest.raises(ZeroDivisionError), remote.lease() as item:
        item / 0
    remote.qsize()  # what it has said has arrived
    with remote.lease() as item:
        assert item == 1
        assert remote.get() == 2  # which is what `task_done` would be about
        remote.give_back()
        remote.task_done()  # of the first, before its block has ended
    remote.qsize()
    with remote.lease() as item:
        assert item == 2
    with pytest.raises(ValueError, match="bad 3"), remote.lease():
        pass
    remote.join()  # the last can't be done
    with pytest.raises(queue.Empty), remote.lease(block=False):
        pass
    with pytest.raises(ValueError, match="give_back"):
        remote.give_back()


def test_a_lease_that_is_gone_with_its_link_leaves_the_error_as_it_is(served):
    jobs = served.portal.call(lambda: served.broker.Queue(ack="manual"))
    link = served.new_link()
    remote = served.use(jobs, link)
    remote.put(1)

    def work(item: int) -> None:
        served.end_link(link)
        item / 0

    with pytest.raises(ZeroDivisionError), remote.lease() as item:
        work(item)
    assert served.portal.call(jobs.get_nowait) == 1


def test_what_is_not_on_lease_cannot_be_given_back(served):
    remote = served.use(
        served.portal.call(served.broker.Queue),
        served.new_link(),
    )
    remote.put(1)
    with pytest.raises(ValueError, match="manual"), remote.lease():
        pass
    assert remote.get() == 1
    with pytest.raises(ValueError, match="manual"):
        remote.give_back()


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_an_interrupted_get_leaves_nothing_with_the_worker(
    served, monkeypatch, tokens, ack
):
    """Also if the item has arrived, and none of its threads will ask for it."""
    jobs = served.portal.call(lambda: served.broker.Queue(ack=ack))
    link = served.new_link()
    remote = served.use(jobs, link)
    taken = [] if tokens else [link.take_slot() for _ in range(SLOTS)]

    def interrupted(link, is_over, _deadline) -> None:
        remote.put(1)
        assert wait(link, is_over)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aioipc.broker.remote_queue.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remote.get()
    remote.qsize()  # what it has said has arrived
    assert served.portal.call(jobs.get_nowait) == 1
    remote.put(2)
    assert remote.get(timeout=5) == 2
    for slot in taken:
        link.free_slot(slot)


def test_an_interrupted_get_that_is_not_answered_asks_no_more(served, monkeypatch):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aioipc.broker.remote_queue.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remote.get()
    remote.qsize()
    assert served.portal.call(jobs.statistics).getting == 0
    remote.put(1)
    assert served.portal.call(jobs.get_nowait) == 1


@pytest.mark.parametrize("arrived", [True, False])
def test_what_was_taken_back_does_not_hide_what_is_there(served, arrived):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    remote.put_many(range(100))
    number = 0
    while not served.portal.call(jobs.statistics).items_sent:  # ahead, once it is quick
        assert remote.get() == number
        number += 1
    if arrived:
        remote.qsize()  # brings them
    taken = [served.portal.call(jobs.get_nowait) for _ in range(number, 100)]
    assert sorted(taken) == [*range(number, 100)]
    served.portal.call(jobs.put_nowait, "new")
    assert remote.get(timeout=0) == "new"


# The loop and what is large


class Recorded:
    """An item that is large, and notes which threads pickle it."""

    threads: ClassVar[list[str]] = []

    def __reduce__(self):
        self.threads.append(threading.current_thread().name)
        return len, (bytes(100_000),)


def test_many_items_that_are_large_together_are_pickled_by_a_thread(served):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    Recorded.threads.clear()
    served.portal.call(jobs.put_many, [Recorded() for _ in range(8)])
    assert remote.get_many(8, timeout=5) == [100_000] * 8
    assert Recorded.threads.count("aioipc dumps") == 5, "three are over the limit"
    assert len(Recorded.threads) == 8


def test_what_could_not_be_pickled_for_want_of_memory_stays(served, monkeypatch):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    dumps, failures = services._dumps_large, [MemoryError()]

    def fail_once(item: Item) -> bytes:
        if failures:
            raise failures.pop()
        return dumps(item)

    monkeypatch.setattr(services, "_dumps_large", fail_once)
    served.portal.call(jobs.put_many, [Recorded() for _ in range(8)])
    assert remote.get_many(8, timeout=5) == [100_000] * 8
    assert not failures
    served.portal.call(jobs.shutdown)
    with pytest.raises(QueueShutDown):
        served.portal.call(jobs.get_nowait)


class Dumb(BaseException):
    """What has nothing to say, and is no Exception."""

    def __str__(self) -> str:
        raise TypeError


class Exiting:
    """An item that raises what is no Exception when it is pickled."""

    def __reduce__(self):
        raise Dumb


def test_whatever_an_item_raises_in_a_thread_costs_no_other(served):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    many = [Recorded() for _ in range(7)]
    served.portal.call(jobs.put_many, [*many, Exiting()])
    with pytest.raises(pickle.PicklingError, match="Dumb"):
        remote.get_many(8, timeout=5)
    assert remote.get_many(8, timeout=5) == [100_000] * 7
    served.portal.call(jobs.shutdown)
    with pytest.raises(QueueShutDown):
        served.portal.call(jobs.get_nowait)


class ExitsThere:
    """An item that is large, and raises what is no Exception when it is unpickled."""

    def __reduce__(self):
        return exit_there, (bytes(300_000),)


def exit_there(_: bytes) -> None:
    raise SystemExit


def test_whatever_a_large_put_raises_is_the_worker_s(served):
    jobs = served.portal.call(served.broker.PriorityQueue)
    remote = served.use(jobs, served.new_link())
    with pytest.raises(RuntimeError, match="SystemExit"):
        remote.put((1, ExitsThere()), timeout=5)
    remote.put((2, "next"))
    assert served.portal.call(jobs.get_nowait) == (2, "next")


def test_whatever_a_large_item_raises_it_is_not_on_its_way_any_more(served):
    jobs = served.portal.call(served.broker.Queue)
    remote = served.use(jobs, served.new_link())
    remote.put(ExitsThere())
    with pytest.raises(DecodeError):
        served.portal.call(jobs.get)
    served.portal.call(jobs.shutdown)
    with pytest.raises(QueueShutDown):
        served.portal.call(jobs.get_nowait)


class Slow:
    """An item that is large, and waits when it is unpickled."""

    begun = threading.Event()
    may_end = threading.Event()

    def __reduce__(self):
        return unpickle_slowly, (bytes(300_000),)


def unpickle_slowly(_: bytes) -> str:
    Slow.begun.set()
    assert Slow.may_end.wait(10)
    return threading.current_thread().name


@pytest.fixture
def slow() -> Iterator[type[Slow]]:
    Slow.begun.clear()
    Slow.may_end.clear()
    yield Slow
    Slow.may_end.set()


def test_a_large_put_by_priority_is_unpickled_by_a_thread(served, slow):
    jobs = served.portal.call(served.broker.PriorityQueue)
    first, second = (served.use(jobs, served.new_link()) for _ in range(2))
    with ThreadPoolExecutor() as threads:
        putting = threads.submit(first.put, (1, slow()))
        assert slow.begun.wait(5)
        second.put((2, "small"))  # the loop goes on
        assert jobs.qsize() == 1
        slow.may_end.set()
        putting.result(5)
    assert served.portal.call(jobs.get_nowait) == (1, "aioipc loads")


@pytest.mark.parametrize("how", ["late", "dead"])
def test_a_large_put_that_is_given_up_meanwhile_puts_nothing(served, slow, how):
    jobs = served.portal.call(served.broker.PriorityQueue)
    link = served.new_link()
    remote = served.use(jobs, link)
    with ThreadPoolExecutor() as threads:
        timeout = 0.01 if how == "late" else None
        putting = threads.submit(remote.put, (1, slow()), timeout=timeout)
        assert slow.begun.wait(5)
        if how == "dead":
            link.fail()
            served.end_link(link)
        assert isinstance(putting.exception(5), (queue.Full, BrokenPipeError))
    slow.may_end.set()
    served.portal.call(jobs.put_nowait, (2, "other"))
    while any(thread.name == "aioipc loads" for thread in threading.enumerate()):
        pass
    assert served.portal.call(jobs.get_nowait) == (2, "other")
    assert jobs.empty()


# TCP


@pytest.fixture
def served_by_tcp() -> Iterator[Served]:
    served = Served(("127.0.0.1", 0))
    yield served
    served.close()


def test_a_put_by_tcp_that_has_returned_is_not_lost_with_what_was_not_read(
    served_by_tcp,
) -> None:
    served = served_by_tcp
    jobs = served.portal.call(served.broker.Queue)
    link = served.new_link()
    remote = served.use(jobs, link)
    for number in range(20):
        remote.put(number)
        assert jobs.qsize() == number + 1  # it is not on its way any more
    served.portal.call(jobs.shutdown)  # of which the worker is told, in vain
    served.end_link(link)
    assert served.portal.call(jobs.get_many, 50) == [*range(20)]


def test_a_lock_lost_with_its_connection_is_not_another_s_to_release(served) -> None:
    lock = served.portal.call(served.broker.Lock)
    kind, spec = type(lock.sync), lock._spec
    link = served.new_link()
    mine = rebuild(kind, spec)
    mine._attach(link)
    assert mine.acquire()
    del mine
    served.end_link(link)
    gc.collect()
    other = served.use(lock, served.new_link())
    assert other.acquire(timeout=5)
    with pytest.raises(BrokenPipeError):
        rebuild(kind, spec).release()  # a later task, that has unpickled it once more
    assert other.locked()
    other.release()
    assert not [held for held in releasing._held if held._spec == spec]
