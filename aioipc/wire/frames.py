"""Frames, exactly as `multiprocessing.connection.Connection` sends them.

A frame is `!i` length and body; from 2 GiB it is `!i` -1, `!Q` length and body
(`Connection._send_bytes` in the standard library). The decoder is a state machine:
bytes in, frames out, whatever the splits. Nothing here reads, waits or raises about
what a peer sent: a stream that goes wrong ends, and says why.

Memory grows with the bytes that arrived, never with the length that a peer announced:
the body's buffer is zero pages from `calloc`, which the kernel fills in as they are
written to.

A large body that starts like the pickle of a single `bytes` is received without that
start, straight into the object (`PickledBytes`): it is never copied, nor unpickled.
"""

import enum
import io
import struct
from collections import deque

from aioipc.wire.parts import LARGE

__all__ = [
    "MAX_FRAME_SIZE",
    "Ending",
    "FrameDecoder",
    "PickledBytes",
    "encode_header",
    "pack_length",
]

_LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
_unpack_length = _LENGTH.unpack_from
_LONGEST_SHORT = 0x7FFFFFFF
_LONG_MARK = _LENGTH.pack(-1)

MAX_FRAME_SIZE = 1 << 36
"""Bytes: the longest frame that is believed by default, 64 GiB."""

SUSPICIOUS_SIZE = 1 << 24
"""Bytes: an unfinished frame of objects longer than this must look like a pickle.

Text mistaken for a length says 500 MB and more, and would be waited for in vain.
"""

_PICKLE_START = b"\x80"  # PROTO, the first byte of every pickle since protocol 2

# The pickle of a `bytes` of less than 4 GiB: PROTO 4 or 5, BINBYTES and its length;
# then the bytes; then MEMOIZE and STOP.
_BYTES_STARTS = (b"\x80\x04B", b"\x80\x05B")
_BYTES_START_SIZE = 7
_BYTES_END = b"\x94."


class PickledBytes:
    """A frame that is the pickle of one `bytes`, which is here already."""

    __slots__ = ("_start", "value")

    def __init__(self, start: bytes, value: bytes) -> None:
        self._start = start
        self.value = value

    def __len__(self) -> int:
        return len(self._start) + len(self.value) + len(_BYTES_END)

    def __bytes__(self) -> bytes:
        return b"".join((self._start, self.value, _BYTES_END))


pack_length = _LENGTH.pack
"""The header of a body that is shorter than 2 GiB."""


def encode_header(size: int) -> bytes:
    """Return what precedes a body of `size` bytes."""
    if size <= _LONGEST_SHORT:
        return _LENGTH.pack(size)
    return _LONG_MARK + _LONG_LENGTH.pack(size)


class Ending(enum.Enum):
    """Why no more frames will come."""

    CLEAN = "the peer closed the connection"
    TRUNCATED = "the peer closed the connection in the middle of a message"
    RESET = "the peer closed the connection without reading all that was sent to it"
    REFUSED = "the peer sent what is no message"


class FrameDecoder:
    """Turns bytes into frames.

    `frames` are those that have arrived whole, oldest first: take them from the left.
    Large ones may be `PickledBytes`, if `expects_pickle` was set when they began.
    `ending` is None while more may come; then `reason` is a sentence for people.

    `room` is where the rest of an unfinished body belongs, and empty between bodies:
    read into it and call `filled`, and a large frame is copied once, by the kernel.

    :param max_size: a longer frame is refused when its length arrives, in bytes.
    """

    __slots__ = (
        "_body",
        "_filled",
        "_header",
        "_start",
        "ending",
        "expects_pickle",
        "frames",
        "max_size",
        "reason",
        "room",
    )

    def __init__(self, max_size: int = MAX_FRAME_SIZE) -> None:
        self.frames: deque[bytes | PickledBytes] = deque()
        self.expects_pickle = False
        self.ending: Ending | None = None
        self.reason = ""
        self.max_size = max_size
        self._header = b""  # an unfinished header
        self._start = b""  # of a `PickledBytes`
        self._body: io.BytesIO | None = None  # an unfinished body, at its full size,
        self.room = memoryview(b"")  # ... what of it is still to come,
        self._filled = 0  # ... and how much has come

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun to arrive and is not yet whole."""
        return bool(self._header) or self._body is not None

    @property
    def missing(self) -> int:
        """Bytes that the current header or body still lacks: safe to read, no more."""
        if self._body is not None:
            return len(self.room)
        if len(self._header) < _LENGTH.size:
            return _LENGTH.size - len(self._header)
        return _LENGTH.size + _LONG_LENGTH.size - len(self._header)

    def filled(self, count: int) -> None:
        """Note that `count` bytes have been written at the start of `room`."""
        self._filled += count
        self.room = self.room[count:]
        if self._filled == count and self.expects_pickle:
            self._look_at_start()
        if not self.room:
            self._finish_body()

    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived, of any length."""
        if self._body is not None:
            data = self._feed_body(data)
        elif self._header:
            data, self._header = self._header + data, b""
        elif self.ending is not None:
            return
        frames, offset, end = self.frames, 0, len(data)
        while offset + 4 <= end:
            (size,) = _unpack_length(data, offset)
            start = offset + 4
            if size < 0 or size > self.max_size:
                header = self._read_long_header(size, data, offset)
                if header is None:
                    break
                size, start = header
            stop = start + size
            if stop > end:
                self._begin_body(size, data[start:])
                return
            frames.append(data[start:stop])
            offset = stop
        if offset < end and self.ending is None:
            self._header = data[offset:]

    def feed_eof(self, *, reset: bool = False) -> None:
        """Note that no more bytes will come."""
        if self.ending is None:
            if not self.in_frame:
                self._end(Ending.RESET if reset else Ending.CLEAN)
            elif self._body is None:
                self._end(Ending.TRUNCATED, f"{len(self._header)} bytes of its header")
            else:
                total = self._filled + len(self.room)
                self._end(Ending.TRUNCATED, f"{self._filled} of its {total} bytes")

    def check_pickle(self) -> None:
        """Refuse an unfinished body that is too long to be waited for and no pickle."""
        if self._body is None or not self._filled or self._start:
            return
        total = self._filled + len(self.room)
        start = bytes(self._body.getbuffer()[:1])
        if total > SUSPICIOUS_SIZE and start != _PICKLE_START:
            self._end(Ending.REFUSED, f"{total} bytes announced, starting {start!r}")

    def _read_long_header(
        self, size: int, data: bytes, offset: int
    ) -> tuple[int, int] | None:
        """Return the size of a frame and the start of its body, or refuse it."""
        start = offset + 4
        if size == -1:
            if len(data) < start + 8:
                return None
            (size,) = _LONG_LENGTH.unpack_from(data, start)
            start += 8
        if 0 <= size <= self.max_size:
            return size, start
        if size < 0:
            self._end(Ending.REFUSED, f"a length of {size}")
        else:
            limit = f"more than max_message_size={self.max_size}"
            self._end(Ending.REFUSED, f"a length of {size} bytes, {limit}")
        return None

    def _begin_body(self, size: int, data: bytes) -> None:
        try:
            # A BytesIO that is the only owner of its bytes lends them for writing and
            # then gives them back uncopied.
            self._body = io.BytesIO(bytes(size))
        except (MemoryError, OverflowError):
            self._end(Ending.REFUSED, f"{size} bytes, which memory can't hold")
            return
        self.room, self._filled = self._body.getbuffer(), 0
        self._feed_body(data)

    def _feed_body(self, data: bytes) -> bytes:
        """Move the start of `data` to the body, return the rest."""
        count = min(len(data), len(self.room))
        if count:
            self.room[:count] = data[:count]
            self.filled(count)
        return data[count:]

    def _look_at_start(self) -> None:
        """Move the start of a pickled `bytes` out of its way."""
        assert self._body is not None
        size, skipped = self._filled + len(self.room), _BYTES_START_SIZE
        if size < LARGE or self._filled < skipped:
            return
        view = self._body.getbuffer()
        start = bytes(view[:skipped])
        length = int.from_bytes(start[3:], "little")
        if start[:3] in _BYTES_STARTS and length == size - skipped - len(_BYTES_END):
            view[: self._filled - skipped] = view[skipped : self._filled]
            self.room = view[self._filled - skipped : size - skipped]
            self._start = start

    def _finish_body(self) -> None:
        body, self._body = self._body, None
        start, self._start = self._start, b""
        self.room = memoryview(b"")
        assert body is not None
        end = self._filled - len(start) - len(_BYTES_END)
        if start and bytes(body.getbuffer()[end : end + 2]) == _BYTES_END:
            body.truncate(end)  # in place
            self.frames.append(PickledBytes(start, body.getvalue()))
        elif start:
            self.frames.append(start + bytes(body.getbuffer()[: -len(start)]))
        else:
            self.frames.append(body.getvalue())

    def _end(self, ending: Ending, detail: str = "") -> None:
        self.ending = ending
        self.reason = f"{ending.value} ({detail})" if detail else ending.value
        self._header, self._start = b"", b""
        self._body, self.room = None, memoryview(b"")
