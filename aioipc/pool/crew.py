"""The workers of one pool on one event loop: carries out what the scheduler decides.

Everything here runs in the loop, by its callbacks, and there is no task of our own: a
pool can be opened in one task and closed in another. Only starting a process, and
pickling or unpickling what is large, are done in threads.

Note to the next reader. A reply lets whoever waits for it go on at once, and it may
come back here, to submit or to cancel. So a call is resolved only when all that belongs
to it is as it should be, and never while the scheduler decides.
"""

import math
import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from multiprocessing.context import BaseContext
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from aioipc.abc import PoolStatistics
from aioipc.bridge.insides.processes import end_line_for_resource_tracker
from aioipc.errors import (
    WorkerCrashed,
    WorkerStartError,
    how_it_ended,
)
from aioipc.memory.bulky import MARK
from aioipc.memory.parcels import is_slow_to_unpack, size_of_parcel, starts_of, unpack
from aioipc.memory.views import Views
from aioipc.pool import _actions as actions
from aioipc.pool._scheduler import INTENSITY, PERIOD, Scheduler, Sizes
from aioipc.pool._states import State, Worker
from aioipc.pool.engine import Engine
from aioipc.pool.guard import GUARD_EXIT_CODE, GUARD_MESSAGE
from aioipc.pool.member import Launched, Member
from aioipc.pool.outbox import FUNCTIONS, Outbox
from aioipc.pool.outcomes import (
    cannot_load,
    error_of,
    load_failure,
)
from aioipc.pool.sharing import SharedMemory, close_views
from aioipc.pool.task import Call
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import Loop, Timer
from aioipc.transport.spin import Spin
from aioipc.transport.threads import Job, run_in_thread
from aioipc.wire.parts import LARGE
from aioipc.wire.pickles import NewPickler, loads, loads_large
from aioipc.wire.tasks import NO_TASK, Kind, decode_slots

if TYPE_CHECKING:
    from aioipc.pool.options import Options

__all__ = ["Crew", "Launch"]

_TRIM_AGAIN = 1.0  # seconds, at least
_VALUE, _ERROR, _DONE, _READY = Kind.VALUE, Kind.ERROR, Kind.DONE, Kind.READY


class Launch(NamedTuple):
    """How a worker is started.

    :ivar setup: arguments of `aioipc.worker.main.Setup`
    :ivar pickler: makes one for what the standard pickler can't, if that is wanted
    :ivar max_shared_memory: bytes, for large buffers
    """

    context: BaseContext
    setup: dict[str, Any]
    pickler: NewPickler | None = None
    max_shared_memory: int = 0


class Crew(Engine):
    """The workers of one pool."""

    def __init__(self, loop: Loop, sizes: Sizes, launch: Launch) -> None:
        super().__init__(loop)
        self.memory = SharedMemory(launch.max_shared_memory)
        arena = self.memory.arena
        self._outbox = Outbox(loop, arena, launch.pickler, self._returned)
        self.scheduler = Scheduler(sizes, self._outbox.prepare)
        self.members: dict[Worker, Member] = {}
        self.crashes = 0
        self._launch = launch
        self._starts: dict[Worker, Job[Launched]] = {}
        self._start_error: BaseException | None = None
        self._pump_is_due = False
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._spin = Spin()
        self._is_looking = False  # for the answer to a call, within a task
        forget_in_forks(self)

    # What the pool asks for

    @property
    def width(self) -> int:
        return self.scheduler.sizes.maximum

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: "Options",
    ) -> Call:
        if self.refusal is not None:
            self.check()
        self._numbers = number = self._numbers + 1
        call = Call(number, function, args, kwargs, options)
        # Not the function: it may not be hashable, and would be kept.
        plain = type(function) in FUNCTIONS
        call.key = function.__qualname__ if plain else type(function)
        self.open[call] = None
        scheduler = self.scheduler
        # Not for a call that another one's pickling makes: its worker is taken.
        worker = None if self._outbox.is_busy else scheduler.idle_worker()
        if worker is not None and self._outbox.prepare(call):
            self._send_at_once(call, worker)
            return call
        if not call.away:  # or it comes later, or never
            scheduler.submitted(call)
        if not self._pump_is_due and (scheduler.is_urgent or self._outbox.unsendable):
            self._pump_is_due = True
            self.loop.call_soon(self.pump)
        return call

    def _send_at_once(self, call: Call, worker: Worker) -> None:
        """Send a call that is alone: what `pump` would do, the short way."""
        scheduler, now = self.scheduler, monotonic()
        scheduler.give(worker, call, now)
        self.members[worker].send_batch((call,), self._outbox.functions)
        if scheduler.alarm < self._timer_at:
            self._set_timer(now)

    def stop(self, call: Call, error: BaseException) -> None:
        if call.done:
            return
        scheduler = self.scheduler
        worker = call.worker
        call.done = True
        if worker is not None:
            asked = scheduler.tail(call)
            taken = self._take_back(worker, asked)
            if asked - taken <= 1:  # else one behind it has begun, so it has ended
                scheduler.unwanted(call, monotonic())
        elif not call.away:
            scheduler.dropped(call)
        self._fail(call, error)
        self.pump()

    def pump(self) -> None:
        """Do what there is to be done."""
        self._pump_is_due = False
        scheduler, now = self.scheduler, monotonic()
        while decided := scheduler.decide(now):
            for action in decided:
                self._act(action)
        if scheduler.alarm < self._timer_at:
            self._set_timer(now)
        unsendable = self._outbox.unsendable
        while unsendable:
            self._resolve_failed(*unsendable.pop())
        if self.broken is not None and scheduler.unsent:
            self._fail_unsent(self.broken)

    def close(self, error: BaseException) -> None:
        self.refuse()
        self.closed = True
        self._end_of_work()
        self.scheduler.kill_all()
        self.pump()
        self._fail_all(error)

    def look(self, call: Call) -> None:
        if not self._spin.again or call.worker is None:
            return
        member = self.members[call.worker]
        spin, self._is_looking = self._spin, True

        def step() -> bool:
            member.read()
            return call.done

        try:
            os.sched_yield()  # to the worker, if this is its only CPU
            if step():
                spin.left -= 1
                spin.again = spin.left > 0
            else:
                spin.look(step)
        finally:
            self._is_looking = False

    def waited(self, seconds: float, finished: int) -> None:
        self._spin.again = self._spin.looped(
            seconds, alone=self.finished == finished + 1
        )

    def has_no_workers(self) -> bool:
        """Whether all processes have ended, and none is being started."""
        return not (self.members or self._starts)

    def statistics(self) -> PoolStatistics:
        workers = self.scheduler.workers.values()
        running = sum(
            bool(worker.sent) and not worker.sent[0].done for worker in workers
        )
        return PoolStatistics(
            workers=len(workers),
            starting=sum(worker.state is State.STARTING for worker in workers),
            idle=sum(worker.is_idle for worker in workers),
            busy=sum(bool(worker.batches) for worker in workers),
            tasks_pending=len(self.open) - running,
            tasks_running=running,
            tasks_finished=self.finished,
            tasks_failed=self.failed,
            crashes=self.crashes,
            shared_memory=self.shared_memory,
        )

    def resize(self, sizes: Sizes) -> None:
        """Have other numbers of workers."""
        mine = self.scheduler.sizes
        mine.maximum, mine.minimum = sizes.maximum, sizes.minimum
        self.memory.share_anew(self.members, mine.maximum)
        self.memory.trim(self.members.values())
        self.scheduler.resized()
        self.pump()
        self._notify()

    def end_all(self) -> None:
        self._end_of_work()
        self.scheduler.end_all()
        self.pump()

    def _end_of_work(self) -> None:
        """Start no more workers."""
        sizes = self.scheduler.sizes
        sizes.minimum = sizes.maximum = 0

    def abandon(self) -> None:
        """Kill all workers, without a loop."""
        self.refuse()
        self.closed = True
        self._end_of_work()
        for worker, member in self.members.items():
            member.abandon()
            for call in self.scheduler.died(worker, 0, monotonic()):
                call.away = True
        self.memory.close(idle=not (self.members or self._starts))
        self.members.clear()
        if self._timer is not None and self.loop.is_current():
            self._timer.cancel()
        self._fail_abandoned()

    def _fail_all(self, error: BaseException) -> None:
        self._fail_unsent(error)
        super()._fail_all(error)

    def forget(self) -> None:
        super().forget()
        for member in self.members.values():
            member.forget()
        self.members.clear()

    # Actions

    def _act(self, action: actions.Action) -> None:
        worker = action.worker
        match action:
            case actions.Send(_, calls):
                self.members[worker].send_batch(calls, self._outbox.functions)
            case actions.TakeBack(_, count):
                self._take_back(worker, count)
            case actions.Start():
                self._start(worker)
            case actions.Interrupt(_, call):
                self.members[worker].interrupt(call.number)
            case actions.Kill():
                if worker in self.members:
                    self.members[worker].kill()
            case actions.End():
                self.members[worker].end()

    def _take_back(self, worker: Worker, asked: int) -> int:
        member = self.members[worker]
        taken = member.take_tokens(asked)
        for call in islice(reversed(worker.sent), taken):
            member.take_back(call)
        self.scheduler.took_back(worker, asked, taken)
        return taken

    def _start(self, worker: Worker) -> None:
        context, setup = self._launch.context, self._launch.setup
        workers = self.scheduler.sizes.maximum
        share = self.memory.share_for(worker, self.members, workers)
        setup = {**setup, "max_shared_memory": share}
        try:
            arena = self.memory.open_arguments()
        except OSError as error:  # no descriptor is left
            self._start_error = error
            self.loop.call_soon(lambda: self._died(worker, None))
            return
        job = run_in_thread(lambda: Launched(context, setup, arena), "start a worker")
        self._starts[worker] = job

        def started() -> None:
            told = self.loop.call_soon(lambda: self._started(worker, job))
            if not told and job.succeeded:
                job.result().close()

        job.then(started)

    def _started(self, worker: Worker, job: Job[Launched]) -> None:
        del self._starts[worker]
        try:
            launched = job.result()
        except Exception as error:  # noqa: BLE001 - e.g. an initializer can't be pickled
            self._start_error = error
            self._died(worker, None)
            return
        member = self.members[worker] = Member(
            launched,
            self.loop,
            self.memory.arena,
            lambda: self._handle(worker, member),
            lambda exitcode: self._died(worker, exitcode),
        )
        if self.closed and worker.state is not State.KILLED:
            del self.members[worker]
            member.abandon()
        elif worker.state is State.KILLED:
            member.kill()

    def _returned(self, call: Call) -> None:
        """Go on with a call that a thread has pickled, or could not."""
        if call.arguments is not None:
            self.scheduler.pending.push_back([call])
        self.pump()

    # What workers say

    def _handle(self, worker: Worker, member: Member) -> None:
        # First the worker gets more to do, then those go on who waited for it.
        replies = self._take_in(worker, member)
        self.pump()
        for call, kind, body in replies:
            if not call.done:
                self._take_reply(call, kind, body, member.views)
            elif body[0] == MARK:
                member.views.released.extend(starts_of(body))
        if self._watchers:
            self._notify()

    def _take_in(self, worker: Worker, member: Member) -> list[tuple[Call, int, bytes]]:
        """Note what a worker has said; return its answers."""
        messages, scheduler, now = member.messages, self.scheduler, monotonic()
        replies: list[tuple[Call, int, bytes]] = []
        while messages:
            kind, number, took, body = messages.popleft()
            if kind == _VALUE or (kind == _ERROR and number != NO_TASK):
                call = scheduler.replied(worker, number, now)
                if call is None:  # out of step: not to be trusted any more
                    scheduler.kill(worker)
                    break
                if member.garbage and not member.blamed:
                    self._blame_for_garbage(member, call)
                else:
                    call.away = True
                    replies.append((call, kind, body))
            elif kind == _DONE and body:
                scheduler.replace(worker, now)
            elif kind == Kind.RELEASED:
                member.let_go(decode_slots(body))
            elif kind == _READY:
                scheduler.ready(worker, now)
            elif kind == _ERROR:
                self._start_error = error_of(load_failure(body), "the initializer")
            elif kind == Kind.GARBAGE:
                member.garbage = member.garbage or body
                scheduler.kill(worker)
                end_line_for_resource_tracker()
            if took and worker.batches:
                scheduler.batch_done(worker, took * 1e-9, now)
        return replies

    def _take_reply(self, call: Call, kind: int, body: bytes, views: Views) -> None:
        load: Callable[[bytes], Any] = loads
        is_large = len(body) >= LARGE
        if call.size:
            call.weigh(size_of_parcel(body) if body[0] == MARK else len(body))
        if body[0] == MARK:
            load = partial(unpack, views=views)
            is_large = is_large or views.is_slow or is_slow_to_unpack(body)
        if is_large:
            self._take_large_reply(call, kind, body, views)
        else:
            self._deliver(call, kind, load, body)

    def _take_large_reply(
        self, call: Call, kind: int, body: bytes, views: Views
    ) -> None:
        def load() -> Any:
            if body[0] == MARK:
                return unpack(body, views, loads_large)
            return loads_large(body)

        def loaded() -> None:
            close_views(views)
            if not call.done:
                self._deliver(call, kind, lambda _: job.take(), body)
                self._notify()

        views.keep_open()
        job = run_in_thread(load, "loads")
        job.then(lambda: self.loop.call_soon(loaded) or close_views(views))

    def _deliver(
        self, call: Call, kind: int, load: Callable[[bytes], Any], body: bytes
    ) -> None:
        """Give a call the outcome that a worker has sent; in a callback of the loop."""
        try:
            value = load(body)
        except BaseException as error:  # noqa: BLE001 - whatever a class of the user's raises
            self._resolve_failed(call, cannot_load(call.name, error))
            return
        if kind == _ERROR:
            self._resolve_failed(call, error_of(value, call.name))
            return
        self.finished += 1
        del self.open[call]
        waiter, call.waiter = call.waiter, None
        call.resolve(value)
        del value  # here, since it goes on below
        if waiter is None:
            pass
        elif self._is_looking:
            waiter.wake()
        else:
            waiter.resume()

    # Ends

    def _blame_for_garbage(self, member: Member, call: Call) -> None:
        """Take the first answer behind garbage for the one of who wrote it."""
        member.blamed = True
        self.crashes += 1
        self._resolve_failed(call, self._crash_of(call, member))

    def _died(self, worker: Worker, exitcode: int | None) -> None:
        scheduler, now = self.scheduler, monotonic()
        member = self.members.pop(worker, None)
        was_starting = worker.state is State.STARTING
        unbegun = 0
        if member is not None:
            unbegun = member.take_tokens(len(worker.sent))
            if member.garbage:  # tokens are not to be trusted either
                unbegun = max(0, len(worker.sent) - (not member.blamed))
        crashed = scheduler.died(worker, unbegun, now)
        self.crashes += bool(crashed)
        if was_starting and exitcode is not None and self._start_error is None:
            ended = f"a worker {how_it_ended(exitcode)} while it was starting"
            self._start_error = WorkerStartError(ended)
        failures = [
            (call, self._crash_of(call, member))
            for call in crashed
            if not self._is_retried(call, now)
        ]
        if member is not None:
            member.close()
        self.memory.gone(worker, member)
        self.memory.share_anew(self.members, scheduler.sizes.maximum)
        if exitcode == GUARD_EXIT_CODE and was_starting:
            self._break(WorkerStartError(GUARD_MESSAGE))
        elif scheduler.gives_up:
            self._give_up()
        for call, error in failures:
            self._resolve_failed(call, error)
        self.pump()
        self._notify()

    def _is_retried(self, call: Call, now: float) -> bool:
        if call.tries >= call.options.retries or self.refusal is not None:
            return False
        self.scheduler.retry(call, now)
        return True

    def _crash_of(self, call: Call, member: Member | None) -> WorkerCrashed:
        assert member is not None  # or it could not have had the call
        pid, exitcode, log = member.pid, member.exitcode, member.crash_log
        text = f"the worker (pid {pid}) {how_it_ended(exitcode)} in task {call.name}"
        if member.garbage:
            start = member.garbage[:16]
            text = (
                f"task {call.name} has written {start!r} to the channel of its worker "
                f"(pid {pid}), which the pool had to kill"
            )
        else:
            text += f": {member.hint}" if member.hint else ""
            text += f"\n{log.rstrip()}" if log else ""
        return WorkerCrashed(text, call.name, pid, exitcode, log)

    def _give_up(self) -> None:
        cause = self._start_error
        error = WorkerStartError(
            f"{INTENSITY} workers in {PERIOD:g} s ended before "
            f"they were ready" + (f": {cause}" if cause else "")
        )
        error.__cause__ = cause
        self._break(error)

    def _break(self, error: BaseException) -> None:
        if self.broken is None:
            self.broken, self.refusal = error, str(error)
            self._end_of_work()
            self.scheduler.resized()
            self._fail_unsent(error)
            self._notify()

    def _fail_unsent(self, error: BaseException) -> None:
        """Give an outcome to all calls that no worker has."""
        calls = self.scheduler.forget_pending()
        for call in calls:
            call.away = True
        for call in calls:
            self._resolve_failed(call, error)

    # Time

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._timer_at = self.scheduler.alarm
        self._timer = self.loop.call_later(max(0.0, at - now), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self.closed and not self.members:
            return
        now = monotonic()
        for worker, member in list(self.members.items()):
            if worker.deadline <= now:  # its task may have ended in time
                member.read()
        for call in self.scheduler.tick(monotonic()):
            seconds = call.options.timeout
            late = TimeoutError(f"task {call.name} took longer than {seconds:g} s")
            self.stop(call, late)
        if not self.open:
            self._trim()
        self.pump()

    def _trim(self) -> None:
        """Give back the memory that was kept for large buffers."""
        self.memory.share_anew(self.members, self.scheduler.sizes.maximum)
        self.memory.trim(self.members.values())
        if self.shared_memory:  # a view may be gone by then
            idle = max(self.scheduler.sizes.idle, _TRIM_AGAIN)
            self.scheduler.tick_at(monotonic() + idle)

    @property
    def shared_memory(self) -> int:
        """Bytes of memory for large buffers, in use or kept for the next ones."""
        return self.memory.held(member.views for member in self.members.values())
