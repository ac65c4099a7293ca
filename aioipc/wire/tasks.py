"""What a pool and its worker say to each other; the same code on both sides.

::

    to the worker                               from the worker
    FUNCTION  number, pickle                    READY
    BATCH     task, function, (args, kwargs)    VALUE  task, pickle
              ... of each task                  ERROR  task, pickle of a Failure
    END                                         DONE   why the worker should be replaced
    RELEASED  slots of its arena                RELEASED  slots of the pool's arena
    TRIM

A message is a header, its body's length in it, and the body. The header begins with a
cookie that only the two know: a task may write to any descriptor that it finds, and
what it writes there must not be taken for a message, nor for the length of one.

The message with which the worker is done with a batch has the time in it that this
took: the last reply or, where there is none or more to say, a DONE.

The tasks of a batch are pickled one by one. What one of them does to its arguments is
not seen by another, and what can't be loaded fails one task only.
"""

import enum
import io
import struct
from collections import deque
from collections.abc import Sequence

__all__ = [
    "COOKIE_SIZE",
    "INLINE",
    "NO_TASK",
    "Kind",
    "Message",
    "MessageDecoder",
    "TaskCall",
    "decode_batch",
    "decode_slots",
    "encode_batch",
    "encode_call",
    "encode_header",
    "encode_slots",
]

COOKIE_SIZE = 8
"""Bytes of the secret that each message begins with."""

MAX_BODY = 1 << 36
"""Bytes: the longest body that is believed, 64 GiB."""

NO_TASK = 0xFFFF_FFFF_FFFF_FFFF
"""The task of a message that is about none."""

INLINE = 0
"""The number of a function that comes with the arguments: ``(args, kwargs, it)``."""

_HEADER_FORMAT = f"!{COOKIE_SIZE}sBQQQ"  # cookie, kind, number, took, size
_COUNT_FORMAT = "I"
_CALL_FORMAT = "QIQ"  # task, function, size of its arguments

_HEADER = struct.Struct(_HEADER_FORMAT)
_COUNT = struct.Struct(f"!{_COUNT_FORMAT}")
_CALL = struct.Struct(f"!{_CALL_FORMAT}")
_LONE = struct.Struct(_HEADER_FORMAT + _COUNT_FORMAT + _CALL_FORMAT)
_HEADER_SIZE = _HEADER.size
_LONE_SIZE = _LONE.size - _HEADER_SIZE

Message = tuple[int, int, int, bytes]
"""Kind, number, time and body of a message.

The number is a task's or a function's. The time is how many nanoseconds a batch took
that the worker is done with, or 0.
"""

TaskCall = tuple[int, int, bytes]
"""Number, function and pickled arguments of a task."""


class Kind(enum.IntEnum):
    """What a message is about."""

    GARBAGE = 0  # never sent: what arrived there is no message
    FUNCTION = 1
    BATCH = 2
    END = 3
    READY = 4
    VALUE = 5
    ERROR = 6
    DONE = 7
    RELEASED = 8
    TRIM = 9


_BATCH = Kind.BATCH.value
_SMALL = 1 << 16  # bytes that are rather copied than handled apart


def encode_header(
    cookie: bytes, kind: int, number: int, size: int, took: int = 0
) -> bytes:
    """Return what precedes a body of `size` bytes."""
    return _HEADER.pack(cookie, kind, number, took, size)


def encode_batch(cookie: bytes, calls: Sequence[TaskCall]) -> list[bytes]:
    """Return a BATCH in pieces: the header, a table, and the arguments."""
    pack = _CALL.pack
    table = [_COUNT.pack(len(calls))]
    table += [pack(task, function, len(args)) for task, function, args in calls]
    body = [b"".join(table), *(args for _, _, args in calls)]
    return [encode_header(cookie, _BATCH, NO_TASK, sum(map(len, body))), *body]


def encode_call(
    cookie: bytes, task: int, function: int, arguments: bytes
) -> list[bytes]:
    """Return a BATCH of one: the same in a third of the time, which is waited for."""
    size = len(arguments)
    start = _LONE.pack(
        cookie, _BATCH, NO_TASK, 0, _LONE_SIZE + size, 1, task, function, size
    )
    return [start + arguments] if size < _SMALL else [start, arguments]


def encode_slots(starts: Sequence[int]) -> bytes:
    """Return the body of a RELEASED: where slots start."""
    return struct.pack(f"!{len(starts)}Q", *starts)


def decode_slots(body: bytes) -> tuple[int, ...]:
    """Return where the slots of a RELEASED start."""
    return struct.unpack(f"!{len(body) // 8}Q", body)


def decode_batch(body: bytes) -> list[TaskCall]:
    """Return the tasks of a BATCH."""
    (count,) = _COUNT.unpack_from(body)
    start = _COUNT.size
    if count == 1:
        task, function, _ = _CALL.unpack_from(body, start)
        return [(task, function, body[_LONE_SIZE:])]
    offset = start + count * _CALL.size
    calls: list[TaskCall] = []
    for task, function, size in _CALL.iter_unpack(body[start:offset]):
        calls.append((task, function, body[offset : offset + size]))
        offset += size
    return calls


class MessageDecoder:
    """Turns bytes into messages.

    `messages` are those that have arrived whole, oldest first: take them from the left.

    `room` is where the rest of an unfinished body belongs, and empty between bodies:
    read into it and call `filled`, and a large body is copied once, by the kernel.

    What is no message is skipped, up to the next cookie; the start of it is in the body
    of a GARBAGE in its place. The channel is not to be used any more then, but what was
    finished can still be told.
    """

    __slots__ = (
        "_body",
        "_cookie",
        "_kind",
        "_number",
        "_rest",
        "_took",
        "messages",
        "room",
    )

    def __init__(self, cookie: bytes) -> None:
        self.messages: deque[Message] = deque()
        self._cookie = cookie
        self._rest = b""  # of a header
        self._kind = self._number = self._took = 0
        self._body: io.BytesIO | None = None  # an unfinished body, at its full size,
        self.room = memoryview(b"")  # ... and what of it is still to come

    def filled(self, count: int) -> None:
        """Note that `count` bytes have been written at the start of `room`."""
        self.room = self.room[count:]
        if not self.room:
            body, self._body = self._body, None
            assert body is not None
            # A BytesIO that is the only owner of its bytes gives them back uncopied.
            self.room = memoryview(b"")
            message = self._kind, self._number, self._took, body.getvalue()
            self.messages.append(message)

    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived, of any length."""
        if self._body is not None:
            data = self._feed_body(data)
        elif self._rest:
            data, self._rest = self._rest + data, b""
        messages, mine, unpack = self.messages, self._cookie, _HEADER.unpack_from
        offset, end = 0, len(data)
        while (start := offset + _HEADER_SIZE) <= end:
            cookie, kind, number, took, size = unpack(data, offset)
            if cookie != mine or size > MAX_BODY:
                offset = self._skip(data, offset)
                continue
            offset = start + size
            if offset > end:
                self._kind, self._number, self._took = kind, number, took
                self._begin(size, data[start:])
                return
            messages.append((kind, number, took, data[start:offset]))
        self._rest = data[offset:]

    def _skip(self, data: bytes, offset: int) -> int:
        """Return where the next message may begin."""
        self.messages.append((Kind.GARBAGE, NO_TASK, 0, data[offset : offset + 64]))
        found = data.find(self._cookie, offset + 1)
        # The end may be the start of a cookie.
        return max(offset + 1, len(data) - COOKIE_SIZE + 1) if found < 0 else found

    def _begin(self, size: int, start: bytes) -> None:
        self._body = io.BytesIO(bytes(size))
        self.room = self._body.getbuffer()
        self._feed_body(start)

    def _feed_body(self, data: bytes) -> bytes:
        """Move the start of `data` to the body, return the rest."""
        count = min(len(data), len(self.room))
        if count:
            self.room[:count] = data[:count]
            self.filled(count)
        return data[count:]
