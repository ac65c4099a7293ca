"""Calls before they are sent: pickled, and their functions numbered.

A function that is pickled by its name is sent to each worker once, and called by a
number from then on. What takes long to pickle is left to a thread.
"""

import types
from collections.abc import Callable
from functools import partial
from typing import Any

from aioipc.pool.outcomes import cannot_send
from aioipc.pool.task import Call
from aioipc.transport.loops import Loop
from aioipc.transport.threads import run_in_thread
from aioipc.wire.pickles import (
    NewPickler,
    Pickler,
    TooLarge,
    dumps_large,
    dumps_small,
)
from aioipc.wire.tasks import INLINE

__all__ = ["FUNCTIONS", "Outbox"]

FUNCTIONS = {types.FunctionType, types.BuiltinFunctionType, type}
"""What is a function by its very type: hashable, and pickled by its name or not."""


class Outbox:
    """Pickles the calls of one pool.

    :ivar functions: pickles, by number
    :ivar unsendable: calls that can't be pickled, and the errors that say so
    :param pickler: makes one for what the standard pickler can't, if that is wanted
    :param returned: called in the loop with a call that a thread has pickled, or not
    """

    def __init__(
        self,
        loop: Loop,
        pickler: NewPickler | None,
        returned: Callable[[Call], None],
    ) -> None:
        self.functions = [b""]
        self.unsendable: list[tuple[Call, BaseException]] = []
        self._loop = loop
        self._returned = returned
        self._numbers: dict[Any, int] = {}
        self._dumps = partial(dumps_small, new=pickler) if pickler else Pickler().dumps
        self._dumps_large = (
            partial(dumps_large, new=pickler) if pickler else dumps_large
        )

    def prepare(self, call: Call) -> bool:
        """Pickle a call that is to be sent; False if it can't be, now or at all."""
        if call.arguments is not None:
            return True
        function, number = call.function, INLINE
        try:
            if type(function) in FUNCTIONS:
                known = self._numbers.get(function)
                number = self._learn(function) if known is None else known
            call.function_number = number
            pickled = self._dumps(call.to_pickle())
            call.arguments = b"".join(pickled) if isinstance(pickled, list) else pickled
        except TooLarge:
            self._prepare_in_thread(call)
        except BaseException as error:  # noqa: BLE001 - whatever a class of the user's raises
            self._cannot_send(call, error)
        return call.arguments is not None

    def _learn(self, function: Callable[..., Any]) -> int:
        """Return a number for a function, if once is enough to send it."""
        if not _is_by_name(function):
            return INLINE
        self.functions.append(b"".join(self._dumps_large(function)))
        number = self._numbers[function] = len(self.functions) - 1
        return number

    def _prepare_in_thread(self, call: Call) -> None:
        what = call.to_pickle()
        call.away = True
        job = run_in_thread(lambda: b"".join(self._dumps_large(what)), "dumps")

        def pickled() -> None:
            call.away = False
            if call.done:
                return
            try:
                call.arguments = job.result()
            except BaseException as error:  # noqa: BLE001
                self._cannot_send(call, error)
            self._returned(call)

        job.then(lambda: self._loop.call_soon(pickled))

    def _cannot_send(self, call: Call, error: BaseException) -> None:
        what = call.function, call.args, call.kwargs
        call.away = True
        self.unsendable.append((call, cannot_send(call.name, what, error)))


def _is_by_name(function: Any) -> bool:
    if isinstance(function, types.BuiltinFunctionType):
        return isinstance(function.__self__, types.ModuleType)
    return "<" not in function.__qualname__
