"""The decoder, with no loop and no descriptor: bytes in, frames out."""

import ctypes
import io
import mmap
import os
import pickle
import struct
import sys
import tracemalloc
from itertools import cycle
from multiprocessing.connection import Connection

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aioipc.wire.frames import (
    MAX_FRAME_SIZE,
    SUSPICIOUS_SIZE,
    Ending,
    FrameDecoder,
    PickledBytes,
    encode_header,
    pack_length,
)
from aioipc.wire.parts import LARGE

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
LONGEST_SHORT = 2**31 - 1


class Wire(Connection):
    """The standard library's own framing, on a wire in memory."""

    _handle = None

    def __init__(self, arriving: bytes = b"") -> None:
        self.sent: list[bytes | memoryview] = []
        self._arriving = io.BytesIO(arriving)

    def write(self, body: bytes | memoryview) -> list[bytes | memoryview]:
        self._send_bytes(body)
        return self.sent

    def read(self) -> bytes:
        return self._recv_bytes().getvalue()

    def _send(self, buf, write=None) -> None:
        self.sent.append(buf)

    def _recv(self, size, read=None) -> io.BytesIO:
        return super()._recv(size, lambda _, count: self._arriving.read(count))


def frame(body: bytes) -> bytes:
    return encode_header(len(body)) + body


def long_frame(body: bytes) -> bytes:
    """A frame with the header of 2 GiB and more, which any length may have."""
    return struct.pack("!iQ", -1, len(body)) + body


def announce(size: int) -> bytes:
    return struct.pack("!iQ", -1, size)


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def address_of_bytes(data: bytes) -> int:
    return id(data) + bytes.__basicsize__ - 1


def deliver(decoder: FrameDecoder, data: bytes, sizes: list[int], by_room: list[bool]):
    """Hand bytes over in pieces, each by `feed`, or by `room` if there is any."""
    offset = 0
    for size, into_room in zip(cycle(sizes), cycle(by_room), strict=False):
        piece = data[offset : offset + size]
        if not piece:
            return
        if into_room and decoder.room:
            piece = piece[: len(decoder.room)]
            decoder.room[: len(piece)] = piece
            decoder.filled(len(piece))
        else:
            decoder.feed(piece)
        offset += len(piece)


# The header is exactly the standard library's


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\0\0\0\0"),
        (1, b"\0\0\0\1"),
        (LONGEST_SHORT, b"\x7f\xff\xff\xff"),
        (LONGEST_SHORT + 1, b"\xff\xff\xff\xff" + b"\0\0\0\0\x80\0\0\0"),
        (1 << 40, b"\xff\xff\xff\xff" + b"\0\0\1\0\0\0\0\0"),
    ],
)
def test_header(size, header) -> None:
    assert encode_header(size) == header
    if size <= LONGEST_SHORT:
        assert pack_length(size) == header


@pytest.mark.parametrize("size", [0, 1, 5, 16384, 16385, 70000])
def test_the_stdlib_writes_the_same_bytes_and_reads_them(size) -> None:
    body = os.urandom(size)
    assert b"".join(Wire().write(body)) == frame(body)
    assert Wire(frame(body)).read() == body
    decoder = FrameDecoder()
    decoder.feed(b"".join(Wire().write(body)))
    assert list(decoder.frames) == [body]


@pytest.mark.parametrize("size", [LONGEST_SHORT, LONGEST_SHORT + 1])
def test_the_stdlib_writes_the_same_header_around_2_gib(size) -> None:
    # Pages that no one touches take no memory.
    with (
        mmap.mmap(-1, LONGEST_SHORT + 1) as memory,
        memoryview(memory) as view,
        view[:size] as body,
    ):
        *header, sent = Wire().write(body)
        assert sent is body
        assert b"".join(header) == encode_header(size)


def test_the_stdlib_reads_a_long_header_with_a_small_length_and_so_do_we() -> None:
    data = long_frame(b"small") + long_frame(b"") + frame(b"next")
    wire = Wire(data)
    assert [wire.read(), wire.read(), wire.read()] == [b"small", b"", b"next"]
    decoder = FrameDecoder()
    decoder.feed(data)
    assert list(decoder.frames) == [b"small", b"", b"next"]
    assert not decoder.in_frame


# Whatever the splits


messages = st.lists(
    st.tuples(st.binary(max_size=60) | st.binary(min_size=250, max_size=300))
    .map(lambda one: one[0])
    .flatmap(
        lambda body: st.sampled_from(
            [(body, frame(body))] * 3 + [(body, long_frame(body))]
        )
    ),
    max_size=8,
)
pieces = st.lists(st.integers(1, 80), min_size=1, max_size=10)
routes = st.lists(st.booleans(), min_size=1, max_size=5)


@given(messages, pieces, routes)
@settings(max_examples=300)
@example([(b"", frame(b""))] * 3, [1], [True])
def test_any_split_by_feed_and_room_gives_the_same_messages(
    sent, sizes, by_room
) -> None:
    decoder = FrameDecoder()
    deliver(decoder, b"".join(wire for _, wire in sent), sizes, by_room)
    assert list(decoder.frames) == [body for body, _ in sent]
    assert all(type(body) is bytes for body in decoder.frames)
    assert (decoder.in_frame, decoder.ending, len(decoder.room)) == (False, None, 0)
    decoder.feed_eof()
    assert decoder.ending is Ending.CLEAN


@given(messages, pieces, routes, st.data())
@settings(max_examples=200)
def test_any_prefix_gives_the_messages_that_are_whole(
    sent, sizes, by_room, data
) -> None:
    wire = b"".join(wire for _, wire in sent)
    cut = data.draw(st.integers(0, len(wire)))
    whole, end = [], 0
    for body, encoded in sent:
        if end + len(encoded) > cut:
            break
        end += len(encoded)
        whole.append(body)
    decoder = FrameDecoder()
    deliver(decoder, wire[:cut], sizes, by_room)
    assert list(decoder.frames) == whole
    assert decoder.in_frame == (cut > end)


@given(messages.filter(bool), st.binary(max_size=20))
def test_missing_leads_to_the_end_of_one_frame_and_never_beyond(sent, more) -> None:
    (body, wire), decoder, offset = sent[0], FrameDecoder(), 0
    while not decoder.frames:
        assert 0 < decoder.missing <= len(wire) - offset
        offset += decoder.missing
        decoder.feed((wire + more)[offset - decoder.missing : offset])
    assert (offset, list(decoder.frames)) == (len(wire), [body])


def test_missing_counts_the_header_then_the_body() -> None:
    decoder = FrameDecoder()
    seen = []
    for byte in long_frame(b"ab"):
        seen.append(decoder.missing)
        decoder.feed(bytes([byte]))
    # The first 4 bytes say that 8 more are to come.
    assert seen == [4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, 2, 1]
    assert (decoder.missing, list(decoder.frames)) == (4, [b"ab"])


def test_frames_are_taken_while_more_arrive() -> None:
    decoder = FrameDecoder()
    decoder.feed(frame(b"1") + frame(b"2")[:3])
    assert decoder.frames.popleft() == b"1"
    decoder.feed(frame(b"2")[3:])
    assert decoder.frames.popleft() == b"2"
    assert not decoder.frames


# The end


WHOLE = b"whole"
CUT_SHORT = b"cut short"


def test_truncated_at_every_byte_of_a_short_and_of_a_long_header() -> None:
    for last, header in ((frame(CUT_SHORT), 4), (long_frame(CUT_SHORT), 12)):
        for count in range(1, len(last)):
            decoder = FrameDecoder()
            decoder.feed(frame(WHOLE) + last[:count])
            decoder.feed_eof()
            assert list(decoder.frames) == [WHOLE]
            assert decoder.ending is Ending.TRUNCATED
            expected = (
                f"({count} bytes of its header)"
                if count < header
                else f"({count - header} of its {len(CUT_SHORT)} bytes)"
            )
            assert decoder.reason == f"{Ending.TRUNCATED.value} {expected}"
            assert not decoder.in_frame
            assert not decoder.room


@pytest.mark.parametrize(
    ("reset", "ending"), [(False, Ending.CLEAN), (True, Ending.RESET)]
)
def test_the_end_between_frames(reset, ending) -> None:
    decoder = FrameDecoder()
    decoder.feed(frame(WHOLE))
    decoder.feed_eof(reset=reset)
    assert (decoder.ending, decoder.reason) == (ending, ending.value)
    assert list(decoder.frames) == [WHOLE]


def test_a_reset_in_the_middle_of_a_frame_says_how_far_it_came() -> None:
    decoder = FrameDecoder()
    decoder.feed(frame(CUT_SHORT)[:6])
    decoder.feed_eof(reset=True)
    assert decoder.ending is Ending.TRUNCATED
    assert "(2 of its 9 bytes)" in decoder.reason


def test_the_first_ending_stands_whatever_comes_after_it() -> None:
    decoder = FrameDecoder()
    decoder.feed_eof()
    decoder.feed_eof(reset=True)
    decoder.feed(frame(WHOLE))
    assert (decoder.ending, list(decoder.frames)) == (Ending.CLEAN, [])


# Lengths that are not believed


REFUSED = {
    "1 TiB": (announce(1 << 40), "a length of 1099511627776 bytes"),
    "one more than the limit": (
        announce(MAX_FRAME_SIZE + 1),
        f"more than max_message_size={MAX_FRAME_SIZE}",
    ),
    "the longest": (announce(2**64 - 1), "a length of 18446744073709551615 bytes"),
    "-2": (struct.pack("!i", -2), "a length of -2"),
    "the most negative": (struct.pack("!i", -(2**31)), "a length of -2147483648"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("step", [1, 100])
def test_refused_with_a_reason_and_what_came_before_is_kept(name, step) -> None:
    header, reason = REFUSED[name]
    decoder = FrameDecoder()
    deliver(decoder, frame(b"1") + frame(b"2") + header, [step], [True])
    assert decoder.ending is Ending.REFUSED
    assert decoder.reason.startswith(Ending.REFUSED.value)
    assert reason in decoder.reason
    assert list(decoder.frames) == [b"1", b"2"]
    assert not decoder.in_frame
    # The stream is out of step: nothing that follows is believed.
    decoder.feed(frame(b"3"))
    decoder.feed_eof()
    assert (decoder.ending, len(decoder.frames)) == (Ending.REFUSED, 2)


@pytest.mark.parametrize("encode", [frame, long_frame])
def test_max_size_is_the_longest_that_is_taken(encode) -> None:
    decoder = FrameDecoder(max_size=10)
    decoder.feed(encode(b"x" * 10))
    assert list(decoder.frames) == [b"x" * 10]
    decoder.feed(encode(b"x" * 11))
    assert decoder.ending is Ending.REFUSED
    assert "a length of 11 bytes, more than max_message_size=10" in decoder.reason


@pytest.mark.parametrize("size", [sys.maxsize, sys.maxsize - KB, 2**64 - 1])
def test_what_memory_can_never_hold_is_refused_not_raised(size) -> None:
    decoder = FrameDecoder(max_size=2**64)
    decoder.feed(frame(b"1") + announce(size))
    assert decoder.ending is Ending.REFUSED
    assert "which memory can't hold" in decoder.reason
    assert list(decoder.frames) == [b"1"]


# Memory


def test_a_gigabyte_announced_and_a_few_bytes_sent_takes_no_memory() -> None:
    me = psutil.Process()
    before = me.memory_info().rss
    decoder = FrameDecoder()
    decoder.feed(encode_header(GB) + b"\x80" * 100)
    assert decoder.missing == GB - 100
    assert me.memory_info().rss - before < 16 * MB


def test_a_body_read_into_room_becomes_the_frame_uncopied() -> None:
    size, part = 8 * MB, MB
    decoder = FrameDecoder()
    decoder.feed(encode_header(size))
    where = address(decoder.room)
    for n in range(size // part):
        assert address(decoder.room) == where + n * part
        decoder.room[:part] = bytes([n]) * part
        decoder.filled(part)
    (body,) = decoder.frames
    assert address_of_bytes(body) == where
    assert body == b"".join(bytes([n]) * part for n in range(size // part))


def test_feeding_a_large_body_copies_it_once() -> None:
    # Twice the body at any time, or once for each piece, would show up here.
    size, piece = 32 * MB, b"x" * (64 * KB)
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        decoder.feed(encode_header(size))
        for _ in range(size // len(piece)):
            decoder.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(body) for body in decoder.frames] == [size]
    assert size < peak < size + MB


def test_the_rest_of_a_large_body_and_the_next_frames_come_in_one_piece() -> None:
    large = os.urandom(200 * KB)
    data = frame(large) + frame(b"1") + long_frame(b"2") + b"\0\0"
    decoder = FrameDecoder()
    decoder.feed(data[: 100 * KB])
    assert decoder.missing == len(decoder.room) == 100 * KB + 4
    decoder.feed(data[100 * KB :])
    assert list(decoder.frames) == [large, b"1", b"2"]
    assert (decoder.in_frame, decoder.missing) == (True, 2)


# One large bytes, pickled


@given(
    st.sampled_from([4, 5]),
    st.lists(st.integers(1, LARGE), min_size=1, max_size=5),
    routes,
)
@settings(max_examples=50)
@example(4, [4, 11, LARGE], [True])  # as Connection writes it: the header by itself
@example(4, [1, 1, 1, 1, 1, LARGE], [True])
def test_a_large_pickled_bytes_is_the_same_whatever_the_splits(
    protocol, sizes, by_room
) -> None:
    value = os.urandom(LARGE)
    pickled = pickle.dumps(value, protocol)
    decoder = FrameDecoder()
    decoder.expects_pickle = True
    deliver(decoder, frame(pickled) + frame(b"next"), [*sizes, LARGE], by_room)
    first, second = decoder.frames
    assert (len(first), bytes(first), second) == (len(pickled), pickled, b"next")
    assert pickle.loads(bytes(first)) == value
    if isinstance(first, PickledBytes):
        assert first.value == value


def test_a_large_pickled_bytes_is_received_in_its_place() -> None:
    value = os.urandom(LARGE)
    decoder = FrameDecoder()
    decoder.expects_pickle = True
    wire = frame(pickle.dumps(value))
    decoder.feed(wire[:4])
    decoder.room[:100] = wire[4:104]
    decoder.filled(100)
    place = address(decoder.room) - (100 - 7)
    decoder.feed(wire[104:])
    (received,) = decoder.frames
    assert isinstance(received, PickledBytes)
    assert received.value == value
    assert address_of_bytes(received.value) == place


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x04B" + LARGE.to_bytes(4, "little") + bytes(LARGE) + b"\x94?",
        b"\x80\x04B" + LARGE.to_bytes(4, "little") + bytes(LARGE + 1) + b"\x94.",
        b"\x80\x04C" + LARGE.to_bytes(4, "little") + bytes(LARGE) + b"\x94.",
        pickle.dumps(bytearray(LARGE)),
        pickle.dumps([bytes(LARGE)]),
        pickle.dumps(bytes(LARGE - 10)),
    ],
    ids=["no end", "another length", "another opcode", "bytearray", "list", "smaller"],
)
def test_what_only_looks_like_a_large_pickled_bytes_is_a_plain_frame(body) -> None:
    decoder = FrameDecoder()
    decoder.expects_pickle = True
    decoder.feed(frame(body)[:50])
    decoder.feed(frame(body)[50:])
    assert list(decoder.frames) == [body]


def test_where_no_pickle_is_expected_a_frame_stays_as_it_is() -> None:
    pickled = pickle.dumps(bytes(LARGE))
    decoder = FrameDecoder()
    decoder.feed(frame(pickled)[:50])
    decoder.feed(frame(pickled)[50:])
    assert list(decoder.frames) == [pickled]


# Text mistaken for a length


def test_text_is_no_pickle_so_its_length_is_not_waited_for() -> None:
    decoder = FrameDecoder()
    decoder.feed(frame(b"1") + b"Hello, world")
    assert decoder.ending is None
    decoder.check_pickle()
    assert decoder.ending is Ending.REFUSED
    assert "1214606444 bytes announced, starting b'o'" in decoder.reason
    assert list(decoder.frames) == [b"1"]


BELIEVED = {
    "a pickle of any length": announce(GB) + pickle.dumps(None)[:1],
    "no byte of the body yet": announce(GB),
    "not longer than what text says": announce(SUSPICIOUS_SIZE) + b"x",
    "a header alone": b"He",
    "between frames": frame(b"x"),
}


@pytest.mark.parametrize("name", BELIEVED)
def test_check_pickle_believes(name) -> None:
    decoder = FrameDecoder()
    decoder.feed(BELIEVED[name])
    missing = decoder.missing
    decoder.check_pickle()
    assert (decoder.ending, decoder.missing) == (None, missing)


def test_check_pickle_after_the_end_changes_nothing() -> None:
    decoder = FrameDecoder()
    decoder.feed(announce(GB) + b"x")
    decoder.feed_eof()
    decoder.check_pickle()
    assert decoder.ending is Ending.TRUNCATED
