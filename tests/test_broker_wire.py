"""What a broker and a worker say to each other: there and back, and garbage."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.wire.broker import (
    GREETING_SIZE,
    SLOTS,
    Kind,
    Want,
    decode_count,
    decode_greeting,
    decode_items,
    decode_lot,
    encode_count,
    encode_greeting,
    encode_items,
    encode_lot,
)
from aioipc.wire.messages import COOKIE_SIZE, GARBAGE

quick = settings(max_examples=60)
numbers = st.integers(0, 2**64 - 1)
cookies = st.binary(min_size=COOKIE_SIZE, max_size=COOKIE_SIZE)
pickles = st.lists(st.binary(max_size=40), max_size=8)
wants = st.builds(Want, numbers, st.booleans(), st.booleans(), st.booleans())
counts = st.integers(0, 9) | numbers
bodies = st.binary(max_size=80) | st.builds(  # some have a head that makes sense
    lambda head, rest: struct.pack(f"!{len(head)}Q", *head) + rest,
    st.lists(counts, min_size=1, max_size=4),
    st.binary(max_size=60),
)


@quick
@given(cookies, numbers)
def test_a_greeting_comes_through(cookie, pid):
    greeting = encode_greeting(cookie, pid)
    assert len(greeting) == GREETING_SIZE
    assert decode_greeting(greeting) == (cookie, pid)


@pytest.mark.parametrize("greeting", [b"", b"x" * GREETING_SIZE])
def test_what_is_no_greeting_is_refused(greeting):
    with pytest.raises(ValueError, match="it s"):
        decode_greeting(greeting)


def test_a_greeting_of_another_version_or_length_is_refused():
    greeting = encode_greeting(b"c" * COOKIE_SIZE, 1)
    with pytest.raises(ValueError, match="another version"):
        decode_greeting(greeting[:7] + b"\x7f" + greeting[8:])
    for wrong in (greeting[:-1], greeting + b"\0"):
        with pytest.raises(ValueError, match="no greeting"):
            decode_greeting(wrong)


@quick
@given(wants)
def test_a_want_comes_through(want):
    assert Want.decode(want.encode()) == want


@quick
@given(pickles, st.binary(max_size=5))
def test_a_lot_comes_through_whatever_precedes_it(lot, before):
    body = before + b"".join(encode_lot(lot))
    assert decode_lot(body, len(before)) == lot


@quick
@given(numbers, pickles.filter(bool))
def test_items_come_through(number, lot):
    assert decode_items(b"".join(encode_items(number, lot))) == (number, lot)


@quick
@given(numbers)
def test_a_count_comes_through(count):
    assert decode_count(encode_count(count)) == count


@quick
@given(pickles.filter(any), st.data())
def test_a_lot_of_another_length_is_refused(lot, data):
    body = b"".join(encode_lot(lot))
    end = data.draw(st.integers(0, len(body) - 1), label="cut off here")
    for wrong in (body[:end], body + b"\0"):
        with pytest.raises((ValueError, struct.error)):
            decode_lot(wrong)


@settings(quick, max_examples=200)
@given(bodies)
def test_garbage_is_refused_if_it_is_known_as_such_with_no_other_error(body):
    decoders = (decode_lot, decode_items, decode_count, Want.decode, decode_greeting)
    for decode in decoders:
        try:
            decode(body)
        except (ValueError, struct.error):
            continue


@pytest.mark.parametrize("count", [2**20, 2**32, 2**61, 2**63, 2**64 - 1])
def test_a_huge_count_is_refused_before_anything_is_allocated(count):
    for decode, body in (
        (decode_lot, struct.pack("!QQ", count, 1)),
        (decode_items, struct.pack("!QQQ", 0, count, 1)),
    ):
        with pytest.raises((ValueError, struct.error)):
            decode(body)


def test_no_message_is_of_the_kind_of_garbage():
    assert Kind.GARBAGE == GARBAGE
    assert len({*Kind}) == len(Kind)
    assert all(kind < 256 for kind in Kind)
    assert SLOTS > 1
