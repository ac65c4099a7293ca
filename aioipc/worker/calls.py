"""Making one call, and telling how it went; nothing that a task does gets past here."""

import os
import pickle
from collections.abc import Callable
from typing import Any

from aioipc.wire.tasks import INLINE, Kind
from aioipc.worker.chunks import ChunkResult
from aioipc.worker.ends import task_ended
from aioipc.worker.exchange import Exchange
from aioipc.worker.failures import describe
from aioipc.worker.interrupts import Interrupts

__all__ = ["Calls"]

Outcome = tuple[Kind, bytes]


class Calls:
    """Calls functions that the pool has sent."""

    def __init__(self, interrupts: Interrupts, exchange: Exchange) -> None:
        self._interrupts = interrupts
        self._exchange = exchange
        self._pickled: dict[int, bytes] = {}
        self._functions: dict[int, Callable[..., Any]] = {}
        self._pid = os.getpid()

    def learn(self, number: int, pickled: bytes) -> None:
        """Take in a function, to be loaded at its first call."""
        self._pickled[number] = pickled

    def make(self, task: int, number: int, arguments: bytes) -> Outcome:
        """Make a call; return the kind of the answer and its pickle."""
        try:
            if number == INLINE:
                args, kwargs, function = self._exchange.loads(arguments)
            else:  # the arguments first: buffers that no one has seen are not released
                args, kwargs = self._exchange.loads(arguments)
                function = self._functions.get(number) or self._load(number)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            return _failed(error, "load")
        interrupts = self._interrupts
        try:
            try:
                interrupts.begin(task)
                value = function(*args, **kwargs)
            finally:
                interrupts.end()
        except BaseException as error:  # noqa: BLE001 - also SystemExit and the like
            interrupts.end()  # if the interrupt came in the line above
            self._check_pid()
            task_ended()
            return _failed(error, "run")
        self._check_pid()
        task_ended()
        try:
            return Kind.VALUE, self._exchange.dumps(value)
        except BaseException as error:  # noqa: BLE001
            if isinstance(value, ChunkResult):
                return Kind.VALUE, self._exchange.dumps(value.salvage())
            return _failed(error, "pickle")

    def _load(self, number: int) -> Callable[..., Any]:
        function = pickle.loads(self._pickled[number])
        self._functions[number] = function
        return function

    def _check_pid(self) -> None:
        """End a process that a task has forked and let return: it is no worker."""
        if os.getpid() != self._pid:
            os._exit(0)


def _failed(error: BaseException, doing: str) -> Outcome:
    return Kind.ERROR, pickle.dumps(describe(error, doing))
