"""`InlinePool`: a pool for debuggers and coverage, which has no workers at all."""

from collections.abc import Callable, Collection
from contextvars import Context, copy_context
from threading import current_thread, main_thread
from types import MappingProxyType
from typing import Any, Literal, get_args

from aioipc.abc import Capabilities, PoolStatistics
from aioipc.bridge.handover import plain
from aioipc.pool._pending import Pending
from aioipc.pool.front import GRACE, EnginePool
from aioipc.pool.local import Initializer, LocalEngine, Outcome, make_call, work_of
from aioipc.pool.options import Options, refuse
from aioipc.pool.outcomes import cannot_load, cannot_send, error_of, kept
from aioipc.pool.task import NO_KWARGS, Call
from aioipc.transport.loops import Loop
from aioipc.wire.pickles import dumps_large, loads
from aioipc.worker.chunks import ChunkResult
from aioipc.worker.ends import not_of_this_task
from aioipc.worker.failures import describe

__all__ = ["InlinePool"]

OptionName = Literal["timeout", "priority", "retries", "on_cancel"]


class InlinePool(EnginePool["InlineEngine"]):
    """Calls functions in the event loop's own thread, one after the other.

    For debuggers, profilers, coverage, and tests that are to be quick. A task keeps the
    loop until it has ended, which is what the other pools are there to avoid; so there
    is no timeout, and nothing to be cancelled once it has begun. A function that runs
    an event loop of its own can't do so here. Each runs in a copy of the context
    (`contextvars`) in which it was submitted.

    Ctrl-C ends the task that runs, which raises TaskError, and then the program;
    asyncio takes the first one for a cancel of its own, and the second ends the task.

    By default arguments and results are pickled, as for a worker: what a `WorkerPool`
    would refuse is refused here, and a task works on copies. Errors are raised
    themselves, with all that a debugger wants to know of them.

    :param initializer: called before the first task, with `initargs`; if it raises, the
        pool stops with WorkerStartError
    :param grace: seconds that `aclose` waits for tasks
    :param name: in `repr`
    :param pickles: whether arguments and results are pickled; without, they are passed
        as they are, lambdas as well
    :param ignores: options to leave out instead of refusing them, so that a program
        that has a ``"timeout"``, say, can be debugged without
    """

    def __init__(
        self,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        grace: float = GRACE,
        name: str | None = None,
        pickles: bool = True,
        ignores: Collection[OptionName] = (),
    ) -> None:
        unknown = sorted({*ignores}.difference(get_args(OptionName)))
        if unknown:
            raise ValueError(f"ignores has no options: {', '.join(unknown)}")
        super().__init__(Options(on_cancel="shield"), name=name, grace=grace)
        self._initializer = (initializer, plain(initargs)) if initializer else None
        self._pickles = pickles
        self._ignores = {*ignores}
        self._capabilities = Capabilities(
            has_priorities=True,
            at_most_once=True,
            pickles=pickles,
            bounds_bytes=pickles,
            zero_copy=not pickles,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def _but(self, options: Options, changes: dict[str, Any]) -> Options:
        heeded = {k: v for k, v in changes.items() if k not in self._ignores}
        return super()._but(options, heeded)

    def resize(self, max_workers: int) -> None:
        refuse(type(self).__name__, f"resize({max_workers})", "can_resize")

    @property
    def _width(self) -> int:
        return 1

    def _new_engine(self, loop: Loop) -> "InlineEngine":
        return InlineEngine(loop, self._initializer, pickles=self._pickles)


def _kept(error: BaseException, doing: str) -> BaseException:
    """Keep the error of an item of a map, but for Ctrl-C, which ends the chunk."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return kept(error, doing)


class InlineCall(Call):
    """A call that the loop makes."""

    __slots__ = ("begun", "context")

    begun: bool
    context: Context | None

    @property
    def has_begun(self) -> bool:
        return self.begun


class InlineEngine(LocalEngine):
    """Makes one call in each turn of the event loop."""

    chunk_options = MappingProxyType({"note": _kept})

    def __init__(
        self, loop: Loop, initializer: Initializer | None, *, pickles: bool
    ) -> None:
        super().__init__(loop, initializer)
        self._make = _call_with_copies if pickles else _call
        self._pending = Pending()
        self._is_due = False  # whether a turn will come
        self._open = loop.open_to_interrupts(_made)
        self._interrupted = False

    @property
    def width(self) -> int:
        return 1

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> Call:
        call = InlineCall(self._new_number(), function, args, kwargs, options)
        call.begun, call.context = False, copy_context()
        self.open[call] = None
        self._pending.push(call)
        self._go_on()
        return call

    def stop(self, call: Call, error: BaseException) -> None:
        if call.done:
            return
        call.done = True
        if not (call.has_begun or call.away):
            self._pending.forget()
        self._fail(call, error)

    def _go_on(self) -> None:
        """Make the next call, soon: first those go on who have waited."""
        if self._pending and not self._is_due:
            self._is_due = self.loop.call_soon(
                lambda: self.loop.call_soon(self._turn),
            )

    def _turn(self) -> None:
        self._is_due = False
        if not self._pending:
            return
        if not self._initialize():
            self._tell_of_interrupt()
            return
        call = self._pending.take()
        assert isinstance(call, InlineCall)  # there are no others
        call.begun = True
        context, call.context = call.context, None
        assert context is not None  # it begins once
        try:
            self._take(call, self._make_openly(context, call))
        finally:
            del call, context  # a traceback has this frame, too
            self._go_on()
            self._tell_of_interrupt()

    def _make_openly(self, context: Context, call: Call) -> Outcome:
        """Make a call that Ctrl-C may end, which it does not with the loop's own."""
        try:
            with not_of_this_task():
                # Not a partial function, which would keep the call.
                outcome = self._open(lambda: context.run(self._make, call))  # noqa: F821
        except KeyboardInterrupt as error:
            outcome = Outcome(error=error)
        self._note_interrupt(outcome.error)
        try:
            return outcome
        finally:
            del call, outcome  # a traceback has this frame, too

    def _note_interrupt(self, error: BaseException | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._interrupted = current_thread() is main_thread()

    def _tell_of_interrupt(self) -> None:
        """Have the program end by the KeyboardInterrupt that ended a task."""
        if self._interrupted:
            self._interrupted = False
            self.loop.interrupt()

    def _initialize(self) -> bool:
        """Call the initializer; False if it raised."""
        if self._initializer is not None:
            function, args = self._initializer
            self._initializer = None
            error = self._open(lambda: make_call(function, args, NO_KWARGS)).error
            self._note_interrupt(error)
            if error is not None:
                self._break("the initializer raised", error)
        return self.broken is None

    def _fail_all(self, error: BaseException) -> None:
        self.end_all()
        super()._fail_all(error)

    def has_no_workers(self) -> bool:
        return True

    def end_all(self) -> None:
        """Begin no more calls."""
        for call in self._pending.clear():
            call.away = True

    def statistics(self) -> PoolStatistics:
        pending, busy = len(self._pending), len(self.open) > len(self._pending)
        return PoolStatistics(
            workers=int(not self.closed),
            idle=int(not self.closed and not busy),
            busy=int(busy),
            tasks_pending=pending,
            tasks_running=len(self.open) - pending,
            tasks_finished=self.finished,
            tasks_failed=self.failed,
        )


def _made(make: Callable[[], Outcome]) -> Outcome:
    return make()


def _call(call: Call) -> Outcome:
    """Make a call with the arguments that there are."""
    try:
        return make_call(*work_of(call.function, call.args, call.kwargs))
    finally:
        del call  # a traceback has this frame, too


def _call_with_copies(call: Call) -> Outcome:
    """Make a call as a worker would, with copies of the arguments."""
    what = call.function, call.args, call.kwargs
    try:
        pickled = b"".join(dumps_large(what))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a class of the user's raises
        return Outcome(error=cannot_send(call.name, what, error))
    try:
        copies = loads(pickled)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        return Outcome(error=error_of(describe(error, "load"), call.name))
    outcome = make_call(*copies)
    try:
        return outcome if outcome.error else _copied(call, outcome.value, len(pickled))
    finally:
        del call, what, copies, outcome  # a traceback has this frame, too


def _copied(call: Call, value: Any, weight: int) -> Outcome:
    """Return a result as it comes from a worker; but errors in it stay themselves."""
    is_chunk = isinstance(value, ChunkResult)
    try:
        pickled = b"".join(dumps_large(value.values if is_chunk else value))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        if is_chunk:
            return _copied(call, value.salvage(), weight)
        return Outcome(error=error_of(describe(error, "pickle"), call.name))
    try:
        copy = loads(pickled)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        return Outcome(error=cannot_load(call.name, error))
    if is_chunk:
        copy = value._replace(values=copy)
    return Outcome(copy, weight=weight + len(pickled))
