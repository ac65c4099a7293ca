"""A fresh process for each measurement: no leftovers, and an end in any case.

The process is forked from one that has neither loop nor threads, which takes a
few milliseconds because everything is imported already. It leads a process group of
its own, so that the peers it starts can be killed with it when time is up. They are
waited for here, even those whose parent was a fork server: else init would, and the CPU
time that they used would not count as ours. What they write to temporary files goes
with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

T = TypeVar("T")

SAID = "stderr"
"""The file that has the warnings of a measurement, which would hide its results."""

PR_SET_CHILD_SUBREAPER = 36

fork = multiprocessing.get_context("fork")


class TrialError(Exception):
    """A measurement raised, died or took too long; the message says which."""


def call_in_fresh_process(function: Callable[[], T], *, within: float) -> T:
    """Return what ``function()`` returns in a process of its own.

    :param within: seconds after which the process and its peers are killed
    :raises TrialError: with the traceback, the exit code or the time limit
    """
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        _adopting(),
    ):
        return _call(function, within, scratch)


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of all below whose own parent has ended."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _call(function: Callable[[], T], within: float, scratch: str) -> T:
    result, outcome = fork.Pipe(duplex=False)
    process = fork.Process(target=_report, args=(function, outcome, scratch))
    process.start()
    outcome.close()
    try:
        said = (Path(scratch) / SAID).read_text
        succeeded, value = _receive(result, within, said)
        if succeeded:
            process.join(within)
    finally:
        result.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        _reap(process.pid)
        process.close()
    if not succeeded:
        raise TrialError(value)
    return value


def _reap(group: int) -> None:
    """Wait for what was killed; a parent hands its children on before it can be."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)


def _report(function: Callable[[], object], outcome: Connection, scratch: str) -> None:
    os.setpgid(0, 0)
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    os.dup2(os.open(f"{scratch}/{SAID}", os.O_CREAT | os.O_WRONLY), 2)
    gc.freeze()  # or every collection would look through all that is imported
    try:
        outcome.send((True, function()))
    except Exception:  # noqa: BLE001 - it is raised again on the other side
        outcome.send((False, traceback.format_exc()))


def _receive(
    result: Connection, within: float, said: Callable[[], str]
) -> tuple[bool, object]:
    if not result.poll(within):
        return False, f"no result within {within:g} s"
    try:
        return result.recv()
    except EOFError:
        return False, f"the process died without a result\n{said()}"
