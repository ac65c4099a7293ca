"""Which worker does which task, and when: a pure function of what has happened.

Events are method calls (`submitted`, `ready`, `replied`, `batch_done`, `took_back`,
`dropped`, `unwanted`, `died`, `tick`). `decide` returns the actions that follow.
Nothing here touches a process, a descriptor or a clock.

Note to the next reader. A worker's tasks lie in `Worker.sent`, in the order in which it
does them: the first one is running, or its reply is under way; the others have perhaps
not begun. Cheap tasks travel in batches of about `BATCH_TIME`, and a second batch is
sent while the worker is at the first, so that it never waits for us. For each task that
may not have begun, there is a token (see `aioipc.worker.channel`), and `TakeBack` takes
tokens: that many tasks at the end of `sent` are ours again. A worker from which tokens
were taken is given nothing new until it has told that its batches are done
(`draining`): it must not take the tokens of new tasks for those of old ones.

So no task waits behind a long one while another worker is idle, and it is always known
which tasks never began and may safely run elsewhere.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aioipc.pool._actions import (
    Action,
    End,
    Interrupt,
    Kill,
    Send,
    Start,
    TakeBack,
)
from aioipc.pool._pending import Pending
from aioipc.pool._states import IN_SERVICE, State, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioipc.pool.task import Call

__all__ = ["Scheduler", "Sizes"]

BATCH_TIME = 0.002
"""Seconds of work that are sent together, and ahead of the running batch."""

BATCH_LIMIT = 256
"""Tasks in a batch, at most: to pickle more would keep the loop for too long."""

BATCH_SIZE = 1 << 22
"""Bytes of large buffers in a batch: to write them all keeps the loop for 1 ms."""

INTENSITY = 3
PERIOD = 10.0
"""So many workers that die at their start within so many seconds stop the pool."""

BACKOFF = 0.05
"""Seconds before the second retry of a task; doubled for each that follows."""

LONGEST_BACKOFF = 5.0

_READY = State.READY
_LEARNING = 0.25  # the weight of a new measurement of a function's time
_MANY = 10_000  # functions whose times are remembered
_SURPRISE = 4.0  # a batch counts as no more than so many times what was expected


@dataclass(slots=True)
class Sizes:
    """How many workers there are to be, and for how long.

    :ivar maximum: how many at the same time
    :ivar minimum: how many are kept when there is nothing to do
    :ivar tasks: after how many a worker is replaced
    :ivar idle: seconds without work after which one above the minimum ends
    :ivar start: seconds within which a worker must be ready
    :ivar grace: seconds that an interrupted task has before its worker is killed
    """

    maximum: int
    minimum: int = 0
    tasks: int | None = None
    idle: float = math.inf
    start: float = math.inf
    grace: float = math.inf


class Scheduler:
    """Decides for one pool.

    :ivar alarm: when `tick` is next needed
    :ivar may_grow: whether there may be more workers
    :param prepare: called with a task that is about to be sent, returns whether it can
        be; if not, it belongs to whoever said so, who may have it `submitted` later
    """

    def __init__(self, sizes: Sizes, prepare: "Callable[[Call], bool]") -> None:
        self.sizes = sizes
        self.workers: dict[int, Worker] = {}
        self.pending = Pending()
        self.deaths: deque[float] = deque(maxlen=INTENSITY)  # at the start
        self._prepare = prepare
        self._hungry: dict[Worker, None] = {}
        self._times: dict[object, float] = {}  # seconds that a function takes
        self._later: list[tuple[float, Call]] = []  # retries, and when
        self._started = 0
        self._warm = 0  # workers that are to be ready, until they are
        self._has_changed = True  # how many workers there are, or should be
        self._actions: list[Action] = []
        self.alarm = math.inf
        self.may_grow = True

    # Events

    def submitted(self, task: "Call") -> None:
        """Note a new task."""
        self.pending.push(task)

    def ready(self, worker: Worker, now: float) -> None:
        """Note that a worker has started."""
        if worker.state is not State.STARTING:
            return
        worker.move(State.READY)
        worker.since = now
        self.tick_at(now + self.sizes.idle)
        self.deaths.clear()
        self._hungry[worker] = None
        if self.ready_workers >= min(self._warm, self.sizes.maximum):
            self._warm = 0
        for leaving in self.workers.values():
            if leaving.leaving and leaving.state is State.READY:
                self._retire(leaving)
                break

    def replied(self, worker: Worker, number: int, now: float) -> "Call | None":
        """Note that a worker has answered a task, and return the task.

        :returns: None if that task is not the next; the worker is not to be trusted
        """
        sent = worker.sent
        if not sent or sent[0].number != number:
            return None
        task = sent.popleft()
        task.worker = None
        worker.finished += 1
        if worker.doomed is task:
            worker.doomed, worker.kill_at = None, math.inf
        if worker.deadline != math.inf or (sent and sent[0].options.timeout):
            self._set_deadline(worker, now)
        return task

    def batch_done(self, worker: Worker, seconds: float, now: float) -> None:
        """Note that a worker has dealt with a batch, and how long that took."""
        worker.batches -= 1
        expected, tasks = worker.planned.popleft()
        if tasks:
            self._learn(tasks, expected, seconds)
        if not worker.batches:
            worker.draining = worker.spent = False
            worker.since = now
            self.tick_at(now + self.sizes.idle)
        if worker.state is _READY and not (worker.draining or worker.leaving):
            self._hungry[worker] = None

    def took_back(self, worker: Worker, asked: int, count: int) -> None:
        """Note that the last `count` tasks of a worker are ours again."""
        worker.draining = True
        worker.spent = count < asked
        self._hungry.pop(worker, None)
        self._return(worker, count)

    def dropped(self, task: "Call") -> None:
        """Note that a task that no worker has is done."""
        for entry in self._later:
            if entry[1] is task:
                self._later.remove(entry)
                return
        self.pending.forget()

    def unwanted(self, task: "Call", now: float) -> None:
        """Note that a task that a worker has begun is done for whoever wanted it."""
        worker = task.worker
        if worker is None:
            return
        how = task.options.on_cancel
        if how == "kill":
            self.kill(worker)
        elif how == "interrupt" and worker.state is not State.KILLED:
            self._actions.append(Interrupt(worker, task))
            worker.doomed, worker.deadline = task, math.inf
            worker.kill_at = now + self.sizes.grace
            self.tick_at(worker.kill_at)

    @staticmethod
    def tail(task: "Call") -> int:
        """How many tasks are to be taken back so that this one is among them."""
        sent = task.worker.sent if task.worker else ()
        return len(sent) - sent.index(task)

    def died(self, worker: Worker, unbegun: int, now: float) -> "list[Call]":
        """Note a worker's end, and return the tasks that it had begun.

        :param unbegun: how many of its last tasks it had not
        """
        self._return(worker, unbegun)
        crashed = [task for task in worker.sent if not task.done]
        worker.sent.clear()
        if worker.state is State.STARTING:
            self.deaths.append(now)
        worker.move(State.GONE)
        self._has_changed = self.may_grow = True
        self._hungry.pop(worker, None)
        del self.workers[worker.number]
        for task in crashed:
            task.worker = None
        return crashed

    def retry(self, task: "Call", now: float) -> None:
        """Have a task run again, some time after its worker died."""
        task.tries += 1
        wait = 0.0 if task.tries < 2 else BACKOFF * 2 ** (task.tries - 2)
        at = now + min(wait, LONGEST_BACKOFF)
        self._later.append((at, task))
        self.tick_at(at)

    def tick(self, now: float) -> "list[Call]":
        """Note the time, and return the tasks that have used up theirs."""
        late: list[Call] = []
        for worker in self.workers.values():
            if worker.kill_at <= now:
                self.kill(worker)
            elif worker.deadline <= now:
                worker.deadline = math.inf
                if not worker.sent[0].done:
                    late.append(worker.sent[0])
            elif worker.state is State.STARTING:
                if worker.since + self.sizes.start <= now:
                    self.deaths.append(now)
                    self.kill(worker)
            elif self._is_spare(worker) and worker.since + self.sizes.idle <= now:
                self._retire(worker)
        due = [task for at, task in self._later if at <= now]
        self._later = [(at, task) for at, task in self._later if at > now]
        self.pending.push_back(due)
        self.alarm = self._next_tick()
        return late

    def tick_at(self, at: float) -> None:
        """Have `tick` called at that time, if not before."""
        self.alarm = min(self.alarm, at)

    # Questions

    @property
    def is_urgent(self) -> bool:
        """Whether a pending task could be sent, or a worker be started for it."""
        return bool(self._hungry) or self.may_grow

    @property
    def size(self) -> int:
        """How many workers there are, but for those that are leaving."""
        return sum(
            worker.state in IN_SERVICE and not worker.leaving
            for worker in self.workers.values()
        )

    @property
    def is_warm(self) -> bool:
        """Whether there have been as many ready workers as `warm_up` was asked for."""
        return not self._warm or self.ready_workers >= self.sizes.maximum

    @property
    def ready_workers(self) -> int:
        """How many workers are in service."""
        return sum(w.state is State.READY for w in self.workers.values())

    @property
    def unsent(self) -> int:
        """Tasks that no worker has."""
        return len(self.pending) + len(self._later)

    @property
    def gives_up(self) -> bool:
        """Whether workers keep dying at their start."""
        deaths = self.deaths
        return len(deaths) == INTENSITY and deaths[-1] - deaths[0] < PERIOD

    # Decisions

    def decide(self, now: float) -> list[Action]:
        """Return what is to be done now."""
        if self.pending:
            self._hand_out(now)
        if self.pending or self._has_changed:
            self._grow(now)
        if not self.pending:
            self._spread()
        actions = self._actions
        if actions:
            self._actions = []
        return actions

    def idle_worker(self) -> Worker | None:
        """Return a worker that has nothing to do, if nothing is pending either."""
        return None if self.pending else self._idle()

    def give(self, worker: Worker, task: "Call", now: float) -> None:
        """Note that an idle worker is sent a new task: `Send` without a decision."""
        self._assign(worker, [task], self._times.get(task.key, 0.0), now)

    def kill_all(self) -> None:
        """Have all workers end at once."""
        for worker in self.workers.values():
            self.kill(worker)

    def kill(self, worker: Worker) -> None:
        """Have a worker killed."""
        worker.kill_at = worker.deadline = math.inf
        if worker.state not in {State.KILLED, State.GONE}:
            worker.move(State.KILLED)
            self._has_changed = self.may_grow = True
            self._hungry.pop(worker, None)
            self._actions.append(Kill(worker))

    def end_all(self) -> None:
        """Have all workers end when they have nothing to do."""
        for worker in self.workers.values():
            self._dismiss(worker)

    def warm_up(self, count: int, now: float) -> None:
        """Start workers until `count` are ready at the same time, or all."""
        self._warm = max(self._warm, count)
        self._grow(now)

    def resized(self) -> None:
        """Note that `sizes` has changed: let those go that are too many."""
        self._has_changed = self.may_grow = True
        workers = [w for w in self.workers.values() if w.state in IN_SERVICE]
        workers.sort(key=lambda worker: len(worker.sent))
        for worker in workers[: max(0, self.size - self.sizes.maximum)]:
            self._dismiss(worker)

    def replace(self, worker: Worker, now: float) -> None:
        """Have a worker end once its successor is ready, if it needs one."""
        if worker.state is not State.READY or worker.leaving:
            return
        if self.pending or self.size <= self.sizes.minimum:
            worker.leaving = True
            self._hungry.pop(worker, None)
            self._start(now)
        else:
            self._retire(worker)

    def forget_pending(self) -> "list[Call]":
        """Take all tasks out that no worker has, and return them."""
        later, self._later = [task for _, task in self._later], []
        return self.pending.clear() + later

    # The rest is private.

    def _next_tick(self) -> float:
        times = [at for at, _ in self._later]
        for worker in self.workers.values():
            times += (worker.kill_at, worker.deadline)
            if worker.state is State.STARTING:
                times.append(worker.since + self.sizes.start)
            elif self._is_spare(worker):
                times.append(worker.since + self.sizes.idle)
        return min(times, default=math.inf)

    def _hand_out(self, now: float) -> None:
        while self.pending and self._hungry:
            worker = self._idle() or next(iter(self._hungry))
            tasks, seconds = self._take_batch(worker)
            if not tasks:
                continue
            self._actions.append(Send(worker, tasks))
            self._assign(worker, tasks, seconds, now)

    def _assign(
        self, worker: Worker, tasks: "list[Call]", seconds: float, now: float
    ) -> None:
        """Note that a worker has tasks, and how long they are expected to take."""
        for task in tasks:
            task.worker = worker
        was_idle = not worker.sent
        worker.sent.extend(tasks)
        worker.batches += 1
        worker.planned.append((seconds, tasks))
        if was_idle and tasks[0].options.timeout is not None:
            self._set_deadline(worker, now)
        # The next batch is sent ahead, unless that is no use or might be a long one.
        del self._hungry[worker]
        if worker.batches == 1 and 0.0 < seconds <= BATCH_TIME * len(tasks):
            self._hungry[worker] = None
        limit = self.sizes.tasks
        if limit and worker.finished + len(worker.sent) >= limit:
            self._hungry.pop(worker, None)
            self.replace(worker, now)

    def _idle(self) -> Worker | None:
        for worker in self._hungry:
            if not worker.batches:
                return worker
        return None

    def _take_batch(self, worker: Worker) -> "tuple[list[Call], float]":
        """Take the next tasks, about `BATCH_TIME` of them or our share.

        :returns: the tasks, and the seconds that they are expected to take; none if
            that is not known
        """
        pending, times, prepare = self.pending, self._times, self._prepare
        share = math.ceil(len(pending) / (2 * max(1, len(self.workers))))
        limit = min(BATCH_LIMIT, max(1, share))
        if self.sizes.tasks:
            left = self.sizes.tasks - worker.finished - len(worker.sent)
            limit = max(1, min(limit, left))
        tasks: list[Call] = []
        seconds, size = 0.0, 0
        while len(tasks) < limit and seconds < BATCH_TIME and pending:
            expected = times.get(pending.peek().key)
            if tasks and (expected is None or seconds + expected > BATCH_TIME):
                break
            task = pending.take()
            if not prepare(task):
                continue
            tasks.append(task)
            if expected is None:
                break
            seconds += expected
            size += task.bulk
            if size >= BATCH_SIZE:
                break
        return tasks, seconds

    def _learn(self, tasks: "list[Call]", expected: float, seconds: float) -> None:
        """Correct what is known of the time of functions."""
        times = self._times
        if len(times) > _MANY:
            times.clear()
        if expected and seconds > _SURPRISE * expected:
            seconds = _SURPRISE * expected
        each = seconds / len(tasks)
        for key in {task.key for task in tasks} if len(tasks) > 1 else (tasks[0].key,):
            known = times.get(key, each)
            times[key] = known + _LEARNING * (each - known)

    def _grow(self, now: float) -> None:
        """Start workers for tasks that wait, and for those that are to be there."""
        sizes, count = self.sizes, self.size
        self._has_changed = False
        self.may_grow = count < sizes.maximum
        if not self.may_grow:
            return
        starting = sum(
            worker.state is State.STARTING for worker in self.workers.values()
        )
        kept = max(sizes.minimum, self._warm)
        lacking = max(len(self.pending) - starting, kept - count)
        for _ in range(min(lacking, sizes.maximum - count)):
            self._start(now)

    def _spread(self) -> None:
        """Let an idle worker have what another has not begun."""
        if not self._hungry:
            return
        waiting, loaded = 0, None
        for worker in self.workers.values():
            if len(worker.sent) - 1 > waiting and not worker.spent:
                waiting, loaded = len(worker.sent) - 1, worker
        if loaded is not None and self._idle() and loaded.state is not State.KILLED:
            self._actions.append(TakeBack(loaded, (waiting + 1) // 2))

    def _start(self, now: float) -> None:
        self._started += 1
        worker = self.workers[self._started] = Worker(self._started, now)
        self.tick_at(now + self.sizes.start)
        self._actions.append(Start(worker))

    def _dismiss(self, worker: Worker) -> None:
        """Have a worker end, when it has done what it was sent."""
        if worker.state is State.STARTING:
            self.kill(worker)
        elif worker.state is State.READY:
            self._retire(worker)

    def _retire(self, worker: Worker) -> None:
        worker.move(State.RETIRING)
        self._has_changed = self.may_grow = True
        self._hungry.pop(worker, None)
        self._actions.append(End(worker))

    def _is_spare(self, worker: Worker) -> bool:
        return worker.is_idle and self.size > max(self.sizes.minimum, self._warm)

    def _return(self, worker: Worker, count: int) -> None:
        returned = [worker.sent.pop() for _ in range(count)]
        returned.reverse()
        for task in returned:
            task.worker = None
        if worker.planned and count:
            self._forget_times(worker)
        self.pending.push_back([task for task in returned if not task.done])

    @staticmethod
    def _forget_times(worker: Worker) -> None:
        """Learn nothing from batches that were cut short."""
        worker.planned = deque((0.0, []) for _ in worker.planned)

    def _set_deadline(self, worker: Worker, now: float) -> None:
        timeout = worker.sent[0].options.timeout if worker.sent else None
        worker.deadline = math.inf if timeout is None else now + timeout
        self.tick_at(worker.deadline)
