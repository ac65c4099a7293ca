"""What a broker and a worker say to each other; the same code on both sides.

The form is that of `wire/messages.py`. The number is a queue's or a lock's::

    to the broker                              from the broker
    CALL      request   name and arguments     RESULT    request   what it returned
    CANCEL    request                          ERROR     request   what it raised
    ABANDON   request
    PUT       side      an item                SHUT      -         puts are refused
    PUT_ALL   side      items
    PUT_WAIT  request   side and items
    WANT      slot      how many, and how      ITEMS     slot      number, items
    HURRY     slot                             NO_ITEMS  slot      whether there will be
    UNWANT    slot
    UNTAKEN   slot
    TAKEN     slot      how many
    DONE      number of an item
    BACK      number of an item
    LOOK      -         (into the ring)        GONE      -         forget the object

A worker begins with a greeting, which brings the cookie and the descriptors of its
slots and of a ring: what they are for is told in `broker/lending.py` and
`broker/ring.py`.
"""

import enum
import struct
from collections.abc import Sequence
from typing import NamedTuple

from aioipc.wire.messages import COOKIE_SIZE

__all__ = [
    "DESCRIPTORS",
    "GREETING_SIZE",
    "SLOTS",
    "Kind",
    "Want",
    "decode_count",
    "decode_greeting",
    "decode_items",
    "decode_lot",
    "encode_count",
    "encode_greeting",
    "encode_items",
    "encode_lot",
]

SLOTS = 8
"""Loans that one worker can have at a time with tokens in them."""

DESCRIPTORS = SLOTS + 1
"""What may come with a greeting: an eventfd for each slot, and a ring."""

_GREETING = struct.Struct(f"!8s{COOKIE_SIZE}sQ")  # magic, cookie, pid
GREETING_SIZE = _GREETING.size
_MAGIC = b"aioipc\x00\x02"  # the last byte is the version of all this
_COUNT = struct.Struct("!Q")
_NUMBER_AND_COUNT = struct.Struct("!QQ")
_WANT = struct.Struct("!Q???")


class Kind(enum.IntEnum):
    """What a message is about."""

    GARBAGE = 0  # never sent: see `MessageDecoder`
    CALL = 1
    CANCEL = 2
    ABANDON = 3
    PUT = 4
    PUT_ALL = 5
    PUT_WAIT = 6
    WANT = 7
    HURRY = 8
    UNWANT = 9
    TAKEN = 10
    DONE = 11
    RESULT = 12
    ERROR = 13
    ITEMS = 14
    NO_ITEMS = 15
    SHUT = 16
    UNTAKEN = 17
    BACK = 18
    LOOK = 19
    GONE = 20


class Want(NamedTuple):
    """What a worker asks for.

    :ivar most: items at most
    :ivar left: from which end
    :ivar idle: whether it waits for them
    :ivar fair: whether others should have their share
    """

    most: int
    left: bool
    idle: bool
    fair: bool

    def encode(self) -> bytes:
        """Return the body of a WANT."""
        return _WANT.pack(*self)

    @classmethod
    def decode(cls, body: bytes) -> "Want":
        """Return what the body of a WANT says."""
        return cls(*_WANT.unpack(body))


def encode_greeting(cookie: bytes, pid: int) -> bytes:
    """Return what a worker begins with."""
    return _GREETING.pack(_MAGIC, cookie, pid)


def decode_greeting(greeting: bytes) -> tuple[bytes, int]:
    """Return cookie and process id.

    :raises ValueError: if it is none
    """
    if len(greeting) != GREETING_SIZE:
        raise ValueError("it sent no greeting")
    magic, cookie, pid = _GREETING.unpack(greeting)
    if magic != _MAGIC:
        raise ValueError("it speaks something else, or another version of aioipc")
    return cookie, pid


def encode_lot(pickles: Sequence[bytes]) -> list[bytes]:
    """Return several pickles in pieces: their number, their sizes, and they."""
    count = len(pickles)
    return [struct.pack(f"!{count + 1}Q", count, *map(len, pickles)), *pickles]


def decode_lot(body: bytes, start: int = 0) -> list[bytes]:
    """Return the pickles of a lot that begins at `start`.

    :raises ValueError: if it does not end where the body ends
    """
    (count,) = _COUNT.unpack_from(body, start)
    offset = start + _COUNT.size
    sizes = struct.unpack_from(f"!{count}Q", body, offset)
    offset += count * _COUNT.size
    pickles: list[bytes] = []
    for size in sizes:
        pickles.append(body[offset : offset + size])
        offset += size
    if offset != len(body):
        raise ValueError("a lot of items is not as long as it says")
    return pickles


def encode_items(number: int, pickles: Sequence[bytes]) -> list[bytes]:
    """Return the body of an ITEMS in pieces.

    :param number: of the first item, among all that the worker has been sent
    """
    count = len(pickles)
    if count == 1:
        return [_ONE.pack(number, 1, len(pickles[0])), pickles[0]]
    lot = encode_lot(pickles)
    return [_COUNT.pack(number), *lot]


def decode_items(body: bytes) -> tuple[int, list[bytes]]:
    """Return the number of the first item, and all their pickles."""
    number, count = _NUMBER_AND_COUNT.unpack_from(body)
    if count == 1:
        return number, [body[_ONE.size :]]
    return number, decode_lot(body, _COUNT.size)


_ONE = struct.Struct("!QQQ")


def encode_count(count: int) -> bytes:
    """Return the body of a TAKEN."""
    return _COUNT.pack(count)


def decode_count(body: bytes) -> int:
    """Return what the body of a TAKEN says."""
    return _COUNT.unpack(body)[0]
