"""Whatever tasks and workers do, in whatever order: no item and no turn is lost."""

from collections import Counter, deque
from collections.abc import Iterable
from threading import BrokenBarrierError
from typing import Any

import pytest
from broker_workers import Source, Task, Worker
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aioipc.broker.lending import Loan
from aioipc.broker.primitives import Barrier, Condition, Lock, Semaphore, Wait
from aioipc.broker.shelves import Heap, Item, Line
from aioipc.broker.store import Store
from aioipc.wire.shutdown import ShutDown

core = settings(stateful_step_count=40)
long = settings(max_examples=1000, stateful_step_count=60)

KINDS = ["fifo", "lifo", "priority", "deque"]
indices = st.integers(0, 99)


class Job:
    """An item: unlike any other, though it may be as urgent."""

    def __init__(self, urgency: int, number: int) -> None:
        self.urgency = urgency
        self.number = number
        self.place: tuple[int, int] = 0, number

    def __lt__(self, other: "Job") -> bool:
        return self.urgency < other.urgency

    def __repr__(self) -> str:
        return f"<{self.number}>"


class CheckedLine(Line):
    """Looks whether what it gives is the first, or the last."""

    def pop(self, *, left: bool = True) -> Item:
        item = super().pop(left=left)
        check_first(item, self._items, left=left)
        return item


class CheckedHeap(Heap):
    """Looks whether what it gives is the first."""

    def pop(self, *, left: bool = True) -> Item:
        item = super().pop(left=left)
        check_first(item, self._items)
        return item


class CheckedStore(Store):
    """Looks whether those who leave it must."""

    model: "Queues"

    def _refuse(self) -> None:
        waiting = {*self.getters}
        super()._refuse()
        left = {getter.consumer for getter in waiting.difference(self.getters)}
        if left and not self.is_dropped:
            assert not self.model.is_under_way()
            holders = {consumer for consumer in self.consumers if consumer.leases}
            assert not holders or (len(left) == 1 and left <= holders)


def check_first(item: Item, others: Iterable[Item], *, left: bool = True) -> None:
    place = item.value.place
    for other in others:
        assert place < other.value.place if left else other.value.place < place


class Queues(RuleBasedStateMachine):
    """A queue, and who uses it.

    :ivar taken: what someone has, and for good if no one restores it or dies
    :ivar unfinished: what was put, and neither dealt with nor dropped
    """

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Task] = []
        self.sources: list[tuple[Source, list[Job]]] = []
        self.workers: list[Worker] = []
        self.put: set[Job] = set()
        self.taken: set[Job] = set()
        self.unfinished: set[Job] = set()
        self.numbers = 0
        self.is_shut = self.is_dropped = False

    @initialize(
        kind=st.sampled_from(KINDS),
        maxsize=st.sampled_from([0, 0, 1, 3]),
        manual=st.booleans(),
        tokens=st.booleans(),
        workers=st.integers(1, 3),
    )
    def begin(self, kind, maxsize, manual, tokens, workers) -> None:
        self.kind = kind
        self.shelf = CheckedHeap() if kind == "priority" else CheckedLine()
        self.store = CheckedStore(self.shelf, maxsize)
        self.store.model = self
        self.manual = manual
        self.tokens = tokens
        self.workers = [self.new_worker() for _ in range(workers)]

    def new_worker(self) -> Worker:
        return Worker(self.store, manual=self.manual, tokens=self.tokens)

    # Putting

    def jobs(self, urgencies, *, left=False) -> list[Job]:
        made = []
        for urgency in urgencies:
            self.numbers += 1
            job = Job(urgency, self.numbers)
            if self.kind == "priority":
                job.place = urgency, self.numbers
            elif left:
                job.place = 0, -self.numbers
            made.append(job)
        return made

    def note_put(self, jobs) -> None:
        self.put.update(jobs)
        self.unfinished.update(jobs)

    def side(self, left: bool) -> bool:
        return left and self.kind == "deque"

    @rule(urgency=st.integers(0, 3), left=st.booleans())
    def put_nowait(self, urgency, left) -> None:
        left = self.side(left)
        (job,) = self.jobs([urgency], left=left)
        waiting = bool(self.store.putters)
        room = not self.store.maxsize or len(self.shelf) < self.store.maxsize
        try:
            is_put = self.store.put_nowait(Item(job), left=left)
        except ShutDown:
            assert self.is_shut
            return
        assert not self.is_shut
        assert is_put == (room and not waiting)
        if is_put:
            self.note_put([job])

    @rule(urgencies=st.lists(st.integers(0, 3), max_size=5), left=st.booleans())
    def put_many(self, urgencies, left) -> None:
        left = self.side(left)
        jobs = self.jobs(urgencies, left=left)
        try:
            self.sources.append((Source(self.store, *jobs, left=left), jobs))
        except ShutDown:
            assert self.is_shut

    @precondition(lambda self: not self.store.maxsize)
    @rule(urgencies=st.lists(st.integers(0, 3), min_size=1, max_size=5))
    def put_late(self, urgencies) -> None:
        jobs = self.jobs(urgencies)
        self.store.put_late(map(Item, jobs))
        if not self.is_dropped:
            self.note_put(jobs)

    @precondition(lambda self: self.store.putters)
    @rule(index=indices)
    def cancel_put(self, index) -> None:
        waiting = [*self.store.putters]
        assert self.store.withdraw_putter(waiting[index % len(waiting)])

    # Tasks

    @rule(left=st.booleans())
    def get_nowait(self, left) -> None:
        left = self.end(left)
        there = self.store.qsize()
        try:
            item = self.store.get_nowait(left=left)
        except ShutDown:
            assert self.is_shut
            assert not there
            return
        assert (item is None) == (there == 0)
        if item is not None:
            self.taken.add(item.value)

    @rule(want=st.integers(1, 4), left=st.booleans())
    def get(self, want, left) -> None:
        task = Task(self.store, want, left=self.end(left), slow=True)
        self.tasks.append(task)

    @precondition(lambda self: self.tasks)
    @rule(index=indices)
    def go_on(self, index) -> None:
        task = self.tasks[index % len(self.tasks)]
        if task.items:
            self.settle_tasks()
            self.tasks.remove(task)
            task.go_on()

    @precondition(lambda self: self.tasks)
    @rule(index=indices)
    def cancel_get(self, index) -> None:
        """Also when the items have been given, and the task has not yet run."""
        task = self.tasks[index % len(self.tasks)]
        if not self.unfinished.issuperset(task.got):
            return
        self.settle_tasks()
        self.tasks.remove(task)
        self.taken.difference_update(task.got)
        if self.is_dropped:
            self.forget_dropped(task.got)
        task.cancel()

    @precondition(lambda self: self.taken & self.unfinished)
    @rule()
    def task_done(self) -> None:
        """In the coordinator, for what a task has got."""
        leased = {job for worker in self.workers for job in worker.leases.values()}
        mine = self.taken & self.unfinished - leased
        if mine:
            self.store.finish()
            self.unfinished.remove(min(mine, key=lambda job: job.number))

    # Workers

    @rule(index=indices, want=st.integers(1, 4), idle=st.booleans(), left=st.booleans())
    def ask(self, index, want, idle, left) -> None:
        worker = self.worker(index)
        if not worker.free:
            return
        if idle or self.kind != "fifo":
            worker.ask(want, left=self.end(left))
        else:
            worker.ask_ahead(want)

    @rule(index=indices, most=st.integers(1, 4))
    def take(self, index, most) -> None:
        self.taken.update(self.worker(index).take(most))

    @rule(index=indices)
    def hurry(self, index) -> None:
        self.worker(index).hurry()

    @rule(index=indices)
    def withdraw(self, index) -> None:
        worker = self.worker(index)
        if self.is_dropped and worker.tokens[0] is None:  # it comes back at once
            self.forget_dropped(self.untaken(worker))
        worker.withdraw()

    @rule(index=indices)
    def done(self, index) -> None:
        worker = self.worker(index)
        for job in [*worker.leases.values()][:1]:
            worker.done(job)
            self.unfinished.remove(job)

    @precondition(lambda self: self.manual)
    @rule(index=indices)
    def give_back(self, index) -> None:
        worker = self.worker(index)
        for job in [*worker.leases.values()][:1]:
            self.taken.remove(job)
            if self.is_dropped:
                self.forget_dropped({job})
            worker.give_back(job)

    @rule(index=indices)
    def die(self, index) -> None:
        worker = self.worker(index)
        leased = set(worker.leases.values())
        if self.manual:
            self.taken -= leased
            if self.is_dropped:
                self.forget_dropped(leased)
        else:
            self.unfinished -= leased
        if self.is_dropped:
            self.forget_dropped(self.untaken(worker))
        worker.die()
        self.workers[self.workers.index(worker)] = self.new_worker()

    @rule()
    def age(self) -> None:
        """Have all that waits with workers wait for long."""
        for loan in self.store.hoards:
            loan.since -= 1

    # Ends

    @precondition(lambda self: self.numbers > 10)
    @rule(immediate=st.booleans())
    def shutdown(self, immediate) -> None:
        dropped = self.called_back() | {item.value for item in self.on_shelf()}
        self.store.shutdown(immediate=immediate)
        self.is_shut = True
        if immediate:
            self.is_dropped = True
            self.forget_dropped(dropped)

    # What must be

    @invariant()
    def each_item_is_in_one_place(self) -> None:
        if not self.workers:
            return
        self.settle_tasks()
        self.settle_sources()
        places = [self.untaken(worker) for worker in self.workers]
        places += [{item.value for item in self.on_shelf()}, self.taken]
        assert set().union(*places) == self.put
        assert sum(map(len, places)) == len(self.put)

    @invariant()
    def the_numbers_are_right(self) -> None:
        if not self.workers:
            return
        self.settle_sources()
        store = self.store
        assert store.unfinished == len(self.unfinished)
        assert store.qsize() == len(self.shelf) + len(self.called_back())
        assert len(self.shelf) == len(self.on_shelf())

    @invariant()
    def no_one_waits_for_what_is_there(self) -> None:
        if not self.workers:
            return
        store = self.store
        if store.getters:
            assert not store.qsize()
        assert store.is_full or not store.putters
        if self.is_shut:
            assert not store.putters
            assert not (self.is_dropped and store.getters)
            if store.getters and not self.is_under_way():
                holders = {consumer for consumer in store.consumers if consumer.leases}
                assert holders.difference(getter.consumer for getter in store.getters)

    # How

    def worker(self, index: int) -> Worker:
        return self.workers[index % len(self.workers)]

    def end(self, left: bool) -> bool:
        return left if self.kind == "deque" else self.kind != "lifo"

    def on_shelf(self) -> list[Item]:
        return [*self.shelf._items]

    def is_under_way(self) -> bool:
        """Whether an item has been given to someone who may yet not take it."""
        return any(task.items for task in self.tasks) or any(
            self.untaken(worker) for worker in self.workers
        )

    def untaken(self, worker: Worker) -> set[Job]:
        """Return what a worker was sent and can still take."""
        return jobs_in(worker.consumer.loans.values())

    def called_back(self) -> set[Job]:
        """Return what a worker was sent, and others may have."""
        return jobs_in(self.store.hoards)

    def settle_tasks(self) -> None:
        for task in self.tasks:
            self.taken.update(task.got)

    def settle_sources(self) -> None:
        """Note what of the items of those who wait has been put."""
        for source, jobs in self.sources:
            admitted = jobs[: len(jobs) - len(source.items)]
            self.note_put(admitted)
            del jobs[: len(admitted)]
        self.sources = [(source, jobs) for source, jobs in self.sources if jobs]

    def forget_dropped(self, jobs) -> None:
        self.settle_sources()
        self.put -= {*jobs}
        self.unfinished -= {*jobs}


def jobs_in(loans: Iterable[Loan]) -> set[Job]:
    """Return what can still be taken of loans."""
    jobs: set[Job] = set()
    for loan in loans:
        # Without tokens: what the worker has taken it has said at once.
        count = len(loan.items) if loan.tokens is None else loan.untaken()
        jobs |= {item.value for item in loan.items[len(loan.items) - count :]}
    return jobs


class OneTaker(RuleBasedStateMachine):
    """One worker, which asks as it likes; so it has the items in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(Line())
        self.worker = Worker(self.store)
        self.number = 0

    @rule(count=st.integers(1, 5))
    def put(self, count) -> None:
        jobs = range(self.number, self.number + count)
        self.store.put_late(map(Item, jobs))
        self.number += count

    @rule(want=st.integers(1, 5), idle=st.booleans(), fair=st.booleans())
    def ask(self, want, idle, fair) -> None:
        """It has one question open, at most, and is done with all but one loan."""
        worker = self.worker
        if not worker.asks and len(worker.arrived) < 2:
            worker.ask(want, idle=idle, fair=fair)

    @rule(most=st.integers(1, 5))
    def take(self, most) -> None:
        self.worker.take(most)
        got = self.worker.got
        assert got == [*range(len(got))]

    @rule()
    def withdraw(self) -> None:
        self.worker.withdraw()

    @rule()
    def hurry(self) -> None:
        self.worker.hurry()

    @rule()
    def age(self) -> None:
        for loan in self.store.hoards:
            loan.since -= 1

    @rule()
    def die(self) -> None:
        """Another one goes on where this one was."""
        got = self.worker.got
        self.worker.die()
        self.worker = Worker(self.store)
        self.worker.got = got


class Call(Wait):
    """A call of a party's, and what came of it."""

    def __init__(self, party: int) -> None:
        super().__init__(party, self.resolved)
        self.outcomes: list[Any] = []

    def resolved(self, outcome: Any) -> None:
        self.outcomes.append(outcome)


parties = st.integers(0, 3)


class Locks(RuleBasedStateMachine):
    """A lock and its condition, against two lines of people."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()
        self.condition = Condition(self.lock)
        self.holder: int | None = None
        self.line: deque[tuple[Call, bool]] = deque()  # and what they will hear
        self.waiting: deque[Call] = deque()  # to be notified
        self.notified: set[Call] = set()
        self.may_not_have_looked = False  # the holder, which was notified
        self.due: dict[Call, list[Any]] = {}

    def new_call(self, party: int) -> Call:
        call = Call(party)
        self.due[call] = []
        return call

    def queue(self, call: Call, outcome: bool) -> None:
        self.line.append((call, outcome))
        self.go_on()

    def go_on(self) -> None:
        if self.holder is None and self.line:
            call, outcome = self.line.popleft()
            self.holder = call.party
            self.may_not_have_looked = call in self.notified
            self.notified.discard(call)
            self.due[call].append(outcome)

    def wake(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            call = self.waiting.popleft()
            self.notified.add(call)
            self.queue(call, True)

    @rule(party=parties)
    def acquire(self, party) -> None:
        call = self.new_call(party)
        self.queue(call, True)
        self.lock.acquire(call)

    @rule(party=parties)
    def acquire_nowait(self, party) -> None:
        is_free = self.holder is None
        assert self.lock.acquire_nowait(party) == is_free
        if is_free:
            self.holder = party
            self.may_not_have_looked = False

    @rule()
    def release(self) -> None:
        if self.holder is None:
            with pytest.raises(RuntimeError):
                self.lock.release()
            return
        self.holder = None
        self.go_on()
        self.lock.release()

    @precondition(lambda self: self.lock.waiting)
    @rule(index=indices)
    def give_up(self, index) -> None:
        mine = [call for call, _ in self.line if call in self.lock.waiting]
        if mine:  # the others have been notified
            call = mine[index % len(mine)]
            self.line.remove((call, True))
            assert self.lock.withdraw(call)

    @precondition(lambda self: self.holder is not None)
    @rule()
    def wait(self) -> None:
        call = self.new_call(self.holder)
        self.waiting.append(call)
        self.holder = None
        self.go_on()
        self.condition.wait(call)

    @rule(party=parties, count=st.sampled_from([0, 1, 1, 2, None]))
    def notify(self, party, count) -> None:
        if party != self.holder:
            with pytest.raises(RuntimeError):
                self.condition.notify(party, count)
            return
        self.wake(len(self.waiting) if count is None else count)
        self.condition.notify(party, count)

    @precondition(lambda self: self.due)
    @rule(index=indices)
    def give_up_wait(self, index) -> None:
        """Of those that wait, or did."""
        call = [*self.due][index % len(self.due)]
        if call in self.waiting:
            self.waiting.remove(call)
            self.queue(call, False)
        self.condition.withdraw(call)

    @rule(party=parties)
    def renounce(self, party) -> None:
        if party == self.holder and self.may_not_have_looked:
            self.may_not_have_looked = False
            self.wake(1)
        self.condition.renounce(party)

    @rule(party=parties, lock_first=st.booleans())
    def die(self, party, lock_first) -> None:
        lost = sum(call.party == party for call in self.notified)
        lost += self.holder == party and self.may_not_have_looked
        self.notified = {call for call in self.notified if call.party != party}
        self.line = deque(one for one in self.line if one[0].party != party)
        self.waiting = deque(call for call in self.waiting if call.party != party)
        if lock_first:
            self.pass_on(party)
            self.wake(lost)
            self.lock.forget(party)
            self.condition.forget(party)
        else:
            self.wake(lost)
            self.pass_on(party)
            self.condition.forget(party)
            self.lock.forget(party)

    def pass_on(self, party: int) -> None:
        if self.holder == party:
            self.holder = None
            self.go_on()

    @invariant()
    def all_have_heard_what_they_should(self) -> None:
        assert {call: call.outcomes for call in self.due} == self.due

    @invariant()
    def one_has_the_lock_and_no_one_waits_for_a_free_one(self) -> None:
        assert self.lock.is_locked == (self.holder is not None)
        assert self.lock.holder == self.holder
        assert len(self.lock.waiting) == len(self.line)
        assert [*self.condition.waiting] == [*self.waiting]


class Semaphores(RuleBasedStateMachine):
    """A semaphore: permits are held or free, and no one waits for a free one."""

    @initialize(value=st.integers(0, 3))
    def begin(self, value) -> None:
        self.semaphore = Semaphore(value)
        self.permits = value
        self.held: Counter[int] = Counter()
        self.line: deque[Call] = deque()

    @rule(party=parties)
    def acquire(self, party) -> None:
        call = Call(party)
        self.line.append(call)
        self.semaphore.acquire(call)

    @rule(party=parties)
    def acquire_nowait(self, party) -> None:
        is_free = self.permits > self.held.total()
        assert self.semaphore.acquire_nowait(party) == is_free
        self.held[party] += is_free

    @rule(party=parties, count=st.integers(1, 3))
    def release(self, party, count) -> None:
        others = [*self.semaphore.held]
        for _ in range(count):
            payer = next((p for p in (party, *others) if self.held[p]), None)
            if payer is None:
                self.permits += 1
            else:
                self.held[payer] -= 1
        self.semaphore.release(party, count)

    @precondition(lambda self: self.semaphore.waiting)
    @rule(index=indices)
    def give_up(self, index) -> None:
        call = self.line[index % len(self.line)]
        self.line.remove(call)
        assert self.semaphore.withdraw(call)
        assert not self.semaphore.withdraw(call)

    @rule(party=parties)
    def die(self, party) -> None:
        self.line = deque(call for call in self.line if call.party != party)
        del self.held[party]
        self.semaphore.forget(party)

    @invariant()
    def permits_are_held_or_free(self) -> None:
        while self.line and self.line[0].outcomes:
            call = self.line.popleft()
            assert call.outcomes == [True]
            self.held[call.party] += 1
        assert not any(call.outcomes for call in self.line)
        assert [*self.semaphore.waiting] == [*self.line]
        assert self.semaphore.value == self.permits - self.held.total()
        assert not self.line or self.semaphore.value == 0


class Barriers(RuleBasedStateMachine):
    """A barrier: all go on, or all hear that it is broken."""

    @initialize(count=st.integers(1, 3))
    def begin(self, count) -> None:
        self.barrier = Barrier(count)
        self.line: list[Call] = []
        self.is_broken = False

    @rule(party=parties)
    def wait(self, party) -> None:
        call = Call(party)
        self.barrier.wait(call)
        if self.is_broken:
            assert isinstance(call.outcomes.pop(), BrokenBarrierError)
            return
        self.line.append(call)
        if len(self.line) == self.barrier.parties:
            assert [one.outcomes for one in self.line] == [
                [index] for index in range(self.barrier.parties)
            ]
            self.line = []

    @precondition(lambda self: self.line)
    @rule(index=indices)
    def give_up(self, index) -> None:
        assert self.barrier.withdraw(self.line.pop(index % len(self.line)))

    @rule(is_reset=st.booleans())
    def break_it(self, is_reset) -> None:
        (self.barrier.reset if is_reset else self.barrier.abort)()
        self.all_heard(self.line)
        self.is_broken = not is_reset

    @rule(party=parties)
    def die(self, party) -> None:
        self.barrier.forget(party)
        alive = [call for call in self.line if call.party != party]
        if len(alive) < len(self.line):
            self.all_heard(alive)
            self.is_broken = True

    def all_heard(self, line: list[Call]) -> None:
        for call in line:
            (outcome,) = call.outcomes
            assert isinstance(outcome, BrokenBarrierError)
        self.line = []

    @invariant()
    def who_waits_has_heard_nothing(self) -> None:
        assert self.barrier.is_broken == self.is_broken
        assert [*self.barrier.waiting] == self.line
        assert not any(call.outcomes for call in self.line)


MACHINES = [Queues, OneTaker, Locks, Semaphores, Barriers]


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_lost(machine):
    examples = 200 if machine is Queues else 100
    run_state_machine_as_test(machine, settings=settings(core, max_examples=examples))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_lost_in_the_long_run(machine):
    run_state_machine_as_test(machine, settings=long)
