"""The handshake as pure state: ours against ours, the stdlib's, and nonsense."""

import contextlib
import hmac
import multiprocessing.connection as stdlib
import threading
from multiprocessing import AuthenticationError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.wire import handshake as module
from aioipc.wire.handshake import (
    CHALLENGE,
    MAX_MESSAGE_SIZE,
    FramedHandshake,
    Handshake,
)

SIDES = ["listener", "client"]
WELCOME, FAILURE = b"#WELCOME#", b"#FAILURE#"


def converse(listener: Handshake, client: Handshake, changes=()) -> list[bytes]:
    """Carry messages until there are none; return them all.

    :param changes: what becomes of a message on its way, by its number
    """
    assert client.start() == []
    mail = [(client, message) for message in listener.start()]
    sent = []
    while mail:
        reader, message = mail.pop(0)
        if len(sent) in changes:
            message = changes[len(sent)](message)
        sent.append(message)
        if not reader.over:
            writer = listener if reader is client else client
            mail += [(writer, reply) for reply in reader.receive(message)]
    return sent


def test_who_has_the_key_is_let_in() -> None:
    listener, client = Handshake(b"key", "listener"), Handshake(b"key", "client")
    sent = converse(listener, client)
    assert (listener.done, client.done) == (True, True)
    assert (listener.refusal, client.refusal) == (None, None)
    assert [message[:9] for message in sent] == [
        CHALLENGE[:9],
        b"{sha256}" + sent[1][8:9],
        WELCOME,
        CHALLENGE[:9],
        b"{sha256}" + sent[4][8:9],
        WELCOME,
    ]
    assert max(map(len, sent)) <= MAX_MESSAGE_SIZE
    with pytest.raises(RuntimeError, match="over"):
        listener.receive(b"more")


def test_who_has_another_key_is_not() -> None:
    listener, client = Handshake(b"key", "listener"), Handshake(b"other", "client")
    assert converse(listener, client)[-1] == FAILURE
    assert not listener.done
    assert not client.done
    assert listener.refusal == "it has another authkey"
    assert client.refusal == "it has another authkey: it refused ours"


def test_a_listener_that_lets_everyone_in_does_not_fool_a_client() -> None:
    client = Handshake(b"key", "client")
    (answer,) = client.receive(CHALLENGE + b"{sha256}" + bytes(40))
    assert answer == b"{sha256}" + hmac.digest(
        b"key", b"{sha256}" + bytes(40), "sha256"
    )
    (challenge,) = client.receive(WELCOME)
    assert client.receive(answer) == [FAILURE]
    assert client.refusal == "it has another authkey"
    assert challenge[len(CHALLENGE) :] not in answer


@pytest.mark.parametrize("digest", ["md5", "sha384", "sha3_256", "sha3_384"])
def test_a_challenge_is_answered_with_the_digest_that_it_names(digest) -> None:
    message = b"{%s}" % digest.encode() + bytes(40)
    (answer,) = Handshake(b"key", "client").receive(CHALLENGE + message)
    assert answer == b"{%s}%s" % (
        digest.encode(),
        hmac.digest(b"key", message, digest),
    )


def test_an_older_listener_gets_a_bare_md5() -> None:
    (answer,) = Handshake(b"key", "client").receive(CHALLENGE + bytes(20))
    assert answer == hmac.digest(b"key", bytes(20), "md5")


def test_an_older_client_may_answer_so() -> None:
    listener = Handshake(b"key", "listener")
    (challenge,) = listener.start()
    answer = hmac.digest(b"key", challenge.removeprefix(CHALLENGE), "md5")
    assert listener.receive(answer) == [WELCOME]


def test_without_md5_an_older_listener_gets_the_newer_answer(monkeypatch) -> None:
    real = hmac.new

    def new(key, message, digest):
        if digest == "md5":
            raise ValueError("unsupported hash type md5")
        return real(key, message, digest)

    monkeypatch.setattr(module.hmac, "new", new)
    (answer,) = Handshake(b"key", "client").receive(CHALLENGE + bytes(20))
    assert answer == b"{sha256}" + hmac.digest(b"key", bytes(20), "sha256")
    client = Handshake(b"key", "client")
    assert client.receive(CHALLENGE + b"{md5}" + bytes(40)) == []
    assert "digest" in client.refusal
    listener = Handshake(b"key", "listener")
    assert listener.receive(bytes(16)) == [FAILURE]
    assert "digest" in listener.refusal


def test_two_challenges_are_never_the_same() -> None:
    challenges = {Handshake(b"key", "listener").start()[0] for _ in range(100)}
    assert len(challenges) == 100
    assert {len(challenge) for challenge in challenges} == {len(CHALLENGE) + 48}


@pytest.mark.parametrize("key", ["text", None, 7, bytearray(b"key")])
def test_a_key_is_bytes(key) -> None:
    with pytest.raises(TypeError, match="byte string"):
        Handshake(key, "client")


NONSENSE = [
    b"",
    b"GET / HTTP/1.1",
    CHALLENGE,
    CHALLENGE + bytes(16),
    CHALLENGE + bytes(19),
    CHALLENGE + bytes(40),
    CHALLENGE + b"{sha1}" + bytes(40),
    CHALLENGE + b"{sha256" + bytes(40),
    CHALLENGE + b"{md5}" + bytes(3),
    b"{sha256}" + bytes(31),
    b"{nonsense}" + bytes(32),
    bytes(256),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("message", NONSENSE)
def test_nonsense_is_refused_and_not_quoted(side, message) -> None:
    handshake = Handshake(b"the key", side)
    handshake.start()
    assert handshake.receive(message) in ([], [FAILURE])
    assert not handshake.done
    assert handshake.over
    assert "it " in handshake.refusal
    assert "the key" not in handshake.refusal
    assert "HTTP" not in handshake.refusal


@given(st.sampled_from(SIDES), st.lists(st.binary(max_size=300), max_size=5))
def test_no_messages_let_in_who_has_no_key(side, messages) -> None:
    framed = FramedHandshake(b"key", side)
    framed.start()
    data = b"".join(len(m).to_bytes(4, "big") + m for m in messages)
    while framed.missing and data:
        assert 0 < framed.missing <= MAX_MESSAGE_SIZE
        part, data = data[: framed.missing], data[framed.missing :]
        framed.feed(part)
    assert not framed.handshake.done


@given(st.integers(0, 5), st.integers(0, 2000), st.integers(1, 255))
def test_a_message_that_was_changed_on_its_way_lets_no_one_in(
    which, place, flips
) -> None:
    def change(message: bytes) -> bytes:
        changed = bytearray(message)
        changed[place % len(message)] ^= flips
        return bytes(changed)

    listener, client = Handshake(b"key", "listener"), Handshake(b"key", "client")
    sent = converse(listener, client, {which: change})
    assert len(sent) > which
    assert not (listener.done and client.done)


@given(st.lists(st.integers(1, 60), min_size=1), st.binary(max_size=20))
def test_bytes_may_arrive_in_any_pieces_and_none_beyond_is_taken(sizes, after) -> None:
    ends = [FramedHandshake(b"key", side) for side in SIDES]
    inbox = [ends[1].start(), ends[0].start()]
    turn = 0
    while any(end.missing for end in ends):
        for n, end in enumerate(ends):
            if end.missing and inbox[n]:
                turn += 1
                size = min(end.missing, sizes[turn % len(sizes)])
                part, inbox[n] = inbox[n][:size], inbox[n][size:]
                inbox[1 - n] += end.feed(part)
                if n == 1 and not end.missing:
                    inbox[0] += after  # the client goes on at once
    assert all(end.handshake.done for end in ends)
    assert inbox == [after, b""]


@pytest.mark.parametrize("size", [-(2**31), -1, 0, MAX_MESSAGE_SIZE + 1, 2**31 - 1])
@pytest.mark.parametrize("side", SIDES)
def test_a_long_message_is_refused_with_its_length(side, size) -> None:
    framed = FramedHandshake(b"key", side)
    framed.start()
    assert framed.feed(size.to_bytes(4, "big", signed=True)) == b""
    assert framed.missing == 0
    assert framed.handshake.refusal == "it sent something else than the handshake"


# With the standard library's own functions


def run_over(connection, key: bytes, side: str) -> Handshake:
    """Do the handshake over a plain connection."""
    handshake = Handshake(key, side)
    for message in handshake.start():
        connection.send_bytes(message)
    while not handshake.over:
        for message in handshake.receive(connection.recv_bytes(MAX_MESSAGE_SIZE)):
            connection.send_bytes(message)
    return handshake


@pytest.mark.parametrize("key", [b"key", b"another"], ids=["same key", "other key"])
@pytest.mark.parametrize("side", SIDES)
def test_with_the_standard_library(side, key) -> None:
    ours, theirs = stdlib.Pipe()
    refused = []

    def other_side() -> None:
        first, second = stdlib.deliver_challenge, stdlib.answer_challenge
        if side == "listener":
            first, second = second, first
        try:
            first(theirs, key)
            second(theirs, key)
        except AuthenticationError:
            refused.append(True)
        with contextlib.suppress(OSError):
            theirs.close()

    thread = threading.Thread(target=other_side)
    thread.start()
    with ours:
        handshake = run_over(ours, b"key", side)
    thread.join()
    assert handshake.done is (key == b"key")
    assert bool(refused) is (key != b"key")
