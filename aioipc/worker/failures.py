"""An exception on its way from a worker to the coordinator.

An exception that pickles need not load: most of those with an `__init__` of their own
are rebuilt by calling it with other arguments than it wants. So it is taken apart here:
its type, its `args` and its attributes arrive even if it can't be rebuilt by itself.
Where they can't be pickled either, there is still its text.
"""

import io
import pickle
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from aioipc.worker.interrupts import Interrupted

__all__ = ["Failure", "beyond_here", "describe", "text_of"]


class Failure(NamedTuple):  # not a dataclass: that takes a worker long to import
    """How a task failed.

    :ivar kind: the exception's qualified type
    :ivar text: the exception as a string
    :ivar trace: the worker's traceback, as it would be printed
    :ivar doing: what the worker was at: ``"run"``, ``"load"`` or ``"pickle"``
    :ivar pickled: of the exception, or None; see `rebuild`
    """

    kind: str
    text: str
    trace: str
    doing: str
    pickled: bytes | None

    def rebuild(self) -> BaseException | None:
        """Return the exception, or None if that is impossible here."""
        if self.pickled is None:
            return None
        try:
            error = pickle.loads(self.pickled)
        except Exception:  # noqa: BLE001 - whatever a class of the user's raises
            return None
        return error if isinstance(error, BaseException) else None


def describe(
    error: BaseException,
    doing: str,
    by_value: Callable[[object], bytes] | None = None,
) -> Failure:
    """Return what there is to be told of an exception, whatever its class is like.

    :param by_value: pickles what can't be found by its name on the other side
    """
    cls = type(error)
    return Failure(
        kind=f"{cls.__module__}.{cls.__qualname__}",
        text=text_of(error),
        trace="".join(_format(error)),
        doing=doing,
        pickled=_pickle(error, by_value),
    )


def text_of(error: BaseException) -> str:
    """Return what an exception says, whatever its class is like."""
    try:
        return str(error)
    except Interrupted:
        raise
    except BaseException:  # noqa: BLE001 - whatever a class of the user's raises
        return "<an exception that can't be printed>"


def _format(error: BaseException) -> list[str]:
    try:
        # Without the frames of the worker itself, which are no one's business.
        return traceback.format_exception(type(error), error, beyond_here(error))
    except Exception:  # noqa: BLE001
        return [f"{type(error).__qualname__}: {text_of(error)}\n"]


def beyond_here(error: BaseException) -> Any:
    """Return an exception's traceback from where code that is not the worker's runs."""
    trace = error.__traceback__
    while (
        trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__
    ):
        trace = trace.tb_next
    return trace


def _pickle(
    error: BaseException, by_value: Callable[[object], bytes] | None
) -> bytes | None:
    """Return a pickle that is known to load, or None."""
    ways: list[tuple[Callable[[object], bytes], object]]
    ways = [(_dumps, error), (_dumps, _Parts(error))]
    if by_value is not None:
        ways.append((by_value, _Parts(error)))
    for dumps, form in ways:
        try:
            pickled = dumps(form)
            copy = pickle.loads(pickled)
            # Not by `==`, which may be the user's own: an array has no truth.
            if type(copy) is type(error) and (
                form is not error or pickle.dumps(copy.args) == pickle.dumps(error.args)
            ):
                return pickled
        except Interrupted:
            raise
        except BaseException:  # noqa: BLE001, S112 - whatever a user's class raises
            continue
    return None


def _dumps(value: object) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream).dump(value)
    return stream.getvalue()


class _Pickler(pickle.Pickler):
    """Leaves tracebacks out, where something has taught pickle to take them.

    Dask does, by tblib. What is loaded from that is a cycle that has the frame which
    loads it, and so the arguments of the task, until the next collection.
    """

    def reducer_override(self, obj: Any) -> Any:
        return (type(None), ()) if type(obj) is TracebackType else NotImplemented


class _Parts:
    """An exception taken apart; it pickles as a call that puts it together."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        return _assemble, (type(error), error.args, dict(vars(error)))


def _assemble(
    cls: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    """Make an exception without calling its `__init__`."""
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(attributes)
    return error
