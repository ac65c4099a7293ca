"""What engines have in common whose tasks run in this process."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from types import MappingProxyType
from typing import Any

from aioipc.bridge.handover import Bridged
from aioipc.errors import WorkerStartError
from aioipc.pool.engine import Engine
from aioipc.pool.outcomes import error_of, kept
from aioipc.pool.task import Call
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import Loop
from aioipc.worker.chunks import ChunkResult, call_each, call_each_row, each_of
from aioipc.worker.ends import task_ended
from aioipc.worker.failures import text_of

__all__ = [
    "Initializer",
    "LocalEngine",
    "Outcome",
    "Work",
    "items_of",
    "make_call",
    "work_of",
]

Initializer = tuple[Callable[..., object], tuple[Any, ...]]

Work = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function and its arguments."""


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
    try:
        return outcome
    finally:
        # The frames of a traceback know those that called them, this one as well.
        del function, args, kwargs, outcome


def _beyond_one_frame(error: BaseException) -> BaseException:
    """Return an exception without the frame that caught it: it is no one's business."""
    trace = error.__traceback__
    return error.with_traceback(trace and trace.tb_next)


def work_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Work:
    """Return a call with awaitables as the plain objects that they stand for.

    They are found where they are an argument by themselves, also in a map. What is to
    be called for a chunk of a map has its items in a list: see `items_of`.
    """
    if function is call_each or function is call_each_row:
        way = map if function is call_each else starmap
        return _call_chunk, (way, args[0], [*args[1:]]), kwargs
    if _are_plain(kwargs.values()):
        return function, _plain_args(args), kwargs
    plain_kwargs = {name: _plain(value) for name, value in kwargs.items()}
    return function, _plain_args(args), plain_kwargs


def items_of(work: Work) -> list[Any]:
    """Return the items of a chunk, which has an end when this is cleared."""
    return work[1][2] if work[0] is _call_chunk else []


def _call_chunk(
    way: Callable[..., Iterable[Any]],
    function: Callable[..., Any],
    items: list[Any],
    **how: Any,
) -> ChunkResult:
    """Call a function with each item; where the call is made, as it may take long."""
    plain: Callable[[Any], Any] | None = None
    if way is map:
        plain = None if _are_plain(items) else _plain
    elif not all(type(row) in {tuple, list} and _are_plain(row) for row in items):
        plain = _plain_row

    def calls(rest: Iterable[Any]) -> Iterable[Any]:
        return way(function, rest if plain is None else map(plain, rest))

    return each_of(calls, items, **how)


def _plain(value: Any) -> Any:
    return value.sync if isinstance(value, Bridged) else value


def _plain_args(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return args if _are_plain(args) else tuple(map(_plain, args))


def _plain_row(row: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(map(_plain, row))


def _are_plain(values: Iterable[Any]) -> bool:
    return not any(issubclass(kind, Bridged) for kind in set(map(type, values)))


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
            error, outcome.error = outcome.error, None
            self._fail(call, error_of(error, call.name))
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
