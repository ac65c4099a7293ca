"""Calls before they are sent: pickled, and their functions numbered.

A function that is pickled by its name is sent to each worker once, and called by a
number from then on. Large buffers go by way of an arena. What takes long to pickle or
to copy is left to a thread.
"""

import types
from collections.abc import Callable
from functools import partial
from typing import Any

from aioipc.memory.arena import Arena
from aioipc.memory.bulky import leaving_out
from aioipc.memory.parcels import Packer, Parcel
from aioipc.pool.outcomes import cannot_send
from aioipc.pool.sharing import import_all
from aioipc.pool.task import Call
from aioipc.transport.loops import Loop
from aioipc.transport.threads import run_in_thread
from aioipc.wire.parts import BULK
from aioipc.wire.pickles import (
    NewPickler,
    Pickler,
    TooLarge,
    dumps_large,
    dumps_small,
    new_pickler,
)
from aioipc.wire.tasks import INLINE

__all__ = ["FUNCTIONS", "Outbox"]

FUNCTIONS = {types.FunctionType, types.BuiltinFunctionType, type}
"""What is a function by its very type: hashable, and pickled by its name or not."""


class Outbox:
    """Pickles the calls of one pool.

    :ivar functions: pickles, by number
    :ivar is_busy: whether a call is being pickled, by whose classes another one is made
    :ivar unsendable: calls that can't be pickled, and the errors that say so
    :param arena: takes large buffers
    :param pickler: makes one for what the standard pickler can't, if that is wanted
    :param returned: called in the loop with a call that a thread has pickled, or not
    """

    def __init__(
        self,
        loop: Loop,
        arena: Arena,
        pickler: NewPickler | None,
        returned: Callable[[Call], None],
    ) -> None:
        self.functions = [b""]
        self.is_busy = False
        self.unsendable: list[tuple[Call, BaseException]] = []
        self._loop = loop
        self._arena = arena
        self._new = pickler or new_pickler
        self._returned = returned
        self._numbers: dict[Any, int] = {}
        self._packer = Packer(arena)
        new = leaving_out(self._packer.leave_out, self._new, BULK)
        self._dumps = (
            partial(dumps_small, new=new, most=BULK)
            if pickler
            else Pickler(new, BULK).dumps
        )

    def prepare(self, call: Call) -> bool:
        """Pickle a call that is to be sent; False if it can't be, now or at all."""
        if call.arguments is not None:
            return True
        if self.is_busy:  # a class has cancelled a call while it was being pickled
            self._prepare_in_thread(call)
            return False
        self.is_busy = True
        function, number = call.function, INLINE
        try:
            if type(function) in FUNCTIONS:
                known = self._numbers.get(function)
                number = self._learn(function) if known is None else known
            call.function_number = number
            pickled = self._dumps(call.to_pickle())
            if isinstance(pickled, list) and self._arena.limit and call.is_bulky:
                self._packer.drop()
                pickled = self._dumps(call.to_pickle_wrapped())
            if isinstance(pickled, list):
                pickled = b"".join(pickled)
            if self._packer.is_empty:
                call.arguments = pickled
            else:
                self._pack(call, pickled)
        except TooLarge:
            self._packer.drop()
            self._prepare_in_thread(call)
        except BaseException as error:  # noqa: BLE001 - whatever a class of the user's raises
            self._packer.drop()
            self._cannot_send(call, error)
        self.is_busy = False
        return call.arguments is not None

    def _pack(self, call: Call, pickled: bytes) -> None:
        """Write the buffers that the pickle has left out."""
        parcel = self._packer.parcel()
        arguments = parcel.table + pickled
        if parcel.size + self._arena.debt < BULK:
            parcel.write()
            call.parcel, call.arguments = parcel, arguments
            return

        def write() -> tuple[Parcel, bytes | bytearray]:
            parcel.write()
            return parcel, arguments

        self._leave_to_thread(call, write)

    def _learn(self, function: Callable[..., Any]) -> int:
        """Return a number for a function, if once is enough to send it."""
        if not _is_by_name(function):
            return INLINE
        self.functions.append(b"".join(dumps_large(function, self._new)))
        number = self._numbers[function] = len(self.functions) - 1
        return number

    def _prepare_in_thread(self, call: Call) -> None:
        # Where no buffer can be left out, an argument is one with what is in another.
        takes_buffers = self._arena.limit > 0
        what = call.to_pickle_wrapped() if takes_buffers else call.to_pickle()

        def dumps() -> tuple[Parcel, bytes | bytearray]:
            from aioipc.memory.copying import join  # noqa: PLC0415 - brings ctypes

            packer = Packer(self._arena)
            try:
                new = leaving_out(packer.leave_out, self._new)
                pieces = dumps_large(what, new)
            except BaseException:
                packer.drop()
                raise
            parcel = packer.parcel()
            parcel.write()
            table = parcel.table if parcel.starts else b""
            return parcel, join([table, *pieces])

        self._leave_to_thread(call, dumps)

    def _leave_to_thread(
        self, call: Call, function: Callable[[], tuple[Parcel, bytes | bytearray]]
    ) -> None:
        call.away = True
        # Not in the thread: the loop would wait for it, if it came to need them, too.
        import_all()
        job = run_in_thread(function, "dumps")

        def prepared() -> None:
            call.away = False
            if call.done:
                if job.succeeded:
                    job.result()[0].let_go()
                return
            try:
                call.parcel, call.arguments = job.result()
            except BaseException as error:  # noqa: BLE001
                self._cannot_send(call, error)
            self._returned(call)

        job.then(lambda: self._loop.call_soon(prepared))

    def _cannot_send(self, call: Call, error: BaseException) -> None:
        what = call.function, call.args, call.kwargs
        call.away = True
        self.unsendable.append((call, cannot_send(call.name, what, error)))


def _is_by_name(function: Any) -> bool:
    if isinstance(function, types.BuiltinFunctionType):
        return isinstance(function.__self__, types.ModuleType)
    return "<" not in function.__qualname__
