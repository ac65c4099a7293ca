"""`ThreadPool`: calls of functions in threads, awaited.

Threads take calls from the pool's lines by themselves, the most urgent first, and hand
back what came of them. Nobody holds a lock, since the loop would wait for it as long as
some other thread has the GIL. Each step is one that Python makes in one piece, with the
GIL or without:

- A line is a deque for each priority. Only the loop makes lines; they stand in a tuple
  that is replaced as a whole.
- For each entry of the lines there is a token in a queue, put there after the entry:
  who has taken one will find an entry.
- An entry is a list with a call and its work. Who pops that has it: the thread that
  begins the call, or the loop that withdraws it. So a call that has failed has begun
  or never will. What was withdrawn leaves an empty entry, and nothing else.
- A thread ends when it finds a permit to leave. It is woken by a token for that.
- News for the loop are in a deque, and in another one is what entitles to wake it: the
  loop puts that there before it looks for news, a thread takes it after it has put some
  there. Each deque orders the steps on it, so no news stay behind.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from aioipc.abc import Capabilities, PoolStatistics
from aioipc.bridge.handover import plain
from aioipc.memory.bulky import size_of
from aioipc.pool.front import GRACE, EnginePool
from aioipc.pool.limits import usable_cpus
from aioipc.pool.local import (
    Initializer,
    LocalEngine,
    Outcome,
    Work,
    items_of,
    make_call,
    work_of,
)
from aioipc.pool.options import OnCancel, Options, check_options
from aioipc.pool.task import Call
from aioipc.transport.loops import Loop
from aioipc.worker.chunks import ChunkResult

__all__ = ["ThreadPool"]

_CAPABILITIES = Capabilities(
    concurrent=True,
    can_abandon_running=True,
    can_time_out=True,
    has_priorities=True,
    at_most_once=True,
    can_resize=True,
    zero_copy=True,
)


class ThreadPool(EnginePool["ThreadEngine"]):
    """Threads of this process, which call functions for an event loop.

    For functions that release the GIL, as many of numpy's, of `hashlib`'s and `zlib`'s
    do, and for a Python that has none. Arguments and results are passed as they are,
    not as copies; an awaitable of aioipc's that is an argument by itself, or an item of
    a map, as the plain object.

    Each call runs in a copy of its thread's context (`contextvars`), as the initializer
    has left it: what a task sets there goes with it, and it sees nothing of its
    submitter's.

    A thread can't be stopped. So `on_cancel` is "abandon" or "shield", a task that is
    late runs on without a result, and its thread does nothing else meanwhile. What is
    at it when the pool has closed ends by itself, or with the program: it does not keep
    that from ending.

    :param max_workers: threads at most, started as tasks come; None for the CPUs that
        this process may use
    :param initializer: called in each thread before its first task, with `initargs`; if
        it raises, the pool stops with WorkerStartError
    :param grace: seconds that `aclose` waits for tasks and threads
    :param on_cancel: the default of `options`
    :param name: in `repr`, and of the threads
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        grace: float = GRACE,
        on_cancel: OnCancel = "abandon",
        name: str | None = None,
    ) -> None:
        options = Options(on_cancel=on_cancel)
        check_options(options, self.capabilities, type(self).__name__)
        self._maximum = _checked(usable_cpus() if max_workers is None else max_workers)
        self._initializer = (initializer, plain(initargs)) if initializer else None
        super().__init__(options, name=name, grace=grace)

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def resize(self, max_workers: int) -> None:
        self._maximum = _checked(max_workers)
        engine = self._engine
        if engine is not None and engine.refusal is None:
            engine.resize(max_workers)

    @property
    def _width(self) -> int:
        return self._maximum

    def _new_engine(self, loop: Loop) -> "ThreadEngine":
        name = self._name or "pool"
        return ThreadEngine(loop, self._maximum, name, self._initializer)


UNTIDY = 64
"""Entries of the lines below which it is not worth it to look for empty ones."""


class ThreadCall(Call):
    """A call that a thread makes.

    :ivar entry: with this and its work, until it begins or is withdrawn
    :ivar items: of a map, which are still to be dealt with
    :ivar withdrawn: whether it never begins
    """

    __slots__ = ("entry", "items", "withdrawn")

    def __init__(
        self,
        number: int,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> None:
        super().__init__(number, function, args, kwargs, options)
        self.withdrawn = False
        work = work_of(function, args, kwargs)
        self.items = items_of(work)
        self.entry: Entry = [(self, work)]

    def withdraw(self) -> bool:
        if not self.withdrawn:
            self.withdrawn = _popped(self.entry) is not None
        return self.withdrawn

    @property
    def has_begun(self) -> bool:
        return not self.entry and not self.withdrawn


Entry = list[tuple[ThreadCall, Work]]
"""One call and its work, or nothing any more."""

Line = deque[Entry]


def _popped(entry: Entry) -> tuple[ThreadCall, Work] | None:
    """Take what is in an entry, if it is still there; from any thread."""
    try:
        return entry.pop()
    except IndexError:
        return None


class ThreadEngine(LocalEngine):
    """The threads of one pool on one event loop."""

    def __init__(
        self, loop: Loop, maximum: int, name: str, initializer: Initializer | None
    ) -> None:
        super().__init__(loop, initializer)
        self._name = name
        self._maximum = maximum
        self._threads = 0  # whose end the loop has not heard of
        self._started = 0
        self._load = 0  # calls not withdrawn, of which no thread has told the end
        self._untidy = UNTIDY
        self._lines: tuple[tuple[int, Line], ...] = ()  # by priority, urgent ones first
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # False: only to be woken
        self._permits: deque[None] = deque()  # to leave
        self._at_work: dict[int, None] = {}  # threads, by their number
        self._news: deque[Callable[[], None]] = deque()  # for the loop
        self._rouse: deque[None] = deque([None])  # who has it tells the loop to look

    @property
    def width(self) -> int:
        return self._maximum

    # In the loop

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> Call:
        call = ThreadCall(self._new_number(), function, args, kwargs, options)
        self.open[call] = None
        self._line(options.priority).append(call.entry)
        self._load += 1
        self._tokens.put(True)
        self._grow()
        return call

    def stop(self, call: Call, error: BaseException) -> None:
        if not call.done:
            self._fail(call, error)

    def _fail(self, call: Call, error: BaseException) -> None:
        assert isinstance(call, ThreadCall)  # there are no others
        call.items.clear()  # nobody wants the rest
        if call.withdraw():
            self._load -= 1
            self._tidy()
        super()._fail(call, error)

    def resize(self, maximum: int) -> None:
        """Have so many threads at most."""
        self._maximum = maximum
        self._shrink(self._threads - len(self._permits) - maximum)
        self._grow()

    def statistics(self) -> PoolStatistics:
        busy, running = len(self._at_work), sum(call.has_begun for call in self.open)
        return PoolStatistics(
            workers=self._threads,
            idle=max(0, self._threads - busy),
            busy=busy,
            tasks_pending=len(self.open) - running,
            tasks_running=running,
            tasks_finished=self.finished,
            tasks_failed=self.failed,
        )

    def has_no_workers(self) -> bool:
        """Whether all threads have ended, or are left to themselves."""
        return self.closed or not self._threads

    def end_all(self) -> None:
        self._maximum = 0
        self._shrink(self._threads - len(self._permits))

    def forget(self) -> None:
        super().forget()
        self._threads = 0

    def _line(self, priority: int) -> Line:
        for known, line in self._lines:
            if known == priority:
                return line
        line = Line()
        # Only the loop appends to lines: those that are empty stay so.
        lines = [each for each in self._lines if each[1]] + [(priority, line)]
        self._lines = tuple(sorted(lines, key=lambda each: -each[0]))
        return line

    def _tidy(self) -> None:
        """Take empty entries out of the lines, when most of them are."""
        count = sum(len(line) for _, line in self._lines)
        if count < max(2 * self._load, self._untidy):
            return
        tokens = self._take_tokens()
        if sum(len(line) for _, line in self._lines) == sum(tokens):
            # No thread is on its way to an entry, and none can be: all is ours.
            for _, line in self._lines:
                full = [entry for entry in line if entry]
                line.clear()
                line.extend(full)
            left = sum(len(line) for _, line in self._lines)
            self._untidy = UNTIDY
            tokens = [True] * left + [False] * tokens.count(False)
        else:
            self._untidy = 2 * count  # and then again
        for token in tokens:
            self._tokens.put(token)

    def _take_tokens(self) -> list[bool]:
        tokens: list[bool] = []
        with suppress(Empty):
            while True:
                tokens.append(self._tokens.get_nowait())
        return tokens

    def _grow(self) -> None:
        """Start the threads that are missing."""
        staying = self._threads - len(self._permits)
        while staying < min(self._load, self._maximum):
            # A permit that is taken back is a thread that has not left yet.
            if not self._may_leave() and not self._start():
                return
            staying += 1

    def _start(self) -> bool:
        number = self._started = self._started + 1
        name = f"aioipc {self._name} {number}"
        thread = _Thread(target=partial(self._serve, number), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # there can't be another thread
            if not self._threads:
                self._break("no thread can be started", error)
            return False
        self._threads += 1
        return True

    def _shrink(self, count: int) -> None:
        """Have some threads leave, after their task."""
        for _ in range(count):
            self._permits.append(None)
            self._tokens.put(False)

    def _hear(self) -> None:
        """Take in what threads have told."""
        if not self._rouse:
            self._rouse.append(None)
        try:
            for _ in range(len(self._news)):  # and no more: others want the loop, too
                self._news.popleft()()
        finally:
            if self._news:
                self._tell()

    def _is_through(self, call: ThreadCall, outcome: Outcome) -> None:
        self._load -= 1
        self._take(call, outcome)

    def _has_left(self, error: BaseException | None) -> None:
        self._threads -= 1
        if error is not None:
            self._break("the initializer of a thread raised", error)
        elif not self.closed:
            self._grow()
        self._notify()

    def _watch(self, call: ThreadCall, began: float) -> None:
        """See to it that a call is late when it is."""
        seconds = call.options.timeout
        if seconds is None or call.done:
            return
        late = TimeoutError(f"task {call.name} took longer than {seconds:g} s")
        left = began + seconds - monotonic()

        def is_late() -> None:
            self._hear()  # it may have ended in time, while the loop was busy
            self.stop(call, late)

        timer = self.loop.call_later(max(0.0, left), is_late)
        call.then(timer.cancel)

    # In a thread

    def _serve(self, number: int) -> None:
        """Make calls until there is a permit to leave."""
        error = self._initialize()
        if error is None:
            while self._serve_one(number):
                pass
        self._tell(partial(self._has_left, error))

    def _initialize(self) -> BaseException | None:
        """Call the initializer; return what it raised."""
        if self._initializer is not None:
            function, args = self._initializer
            try:
                function(*args)
            except BaseException as error:  # noqa: BLE001 - whatever it raises
                return error
        return None

    def _serve_one(self, number: int) -> bool:
        """Make the next call; False if it is time to leave."""
        token = self._tokens.get()
        if self._may_leave():
            if token:
                self._tokens.put(token)
            return False
        if token:
            self._at_work[number] = None
            try:
                news = self._make_next()
            finally:
                del self._at_work[number]
            if news is not None:
                self._tell(news)
            del news
        return True

    def _make_next(self) -> Callable[[], None] | None:
        """Make the next call; return what to tell the loop, if it was not withdrawn."""
        taken = _popped(self._next())
        if taken is None:
            return None
        call, work = taken
        del taken
        try:
            outcome = self._make(call, work)
        except BaseException as error:  # noqa: BLE001 - it costs this call only
            outcome = Outcome(error=error)
        try:
            return partial(self._is_through, call, outcome)
        finally:
            del call, work, outcome  # a traceback has this frame, too

    def _may_leave(self) -> bool:
        """Take a permit to leave, if there is one; from any thread."""
        try:
            self._permits.pop()
        except IndexError:
            return False
        return True

    def _next(self) -> Entry:
        """Take the most urgent entry; for who has a token, and so there is one."""
        while True:
            for _, line in self._lines:
                try:
                    return line.popleft()
                except IndexError:
                    continue

    def _make(self, call: ThreadCall, work: Work) -> Outcome:
        if call.options.timeout is not None:
            self._tell(partial(self._watch, call, monotonic()))
        outcome = copy_context().run(make_call, *work)
        value = outcome.value
        if type(value) is ChunkResult:
            sizes = map(size_of, (*call.items, *value.values))
            outcome.weight = sum(sizes)
        try:
            return outcome
        finally:
            del call, work, outcome, value

    def _tell(self, news: Callable[[], None] | None = None) -> None:
        """Have the loop hear of something; from any thread."""
        if news is not None:
            self._news.append(news)
        with suppress(IndexError):  # someone has it, and has told the loop
            self._rouse.pop()
            self.loop.call_soon(self._hear)


class _Thread(threading.Thread):
    """A thread whose `start` does not wait until it has had the GIL.

    That takes 5 ms for each thread that runs Python code, and the loop stands still.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        # It is what `start` waits for in 3.11 to 3.14; elsewhere no one asks for it.
        self._started = _Unawaited()


class _Unawaited(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return True


def _checked(max_workers: int) -> int:
    if max_workers < 1:
        raise ValueError("max_workers must be at least 1")
    return max_workers
