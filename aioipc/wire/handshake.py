"""Whether the peer knows the key: `multiprocessing`'s handshake, for either side.

It is `deliver_challenge` and `answer_challenge` of `multiprocessing.connection`, as a
state machine: messages in, messages out. A listener challenges its client, and is then
challenged by it::

    listener                                client
        #CHALLENGE# and random bytes ->
                                        <-  their HMAC under the key
        #WELCOME# or #FAILURE#       ->
                                        <-  #CHALLENGE# and random bytes
        their HMAC under the key     ->
                                        <-  #WELCOME# or #FAILURE#

Note to the next reader. The peer may be any Python. Up to 3.11 the random bytes are 20,
and the answer is a bare HMAC-MD5 of whatever came. Since 3.12 a challenge begins with
the name of a digest, like `{sha256}`, and so does the answer to it; who gets a
challenge of 20 bytes knows that an older one asks. We challenge in the newer manner: an
older peer takes the name for random bytes. The HMAC covers the name, so no one in
between can talk a newer peer into a weaker digest.

Nothing is unpickled, and no message is longer than `MAX_MESSAGE_SIZE`. What a peer sent
is never quoted: it may be someone's password that went the wrong way.
"""

import hmac
import os
import struct
from collections.abc import Callable
from typing import ClassVar, Literal, Self

__all__ = [
    "CHALLENGE",
    "MAX_MESSAGE_SIZE",
    "FramedHandshake",
    "Handshake",
    "Side",
]

Side = Literal["listener", "client"]

MAX_MESSAGE_SIZE = 256
"""Bytes: a longer message is refused when its length arrives; the stdlib's limit."""

CHALLENGE = b"#CHALLENGE#"
"""What the first message begins with; no pickle does."""

_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"

_DIGESTS = frozenset((b"md5", b"sha256", b"sha384", b"sha3_256", b"sha3_384"))
_OUR_DIGEST = b"{sha256}"
_RANDOM_SIZE = 40  # more than an older peer's 20
_OLD_CHALLENGE_SIZE = 20
_MD5_SIZE = 16

_NO_HANDSHAKE = "it sent something else than the handshake"
_LENGTH = struct.Struct("!i")


class Handshake:
    """One side of a handshake; whole messages in, whole messages out.

    Send what `start` and `receive` return, also after a refusal: the peer is told.

    :param authkey: the key that both sides should know
    :ivar done: whether both sides have shown that they know it
    :ivar refusal: what is wrong with the peer, for people; None while nothing is
    :raises TypeError: if the key is not bytes
    """

    __slots__ = ("_challenge", "_key", "_steps", "done", "refusal")

    def __init__(self, authkey: bytes, side: Side) -> None:
        if not isinstance(authkey, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("authkey should be a byte string")
        self._key = authkey
        self._challenge = _OUR_DIGEST + os.urandom(_RANDOM_SIZE)
        self._steps = list(self._STEPS[side])
        self.done = False
        self.refusal: str | None = None

    @property
    def over(self) -> bool:
        """Whether no more messages are expected."""
        return self.done or self.refusal is not None

    def start(self) -> list[bytes]:
        """Return what to send before anything arrives."""
        return self._challenge_if_due()

    def receive(self, message: bytes) -> list[bytes]:
        """Take a message of the peer's, return what to send.

        :raises RuntimeError: if the handshake is over
        """
        if self.over:
            raise RuntimeError("the handshake is over")
        step = self._steps.pop(0)
        replies = step(self, message)
        if self.refusal is not None:
            return replies
        self.done = not self._steps
        return replies + self._challenge_if_due()

    def refuse(self, reason: str) -> None:
        """End it, because the peer is not what it should be."""
        self.refusal = reason

    def _challenge_if_due(self) -> list[bytes]:
        if self._steps and self._steps[0] == Handshake._take_answer:
            return [CHALLENGE + self._challenge]
        return []

    def _take_answer(self, message: bytes) -> list[bytes]:
        if self._is_right(message):
            return [_WELCOME]
        return [_FAILURE]

    def _take_challenge(self, message: bytes) -> list[bytes]:
        challenge = message.removeprefix(CHALLENGE)
        name = _digest_of(challenge)
        if (
            not message.startswith(CHALLENGE)
            or name is None
            or len(challenge) < _OLD_CHALLENGE_SIZE
        ):
            self.refuse(_NO_HANDSHAKE)
            return []
        if not name:
            answer = _mac(self._key, challenge, b"md5")
            if answer is not None:
                return [answer]
            name = b"sha256"  # no MD5 here (FIPS): the newer answer, as the stdlib does
        answer = _mac(self._key, challenge, name)
        if answer is None:
            self.refuse("it asks for a digest that this machine does not have")
            return []
        return [b"{%s}%s" % (name, answer)]

    def _take_verdict(self, message: bytes) -> list[bytes]:
        if message == _FAILURE:
            self.refuse("it has another authkey: it refused ours")
        elif message != _WELCOME:
            self.refuse(_NO_HANDSHAKE)
        return []

    def _is_right(self, message: bytes) -> bool:
        name = _digest_of(message)
        if name is None:
            self.refuse(_NO_HANDSHAKE)
            return False
        answer = message[len(name) + 2 :] if name else message
        expected = _mac(self._key, self._challenge, name or b"md5")
        if expected is None:
            self.refuse("its digest is one that this machine does not have")
        elif not hmac.compare_digest(expected, answer):
            self.refuse("it has another authkey")
        return self.refusal is None

    _STEPS: ClassVar[dict[Side, tuple[Callable[[Self, bytes], list[bytes]], ...]]] = {
        "listener": (_take_answer, _take_challenge, _take_verdict),
        "client": (_take_challenge, _take_verdict, _take_answer),
    }


class FramedHandshake:
    """A handshake in bytes: with the length before each message.

    ::

        send(framed.start())
        while framed.missing:
            send(framed.feed(read(framed.missing)))

    Never read more than `missing` bytes: the peer's next ones may be the first of its
    messages proper.

    :ivar handshake: how far it is, and what is wrong
    :ivar missing: bytes to be read next, at most; 0 when it is over
    """

    __slots__ = ("_body", "_part", "handshake", "missing")

    def __init__(self, authkey: bytes, side: Side) -> None:
        self.handshake = Handshake(authkey, side)
        self.missing = _LENGTH.size
        self._part = b""
        self._body = False  # whether it is a body that is missing, not a length

    def refuse(self, reason: str) -> None:
        """End it, because the peer is not what it should be."""
        self.handshake.refuse(reason)
        self.missing = 0

    def start(self) -> bytes:
        """Return what to send before anything arrives."""
        return _frame(self.handshake.start())

    def feed(self, data: bytes) -> bytes:
        """Take what has been read, at most `missing` bytes; return what to send."""
        self._part += data
        self.missing -= len(data)
        if self.missing:
            return b""
        part, self._part = self._part, b""
        if not self._body:
            (size,) = _LENGTH.unpack(part)
            if not 0 < size <= MAX_MESSAGE_SIZE:
                self.handshake.refuse(_NO_HANDSHAKE)
            else:
                self.missing, self._body = size, True
            return b""
        replies = self.handshake.receive(part)
        if not self.handshake.over:
            self.missing, self._body = _LENGTH.size, False
        return _frame(replies)


def _frame(messages: list[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(message)) + message for message in messages)


def _digest_of(message: bytes) -> bytes | None:
    """Return the name of a digest, empty for an older peer's; None if it has neither.

    :param message: a challenge or an answer
    """
    if len(message) in (_MD5_SIZE, _OLD_CHALLENGE_SIZE):
        return b""
    name, brace, _ = message[1:].partition(b"}")
    if message.startswith(b"{") and brace and name in _DIGESTS:
        return name
    return None


def _mac(key: bytes, message: bytes, digest: bytes) -> bytes | None:
    """Return the HMAC; None if this machine does not have the digest."""
    try:
        return hmac.new(key, message, digest.decode()).digest()
    except ValueError:
        return None
