"""A fresh process for each measurement: no leftovers, and an end in any case.

The process is forked from one that has neither loop nor threads, which takes a
few milliseconds because everything is imported already. It leads a process group of
its own, so that the peers it starts can be killed with it when time is up.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

T = TypeVar("T")

fork = multiprocessing.get_context("fork")


class TrialError(Exception):
    """A measurement raised, died or took too long; the message says which."""


def call_in_fresh_process(function: Callable[[], T], *, within: float) -> T:
    """Return what ``function()`` returns in a process of its own.

    :param within: seconds after which the process and its peers are killed
    :raises TrialError: with the traceback, the exit code or the time limit
    """
    result, outcome = fork.Pipe(duplex=False)
    process = fork.Process(target=_report, args=(function, outcome))
    process.start()
    outcome.close()
    try:
        succeeded, value = _receive(result, within)
        if succeeded:
            process.join(within)
    finally:
        result.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        process.close()
    if not succeeded:
        raise TrialError(value)
    return value


def _report(function: Callable[[], object], outcome: Connection) -> None:
    os.setpgid(0, 0)
    gc.freeze()  # or every collection would look through all that is imported
    try:
        outcome.send((True, function()))
    except Exception:  # noqa: BLE001 - it is raised again on the other side
        outcome.send((False, traceback.format_exc()))


def _receive(result: Connection, within: float) -> tuple[bool, object]:
    if not result.poll(within):
        return False, f"no result within {within:g} s"
    try:
        return result.recv()
    except EOFError:
        return False, "the process died without a result"
