"""Every error that aioipc raises of its own, each caught by either world's `except`.

::

    Exception
    ├── EndOfStream            anyio.EndOfStream, EOFError
    ├── ClosedResourceError    anyio.ClosedResourceError, OSError, ValueError
    ├── BrokenResourceError    anyio.BrokenResourceError, BrokenPipeError,
    │   │                      ConnectionResetError
    │   └── FrameError             the bytes that arrived are no message
    ├── BusyResourceError      anyio.BusyResourceError, RuntimeError
    ├── QueueEmpty             anyio.WouldBlock, queue.Empty, asyncio.QueueEmpty
    ├── QueueFull              anyio.WouldBlock, queue.Full, asyncio.QueueFull
    ├── DecodeError            pickle.UnpicklingError
    ├── UndeliveredError       RuntimeError: detach() would lose messages
    └── EventLoopError         RuntimeError: used from two event loops at once

What `multiprocessing` itself raises for a wrong argument (`TypeError`, `ValueError`,
`BufferTooShort`, a pickling error) passes through unchanged.
"""

import asyncio
import pickle
import queue

import anyio

__all__ = [
    "BrokenResourceError",
    "BusyResourceError",
    "ClosedResourceError",
    "DecodeError",
    "EndOfStream",
    "EventLoopError",
    "FrameError",
    "QueueEmpty",
    "QueueFull",
    "UndeliveredError",
]


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
    """A connection can't be handed to a worker while tasks wait for it here."""

    def __init__(self, message: str) -> None:
        # anyio's would make a sentence of it
        RuntimeError.__init__(self, message)


class QueueEmpty(anyio.WouldBlock, queue.Empty, asyncio.QueueEmpty):
    """No item arrived at once, or within the timeout."""


class QueueFull(anyio.WouldBlock, queue.Full, asyncio.QueueFull):
    """No slot was free at once, or within the timeout."""


class DecodeError(pickle.UnpicklingError):
    """A message arrived whole but can't be unpickled; its cause says why.

    The message has been consumed, and the next one can be received.
    """


class UndeliveredError(RuntimeError):
    """`detach()` would lose messages that this object has already taken in."""


class EventLoopError(RuntimeError):
    """An object that serves one event loop was used from another at the same time."""
