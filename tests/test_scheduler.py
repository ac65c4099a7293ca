"""The scheduler decides; the workers here are deques, and the clock is a number."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aioipc.pool import _actions as actions
from aioipc.pool._scheduler import INTENSITY, Scheduler, Sizes
from aioipc.pool._states import State, Worker
from aioipc.pool.options import Options
from aioipc.pool.task import Call


@dataclass
class Process:
    """A worker: what it has been sent, and the tokens of that."""

    batches: deque = field(default_factory=deque)
    tokens: int = 0
    running: Call | None = None
    ending: bool = False


class Simulation:
    """A scheduler, and processes that do what it decides."""

    def __init__(self, maximum=2, **sizes) -> None:
        self.scheduler = Scheduler(Sizes(maximum, **sizes), lambda call: True)
        self.processes: dict[Worker, Process] = {}
        self.now = 0.0
        self.numbers = 0
        self.ended: Counter[int] = Counter()
        self.begun: Counter[int] = Counter()
        self.interrupted: list[int] = []
        self.killed: list[Worker] = []

    def submit(self, function=abs, **options) -> Call:
        self.numbers += 1
        call = Call(self.numbers, function, (), {}, Options(**options))
        self.scheduler.submitted(call)
        self.decide()
        return call

    def decide(self) -> None:
        while decided := self.scheduler.decide(self.now):
            for action in decided:
                self.act(action)

    def act(self, action) -> None:
        worker = action.worker
        match action:
            case actions.Start():
                self.processes[worker] = Process()
            case actions.Send(_, calls):
                process = self.processes[worker]
                assert calls
                assert not process.ending
                process.batches.append(deque(calls))
                process.tokens += len(calls)
            case actions.TakeBack(_, limit):
                taken = min(limit, self.processes[worker].tokens)
                self.processes[worker].tokens -= taken
                self.scheduler.took_back(worker, limit, taken)
            case actions.Interrupt(_, call):
                self.interrupted.append(call.number)
            case actions.Kill():
                self.killed.append(worker)
            case actions.End():
                self.processes[worker].ending = True

    # What a process may do next

    def start(self, worker) -> None:
        self.scheduler.ready(worker, self.now)
        self.decide()

    def step(self, worker) -> None:
        """End the running task, begin the next one, or finish the batch."""
        process = self.processes[worker]
        if process.running is not None:
            call, process.running = process.running, None
            assert self.scheduler.replied(worker, call.number, self.now) is call
            if not call.done:
                self.end(call)
        elif process.batches:
            batch = process.batches[0]
            if batch and process.tokens:
                process.tokens -= 1
                process.running = batch.popleft()
                self.begun[process.running.number] += 1
            else:
                process.batches.popleft()
                self.scheduler.batch_done(worker, 0.001, self.now)
        elif process.ending:
            self.die(worker)
        self.decide()

    def die(self, worker) -> list[Call]:
        process = self.processes.pop(worker)
        crashed = self.scheduler.died(worker, process.tokens, self.now)
        expected = [process.running] if process.running else []
        assert crashed == [call for call in expected if not call.done]
        for call in crashed:
            if call.tries < call.options.retries:
                self.scheduler.retry(call, self.now)
            else:
                self.end(call)
        self.decide()
        return crashed

    def cancel(self, call) -> None:
        if call.done:
            return
        worker = call.worker
        self.end(call)
        if worker is None:
            self.scheduler.dropped(call)
        else:
            asked = self.scheduler.tail(call)
            taken = min(asked, self.processes[worker].tokens)
            self.processes[worker].tokens -= taken
            self.scheduler.took_back(worker, asked, taken)
            self.scheduler.unwanted(call, self.now)
        self.decide()

    def end(self, call) -> None:
        call.done = True
        self.ended[call.number] += 1

    def run(self) -> None:
        """Have everything done that can be done."""
        for _ in range(100_000):
            if self.scheduler._later:
                self.now = max(self.now, min(at for at, _ in self.scheduler._later))
                self.scheduler.tick(self.now)
                self.decide()
            busy = False
            for worker, process in list(self.processes.items()):
                if worker.state is State.STARTING:
                    self.start(worker)
                elif worker.state is State.KILLED:
                    self.die(worker)
                elif not (process.running or process.batches or process.ending):
                    continue
                else:
                    self.step(worker)
                busy = True
            if not busy and not self.scheduler._later:
                return
        raise AssertionError("it never ends")


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, each task ends exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation(3, grace=1.0, tasks=7)
        self.calls: list[Call] = []

    @rule(
        function=st.sampled_from([abs, len, max]),
        priority=st.integers(-1, 1),
        retries=st.integers(0, 2),
        on_cancel=st.sampled_from(["interrupt", "kill", "abandon"]),
        count=st.integers(1, 10),
    )
    def submit(self, function, priority, retries, on_cancel, count) -> None:
        how = {"priority": priority, "retries": retries, "on_cancel": on_cancel}
        self.calls += [self.simulation.submit(function, **how) for _ in range(count)]

    @rule(n=st.integers(0, 10), steps=st.integers(1, 5))
    def step(self, n, steps) -> None:
        for _ in range(steps):
            workers = list(self.simulation.processes)
            if workers:
                worker = workers[n % len(workers)]
                if worker.state is State.STARTING:
                    self.simulation.start(worker)
                elif worker.state is not State.KILLED:
                    self.simulation.step(worker)

    @rule(n=st.integers(0, 10))
    def die(self, n) -> None:
        workers = list(self.simulation.processes)
        if workers:
            self.simulation.die(workers[n % len(workers)])

    @rule(n=st.integers(0, 100))
    def cancel(self, n) -> None:
        if self.calls:
            self.simulation.cancel(self.calls[n % len(self.calls)])

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds) -> None:
        self.simulation.now += seconds
        self.simulation.scheduler.tick(self.simulation.now)
        self.simulation.decide()

    @rule(maximum=st.integers(1, 4))
    def resize(self, maximum) -> None:
        self.simulation.scheduler.sizes.maximum = maximum
        self.simulation.scheduler.resized()
        self.simulation.decide()

    @invariant()
    def no_task_has_ended_twice_or_begun_too_often(self) -> None:
        assert all(count == 1 for count in self.simulation.ended.values())
        for call in self.calls:
            assert self.simulation.begun[call.number] <= call.tries + 1

    def teardown(self) -> None:
        self.simulation.run()
        assert self.simulation.ended.keys() == {call.number for call in self.calls}
        assert not self.simulation.scheduler.pending
        for process in self.simulation.processes.values():
            assert process.tokens == 0


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase


@pytest.fixture
def ready():
    """Two workers that have started, and know `abs` to be cheap."""
    simulation = Simulation(2, grace=1.0)
    for _ in range(2):
        simulation.submit()
    simulation.run()
    simulation.scheduler._times[abs] = 0.0001
    simulation.begun.clear()
    return simulation


def test_workers_are_started_as_tasks_come() -> None:
    simulation = Simulation(3)
    assert simulation.processes == {}
    for count in (1, 2, 3, 3):
        simulation.submit()
        assert len(simulation.processes) == count


def test_a_task_goes_to_an_idle_worker_at_once(ready) -> None:
    calls = [ready.submit(), ready.submit()]
    assert calls[0].worker is not calls[1].worker
    assert all(call.has_begun for call in calls)


def test_cheap_tasks_travel_in_batches_and_long_ones_alone(ready) -> None:
    for n in range(400):
        call = Call(1_000 + n, abs, (), {}, Options())
        ready.scheduler.submitted(call)
    ready.decide()
    sizes = [len(worker.sent) for worker in ready.processes]
    assert all(20 <= size <= 41 for size in sizes)
    assert all(worker.batches == 2 for worker in ready.processes)
    ready.run()
    ready.scheduler._times[len] = 0.05
    for _ in range(10):
        ready.submit(len)
    assert [len(worker.sent) for worker in ready.processes] == [1, 1]


def test_an_idle_worker_takes_over_what_waits_behind_a_long_task(ready) -> None:
    first, second = ready.processes
    for n in range(40):
        ready.scheduler.submitted(Call(1_000 + n, abs, (), {}, Options()))
    ready.decide()
    ready.step(first)  # begins its first task, which takes for ever
    for _ in range(10_000):
        ready.step(second)
    assert len(first.sent) == 1
    assert ready.ended.total() == 2 + 39


def test_what_was_not_begun_is_cancelled_without_a_trace(ready) -> None:
    worker, _ = ready.processes
    running = ready.submit()
    ready.step(worker)
    ready.submit()
    waiting = ready.submit()
    assert waiting.worker is not None
    ready.cancel(waiting)
    assert waiting.worker is None
    assert ready.interrupted == ready.killed == []
    ready.cancel(running)
    assert ready.interrupted == [running.number]
    assert worker.kill_at == ready.now + 1.0


def test_grace_ends_in_a_kill_unless_the_task_has_ended(ready) -> None:
    first, second = ready.processes
    for worker in (first, second):
        call = ready.submit()
        ready.step(worker)
        ready.cancel(call)
    ready.step(second)
    ready.now += 1.0
    assert ready.scheduler.alarm <= ready.now
    ready.scheduler.tick(ready.now)
    ready.decide()
    assert ready.killed == [first]


def test_the_time_of_a_task_counts_from_its_begin(ready) -> None:
    worker, _ = ready.processes
    ready.submit()
    ready.submit()
    late = ready.submit(timeout=1.0)
    assert late.worker is worker
    ready.step(worker)
    ready.now += 5.0
    assert ready.scheduler.tick(ready.now) == []
    ready.step(worker)
    assert worker.deadline == ready.now + 1.0
    ready.now += 1.0
    assert ready.scheduler.tick(ready.now) == [late]


def test_workers_that_die_at_their_start_stop_the_pool() -> None:
    simulation = Simulation(1)
    simulation.submit()
    for n in range(INTENSITY):
        assert not simulation.scheduler.gives_up
        (worker,) = simulation.processes
        simulation.now += n
        simulation.die(worker)
    assert simulation.scheduler.gives_up


def test_retries_wait_longer_each_time(ready) -> None:
    call = Call(1, abs, (), {}, Options())
    waits = []
    for _ in range(5):
        ready.scheduler.retry(call, 0.0)
        waits.append(ready.scheduler._later.pop()[0])
    assert waits == [0, 0.05, 0.1, 0.2, 0.4]


def test_an_illegal_move_names_both_states() -> None:
    worker = Worker(1, 0.0)
    with pytest.raises(RuntimeError, match=r"from State.STARTING to State.RETIRING"):
        worker.move(State.RETIRING)


def test_idle_workers_above_the_minimum_retire(ready) -> None:
    ready.scheduler.sizes.idle, ready.scheduler.sizes.minimum = 10.0, 1
    ready.now += 10.0
    ready.scheduler.tick(ready.now)
    ready.decide()
    assert [process.ending for process in ready.processes.values()] == [True, False]
    assert math.isinf(ready.scheduler.alarm)
