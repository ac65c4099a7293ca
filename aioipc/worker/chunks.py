"""Several items of a map in one task, each with an outcome of its own."""

import pickle
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import starmap
from time import perf_counter
from typing import Any, NamedTuple

from aioipc.memory.bulky import is_bulky, wrapper
from aioipc.worker.failures import Failure, describe
from aioipc.worker.interrupts import Interrupted

__all__ = ["ChunkResult", "Note", "call_each", "call_each_row", "each_of"]


Note = Callable[[BaseException, str], Any]
"""Makes of an error what is to be kept of it; see `describe`."""


class ChunkResult(NamedTuple):
    """How the items of a chunk went.

    :ivar seconds: that they took
    :ivar values: of the items, in order; up to the first that failed, or of all
    :ivar failures: by index in `values`, where they take the place of a value; the
        last may be behind them
    """

    seconds: float
    values: list[Any]
    failures: dict[int, Failure | BaseException]

    def wrapped(self) -> "ChunkResult":
        """Return the same, made so that large `bytes` are left out of the pickle."""
        return self._replace(values=list(map(wrapper(), self.values)))

    @property
    def is_bulky(self) -> bool:
        """Whether that makes a difference."""
        return any(map(is_bulky, self.values))

    def salvage(self, dumps: Callable[[Any], object] = pickle.dumps) -> "ChunkResult":
        """Return the same with failures for what can't be pickled."""
        values, failures = self.values[:], dict(self.failures)
        for n, value in enumerate(values):
            try:
                dumps(value)
            except Exception as error:  # noqa: BLE001 - whatever a user's class raises
                values[n] = None
                failures[n] = describe(error, "pickle")
        return self._replace(values=values, failures=failures)


def call_each(
    function: Callable[..., Any], *items: Any, go_on: bool, note: Note = describe
) -> ChunkResult:
    """Call a function with each item.

    They are arguments here, because large ones of those are not pickled.

    :param go_on: whether to call it with the items behind one that failed
    :param note: what is kept of an error
    """
    return each_of(partial(map, function), items, go_on=go_on, note=note)


def call_each_row(
    function: Callable[..., Any],
    *rows: Iterable[Any],
    go_on: bool,
    note: Note = describe,
) -> ChunkResult:
    """Do the same with items each of which is a row of arguments.

    Large ones in rows are not pickled either: see `aioipc.pool.task.Call`.
    """
    return each_of(partial(starmap, function), rows, go_on=go_on, note=note)


def each_of(
    calls: Callable[[Iterable[Any]], Iterable[Any]],
    items: Sequence[Any],
    *,
    go_on: bool,
    note: Note,
) -> ChunkResult:
    """Do the same by an iterator over calls.

    :param items: may be a list, and is cleared by who does not want the rest any more
    """
    began = perf_counter()
    values: list[Any] = []
    failures: dict[int, Failure | BaseException] = {}
    rest = iter(items)
    while len(values) < len(items):
        try:
            # What was appended before an error stays.
            values.extend(calls(rest))
            if len(values) < len(items):  # or it would be taken for the end
                raise StopIteration  # noqa: TRY301
        except Interrupted:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a function raises
            failures[len(values)] = note(error, "run")
            if not go_on:
                break
            values.append(None)
    try:
        return ChunkResult(perf_counter() - began, values, failures)
    finally:
        # The frames of a traceback know those that called them, this one as well.
        del calls, items, rest, values, failures
