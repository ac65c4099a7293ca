"""Every error that aioipc raises of its own, each caught by either world's `except`.

::

    Exception
    ├── AuthenticationError    multiprocessing.AuthenticationError,
    │                          anyio.BrokenResourceError
    ├── EndOfStream            anyio.EndOfStream, EOFError
    │   └── QueueShutDown          aioipc.ShutDown, asyncio.QueueShutDown: since 3.13
    │       └── QueueClosed        anyio.ClosedResourceError: raised by a put
    ├── ClosedResourceError    anyio.ClosedResourceError, OSError, ValueError
    ├── BrokenResourceError    anyio.BrokenResourceError, BrokenPipeError,
    │   │                      ConnectionResetError
    │   └── FrameError             the bytes that arrived are no message
    ├── BusyResourceError      anyio.BusyResourceError, RuntimeError
    ├── BrokenBarrierError     threading.BrokenBarrierError,
    │                          asyncio.BrokenBarrierError
    ├── QueueEmpty             anyio.WouldBlock, queue.Empty, asyncio.QueueEmpty
    ├── QueueFull              anyio.WouldBlock, queue.Full, asyncio.QueueFull
    ├── DecodeError            pickle.UnpicklingError
    ├── EncodeError            pickle.PicklingError
    ├── UndeliveredError       RuntimeError: detach() would lose messages
    ├── EventLoopError         RuntimeError: used from two event loops at once
    ├── WorkerCrashed          anyio.BrokenWorkerProcess: a worker died with a task
    ├── WorkerStartError       anyio.BrokenWorkerProcess: no worker can be started
    ├── UnsupportedOperation   NotImplementedError: not among a pool's capabilities
    ├── TaskCancelled          concurrent.futures.CancelledError
    ├── TaskError              RuntimeError: what a task raised can't be raised here
    └── WorkerTraceback        Exception: the cause of what a task raised

What `multiprocessing` itself raises for a wrong argument (`TypeError`, `ValueError`,
`BufferTooShort`, a pickling error) passes through unchanged.
"""

import asyncio
import multiprocessing
import pickle
import queue
import signal
import sys
import threading
from concurrent.futures import CancelledError

import anyio

from aioipc.wire.shutdown import ShutDown

__all__ = [
    "AuthenticationError",
    "BrokenBarrierError",
    "BrokenResourceError",
    "BusyResourceError",
    "ClosedResourceError",
    "DecodeError",
    "EncodeError",
    "EndOfStream",
    "EventLoopError",
    "FrameError",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "TaskCancelled",
    "TaskError",
    "UndeliveredError",
    "UnsupportedOperation",
    "WorkerCrashed",
    "WorkerStartError",
    "WorkerTraceback",
]


class AuthenticationError(
    multiprocessing.AuthenticationError, anyio.BrokenResourceError
):
    """The peer of a new connection does not know the key, or speaks something else.

    Not a `ConnectionError`: to try again would not help.
    """


class EndOfStream(anyio.EndOfStream, EOFError):
    """The peer closed its end, and everything that it sent has been received."""


class ClosedResourceError(anyio.ClosedResourceError, OSError, ValueError):
    """The object was closed on this side.

    A `ValueError` too, because that is what a closed `multiprocessing.Queue` raises.
    """


class BrokenResourceError(
    anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError
):
    """The peer is gone, or the stream can no longer be trusted."""


class FrameError(BrokenResourceError):
    """The bytes that arrived are no message: cut short, too long, or garbage.

    Messages that arrived whole before it are received first. The stream is out of
    step from there on, so every later receive raises this again.
    """


class BusyResourceError(anyio.BusyResourceError, RuntimeError):
    """What tasks hold here, or wait for, can't be handed over or given back."""

    def __init__(self, message: str) -> None:
        # anyio's would make a sentence of it
        RuntimeError.__init__(self, message)


class BrokenBarrierError(threading.BrokenBarrierError, asyncio.BrokenBarrierError):
    """The barrier was broken or reset before, or while the task waited."""


class QueueEmpty(anyio.WouldBlock, queue.Empty, asyncio.QueueEmpty):
    """No item arrived at once, or within the timeout."""


class QueueFull(anyio.WouldBlock, queue.Full, asyncio.QueueFull):
    """No slot was free at once, or within the timeout."""


if sys.version_info >= (3, 13):

    class QueueShutDown(EndOfStream, ShutDown, asyncio.QueueShutDown):
        """The queue is shut down; raised by `get` only when it is empty, too."""

else:

    class QueueShutDown(EndOfStream, ShutDown):
        """The queue is shut down; raised by `get` only when it is empty, too."""


class QueueClosed(QueueShutDown, anyio.ClosedResourceError):
    """The queue is shut down; raised by `put` and `send`.

    That of anyio's two words which a sender expects, though it may have been another
    who has shut it down.
    """


class DecodeError(pickle.UnpicklingError):
    """A message arrived whole but can't be unpickled; its cause says why.

    The message has been consumed, and the next one can be received.
    """


class EncodeError(pickle.PicklingError):
    """An argument or a result can't be pickled; the message names the part of it."""


class UndeliveredError(RuntimeError):
    """`detach()` would lose messages that this object has already taken in."""


class EventLoopError(RuntimeError):
    """An object that serves one event loop was used from another at the same time."""


class WorkerCrashed(anyio.BrokenWorkerProcess):
    """A worker process ended in the middle of a task, whatever its exit code.

    :ivar task: the name of the task
    :ivar pid: of the worker
    :ivar exitcode: -N if signal N killed it; None if it is not known
    :ivar log: what faulthandler wrote before the end: the stacks of its threads
    """

    def __init__(
        self,
        message: str,
        task: str = "",
        pid: int | None = None,
        exitcode: int | None = None,
        log: str = "",
    ) -> None:
        super().__init__(message)
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.log = log


class WorkerStartError(anyio.BrokenWorkerProcess):
    """Workers can't be started, so the pool has stopped; its cause says why, if known.

    An initializer raised, or the processes end before they are ready.
    """


class UnsupportedOperation(NotImplementedError):
    """A pool was asked for what it can't do, and has done nothing.

    :ivar capability: the field of its `capabilities` that says so
    """

    def __init__(self, message: str, capability: str = "") -> None:
        super().__init__(message)
        self.capability = capability


class TaskCancelled(CancelledError):
    """A task of a pool was cancelled by its handle, or because the pool was closed."""


class TaskError(RuntimeError):
    """A task raised what can't be raised here.

    That is what would steer the coordinator instead of telling of a failure:
    KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, CancelledError and
    other BaseExceptions; and what can't be pickled. The cause is the worker's
    traceback.

    :ivar kind: the qualified name of the exception's type
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class WorkerTraceback(Exception):
    """The cause of an exception that a task raised: the traceback of the worker."""


def how_it_ended(exitcode: int | None) -> str:
    """Say what an exit code means."""
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"
