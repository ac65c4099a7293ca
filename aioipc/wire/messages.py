"""Messages between two ends that are both ours: a header and a body of that length.

The header begins with a cookie that only the two know: a task may write to any
descriptor that it finds, and what it writes there must not be taken for a message, nor
for the length of one.
"""

import io
import os
import struct
from collections import deque

__all__ = [
    "COOKIE_SIZE",
    "GARBAGE",
    "HEADER_FORMAT",
    "HEADER_SIZE",
    "Message",
    "MessageDecoder",
    "encode_header",
]

COOKIE_SIZE = 8
"""Bytes of the secret that each message begins with."""

_CHUNK = 1 << 16  # bytes of one read, where a message may begin,
_BULK = 1 << 20  # ... and within one
MAX_BODY = 1 << 36
"""Bytes: the longest body that is believed, 64 GiB."""

GARBAGE = 0
"""The kind of what arrived and is no message."""

HEADER_FORMAT = f"!{COOKIE_SIZE}sBQQQ"  # cookie, kind, number, tag, size
_HEADER = struct.Struct(HEADER_FORMAT)
HEADER_SIZE = _HEADER.size

Message = tuple[int, int, int, bytes]
"""Kind, number, tag and body of a message."""


def encode_header(
    cookie: bytes, kind: int, number: int, size: int, tag: int = 0
) -> bytes:
    """Return what precedes a body of `size` bytes."""
    return _HEADER.pack(cookie, kind, number, tag, size)


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
        "_tag",
        "messages",
        "room",
    )

    def __init__(self, cookie: bytes) -> None:
        self.messages: deque[Message] = deque()
        self._cookie = cookie
        self._rest = b""  # of a header
        self._kind = self._number = self._tag = 0
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
            message = self._kind, self._number, self._tag, body.getvalue()
            self.messages.append(message)

    def read(self, fd: int) -> int:
        """Take in what a descriptor has now; return how many bytes, 0 at its end.

        :raises OSError: as `os.read` does
        """
        if self.room:
            count = os.readv(fd, [self.room[:_BULK]])
            if count:
                self.filled(count)
            return count
        data = os.read(fd, _CHUNK)
        self.feed(data)
        return len(data)

    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived, of any length."""
        if self._body is not None:
            data = self._feed_body(data)
        elif self._rest:
            data, self._rest = self._rest + data, b""
        messages, mine, unpack = self.messages, self._cookie, _HEADER.unpack_from
        offset, end = 0, len(data)
        while (start := offset + HEADER_SIZE) <= end:
            cookie, kind, number, tag, size = unpack(data, offset)
            if cookie != mine or size > MAX_BODY:
                offset = self._skip(data, offset)
                continue
            offset = start + size
            if offset > end:
                self._kind, self._number, self._tag = kind, number, tag
                self._begin(size, data[start:])
                return
            messages.append((kind, number, tag, data[start:offset]))
        self._rest = data[offset:]

    def _skip(self, data: bytes, offset: int) -> int:
        """Return where the next message may begin."""
        self.messages.append((GARBAGE, 0, 0, data[offset : offset + 64]))
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
