"""What engines have in common whose tasks run in this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from aioipc.bridge.handover import Bridged
from aioipc.errors import WorkerStartError
from aioipc.pool.engine import Engine
from aioipc.pool.outcomes import error_of, kept
from aioipc.pool.task import Call
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import Loop
from aioipc.worker.ends import task_ended
from aioipc.worker.failures import text_of

__all__ = ["Initializer", "LocalEngine", "Outcome", "make_call", "plain_args"]

Initializer = tuple[Callable[..., object], tuple[Any, ...]]


@dataclass(slots=True)
class Outcome:
    """How a call went.

    :ivar value: until it is taken: what brings it is not to keep a large result
    :ivar weight: bytes of its arguments and its result, as far as they are known
    """

    value: Any = None
    error: BaseException | None = None
    weight: int = 0


def make_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Outcome:
    """Make a call here and now, whatever it does."""
    outcome = Outcome()
    try:
        outcome.value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - also SystemExit and the like
        outcome.error = _beyond_one_frame(error)
    try:
        task_ended()
    except BaseException as error:  # noqa: BLE001 - it is this call's, and no one else's
        outcome.error = outcome.error or error
    return outcome


def _beyond_one_frame(error: BaseException) -> BaseException:
    """Return an exception without the frame that caught it: it is no one's business."""
    trace = error.__traceback__
    return error.with_traceback(trace and trace.tb_next)


def plain_args(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with awaitables as the plain objects that they stand for."""
    if not any(issubclass(kind, Bridged) for kind in set(map(type, args))):
        return args
    return tuple(arg.sync if isinstance(arg, Bridged) else arg for arg in args)


class LocalEngine(Engine):
    """Carries out calls in this process.

    :param initializer: called in each worker before its first task
    """

    chunk_options = MappingProxyType({"note": kept})

    def __init__(self, loop: Loop, initializer: Initializer | None) -> None:
        super().__init__(loop)
        self._initializer: Initializer | None = initializer
        forget_in_forks(self)

    def _new_number(self) -> int:
        """Return the number of a new call, if there may be one."""
        if self.refusal is not None:
            self.check()
        self._numbers += 1
        return self._numbers

    def _take(self, call: Call, outcome: Outcome) -> None:
        """Give a call its outcome; in a callback of the loop."""
        if call.done:  # its user does not want it any more
            return
        if outcome.error is not None:
            self._fail(call, error_of(outcome.error, call.name))
            return
        self.finished += 1
        del self.open[call]
        call.weight = outcome.weight
        waiter, call.waiter = call.waiter, None
        value, outcome.value = outcome.value, None
        call.resolve(value)
        del value  # here, since it goes on below
        if waiter is not None:
            waiter.resume()
        self._notify()

    def _break(self, what: str, error: BaseException) -> None:
        """Stop for good, because no task can be run."""
        if self.broken is None:
            said = f"{what}: {type(error).__name__}: {text_of(error)}"
            self.broken, self.refusal = WorkerStartError(said), said
            self.broken.__cause__ = error
            self.end_all()
            # Those that have begun go on, and have their results.
            for call in [call for call in self.open if call.withdraw()]:
                self._resolve_failed(call, self.broken)
            self._notify()

    def close(self, error: BaseException) -> None:
        self.refuse()
        self.closed = True
        self.end_all()
        self._fail_all(error)

    def abandon(self) -> None:
        self.refuse()
        self.closed = True
        self.end_all()
        if self.open:
            self._fail_abandoned()
