"""What a pool and its worker say to each other; the same code on both sides.

::

    to the worker                               from the worker
    FUNCTION  number, pickle                    READY
    BATCH     task, function, (args, kwargs)    VALUE  task, pickle
              ... of each task                  ERROR  task, pickle of a Failure
    END                                         DONE   why the worker should be replaced
    RELEASED  slots of its arena                RELEASED  slots of the pool's arena
    LIMIT     bytes of its arena
    TRIM

Their form is that of `wire/messages.py`. The number is a task's or a function's, or a
limit. The tag is how many nanoseconds a batch took that the worker is done with, or 0.

The message with which the worker is done with a batch has the time in it that this
took: the last reply or, where there is none or more to say, a DONE.

The tasks of a batch are pickled one by one. What one of them does to its arguments is
not seen by another, and what can't be loaded fails one task only.
"""

import enum
import struct
from collections import deque
from collections.abc import Sequence

from aioipc.wire.messages import HEADER_FORMAT, HEADER_SIZE, encode_header

__all__ = [
    "INLINE",
    "NO_TASK",
    "Kind",
    "TaskCall",
    "decode_batch",
    "decode_slots",
    "encode_batch",
    "encode_call",
    "encode_released",
]

NO_TASK = 0xFFFF_FFFF_FFFF_FFFF
"""The task of a message that is about none."""

INLINE = 0
"""The number of a function that comes with the arguments: ``(args, kwargs, it)``."""

_COUNT_FORMAT = "I"
_CALL_FORMAT = "QIQ"  # task, function, size of its arguments

_COUNT = struct.Struct(f"!{_COUNT_FORMAT}")
_CALL = struct.Struct(f"!{_CALL_FORMAT}")
_LONE = struct.Struct(HEADER_FORMAT + _COUNT_FORMAT + _CALL_FORMAT)
_LONE_SIZE = _LONE.size - HEADER_SIZE

TaskCall = tuple[int, int, bytes | bytearray]
"""Number, function and pickled arguments of a task."""


class Kind(enum.IntEnum):
    """What a message is about."""

    GARBAGE = 0  # never sent: see `MessageDecoder`
    FUNCTION = 1
    BATCH = 2
    END = 3
    READY = 4
    VALUE = 5
    ERROR = 6
    DONE = 7
    RELEASED = 8
    TRIM = 9
    LIMIT = 10


_BATCH = Kind.BATCH.value
_SMALL = 1 << 16  # bytes that are rather copied than handled apart


def encode_batch(cookie: bytes, calls: Sequence[TaskCall]) -> list[bytes | bytearray]:
    """Return a BATCH in pieces: the header, a table, and the arguments."""
    pack = _CALL.pack
    table = [_COUNT.pack(len(calls))]
    table += [pack(task, function, len(args)) for task, function, args in calls]
    body = [b"".join(table), *(args for _, _, args in calls)]
    return [encode_header(cookie, _BATCH, NO_TASK, sum(map(len, body))), *body]


def encode_call(
    cookie: bytes, task: int, function: int, arguments: bytes | bytearray
) -> list[bytes | bytearray]:
    """Return a BATCH of one: the same in a third of the time, which is waited for."""
    size = len(arguments)
    start = _LONE.pack(
        cookie, _BATCH, NO_TASK, 0, _LONE_SIZE + size, 1, task, function, size
    )
    return [start + arguments] if size < _SMALL else [start, arguments]


def encode_released(cookie: bytes, released: deque[int]) -> bytes:
    """Return a RELEASED for the slots that start there, and empty the deque.

    Others may add to it meanwhile.
    """
    starts = [released.popleft() for _ in range(len(released))]
    body = struct.pack(f"!{len(starts)}Q", *starts)
    return encode_header(cookie, Kind.RELEASED, NO_TASK, len(body)) + body


def decode_slots(body: bytes) -> tuple[int, ...]:
    """Return where the slots of a RELEASED start."""
    return struct.unpack(f"!{len(body) // 8}Q", body)


def decode_batch(body: bytes) -> list[tuple[int, int, bytes]]:
    """Return the tasks of a BATCH."""
    (count,) = _COUNT.unpack_from(body)
    start = _COUNT.size
    if count == 1:
        task, function, _ = _CALL.unpack_from(body, start)
        return [(task, function, body[_LONE_SIZE:])]
    offset = start + count * _CALL.size
    calls: list[tuple[int, int, bytes]] = []
    for task, function, size in _CALL.iter_unpack(body[start:offset]):
        calls.append((task, function, body[offset : offset + size]))
        offset += size
    return calls
