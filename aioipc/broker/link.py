"""A worker's connection to its broker: one for each process, whatever it uses there.

Nothing here waits: that is `waiting.py`'s part. So a task that the pool interrupts, in
the middle of a `get` say, leaves no message half read or half written: none is
interrupted here (see `worker/interrupts.py`).
"""

import contextlib
import itertools
import os
import pickle
import secrets
import socket
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from aioipc.broker.descriptors import Descriptors
from aioipc.broker.ring import RingWriter, map_ring, open_ring
from aioipc.wire.broker import GREETING_SIZE, SLOTS, Kind, encode_greeting
from aioipc.wire.messages import COOKIE_SIZE, MessageDecoder, encode_header
from aioipc.wire.parts import IOV_MAX, drop_written
from aioipc.worker.tokens import take_tokens

__all__ = ["SMALL", "Link", "Listening"]

SMALL = 1 << 16
"""Bytes that are rather copied than written apart."""

_NEVER = (0,)


class Listening(Protocol):
    """An object that the broker sends messages to."""

    def on_message(self, kind: int, tag: int, body: bytes) -> None:
        """Take one; not to wait."""
        ...


class Link:
    """Messages to and from a broker.

    :ivar is_open: whether the broker is there
    :ivar outcomes: of requests, by their number: whether it worked, and a pickle
    :ivar listening: by the number of the object
    :ivar kept: objects that have used it, by number: they live as long as it is open
    :ivar looked: when messages were last looked for
    :ivar may_look: whether there is a CPU for looking for a message before sleeping
    :ivar looks: whether that is of use, lately
    """

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors: Descriptors | None = descriptors  # None if it is not open
        self.is_open = True
        self.outcomes: dict[int, tuple[bool, bytes]] = {}
        self.listening: weakref.WeakValueDictionary[int, Listening] = (
            weakref.WeakValueDictionary()
        )
        self.kept: dict[int, object] = {}
        self.looked = 0.0
        self.may_look = len(os.sched_getaffinity(0)) > 1
        self.looks = False
        self._with_tokens = len(descriptors.tokens)  # the first slots are
        self._slots = deque(range(self._with_tokens))  # that no loan is in
        self._spare_slots: deque[int] = deque()  # the same, without tokens
        self._more_slots = itertools.count(SLOTS)
        self._requests = itertools.count(1)
        self._asked: set[int] = set()  # requests that are not answered
        self._abandoned: set[int] = set()  # requests that no one waits for
        self._cookie = secrets.token_bytes(COOKIE_SIZE)
        self._decoder = MessageDecoder(self._cookie)
        self._leading = threading.Lock()
        self._leader: int | None = None  # the thread that waits, on behalf of all,
        self._bells: dict[int, threading.Lock] = {}  # ... and what wakes the others
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._unsent: list[memoryview] = []
        self._sent = 0  # messages through the socket
        self._ring: RingWriter | None = None
        self._is_read: Sequence[int] = _NEVER  # its `is_read`

    def greet(self) -> None:
        """Tell the broker who we are; the first thing to be sent."""
        greeting = encode_greeting(self._cookie, os.getpid())
        assert len(greeting) == GREETING_SIZE
        descriptors = self.descriptors
        with descriptors.as_socket() as sock:
            if descriptors.tokens:
                ring = open_ring()
                try:
                    fds = [*descriptors.tokens, ring]
                    socket.send_fds(sock, [greeting], fds)
                    memory = map_ring(ring)
                finally:
                    os.close(ring)
                if memory is not None:
                    self._ring = RingWriter(memory)
                    self._is_read = self._ring.is_read
            else:
                sock.sendall(greeting)
            sock.setblocking(False)

    @property
    def descriptors(self) -> Descriptors:
        """What to read, write and poll; to be held meanwhile.

        :raises BrokenPipeError: if the link is not open any more
        """
        descriptors = self._descriptors
        if descriptors is None:
            raise _gone()
        return descriptors

    def fail(self) -> None:
        """Be of no more use; also because something was left halfway: by Ctrl-C, say.

        The broker then has everything back, as from one that died.
        """
        self.is_open = False
        self._ring, self._is_read, self.kept = None, _NEVER, {}
        descriptors, self._descriptors = self._descriptors, None
        if descriptors is not None:
            descriptors.shut_down()

    def forget(self) -> None:
        """Have no part in it, and say nothing; in a forked child."""
        self.is_open = False
        self._ring, self._is_read, self.kept = None, _NEVER, {}
        descriptors, self._descriptors = self._descriptors, None
        if descriptors is not None:
            descriptors.close()

    # Slots

    def take_slot(self) -> int:
        """Return a slot for a loan."""
        try:
            return (self._slots or self._spare_slots).popleft()
        except IndexError:
            return next(self._more_slots)

    def free_slot(self, slot: int) -> None:
        """Have it used again."""
        slots = self._slots if self.has_tokens(slot) else self._spare_slots
        slots.appendleft(slot)  # used again soon, so that its last loan is settled

    def has_tokens(self, slot: int) -> bool:
        """Whether what is lent in a slot has tokens."""
        return slot < self._with_tokens

    @property
    def has_free_tokens(self) -> bool:
        """Whether there is a slot with tokens in which no loan is."""
        return bool(self._slots)

    def take_tokens(self, slot: int, count: int) -> int:
        """Take the tokens of the next items; return how many are ours."""
        descriptors = self._descriptors or self.descriptors  # which raises
        return take_tokens(descriptors.tokens[slot], count)

    # Waiting: see `waiting.py`

    def lead(self, thread: int) -> "threading.Lock | None":
        """Have a thread read for all; if another one does, return what to acquire.

        That is released when something has arrived, or no one reads any more.
        """
        with self._leading:
            if self._leader in {None, thread}:  # it may have been interrupted before
                self._leader = thread
                return None
            bell = self._bells[thread] = threading.Lock()
            bell.acquire()
            return bell

    def leave(self, thread: int) -> None:
        """Note that a thread waits no longer."""
        with self._leading:
            self._bells.pop(thread, None)
            if self._leader == thread:
                self._leader = None
            self._ring_bells()

    def look(self) -> None:
        """Take in what is there, unless a thread waits for it anyway.

        What that one waits for must not be gone when it looks into the socket.
        """
        with self._leading:
            if self._leader is None:
                self._take_in()

    def _ring_bells(self) -> None:
        while self._bells:
            self._bells.popitem()[1].release()

    # Messages

    def new_request(self) -> int:
        """Return the number of a new request."""
        return next(self._requests)

    def ask(self, kind: int, number: int, request: int, body: Sequence[bytes]) -> bool:
        """Send a request, as `send` does; from now on `is_asked` is true of it."""
        try:
            self._asked.add(request)
            return self.send(kind, number, request, body)
        except OSError:
            raise
        except BaseException:  # or no one would know whether there will be an answer
            self.fail()
            raise

    def is_asked(self, request: int) -> bool:
        """Whether a request has been sent, and its outcome is not taken."""
        return request in self._asked or request in self.outcomes

    def tell(self, number: int, method: str, *args: Any) -> None:
        """Have a method of an object called, whatever comes of it."""
        request = self.new_request()
        self._abandoned.add(request)
        self.send(Kind.CALL, number, request, [pickle.dumps((method, args))])

    def abandon(self, number: int, request: int) -> None:
        """Have a request cancelled, and undone if it was answered meanwhile."""
        if self.outcomes.pop(request, None) is None:
            self._abandoned.add(request)
        with contextlib.suppress(BrokenPipeError):
            self.send(Kind.ABANDON, number, request, ())

    def take_outcome(self, request: int) -> Any:
        """Return what a request that is answered has returned, or raise it."""
        worked, pickled = self.outcomes.pop(request)
        outcome = pickle.loads(pickled)
        if worked:
            return outcome
        raise outcome

    def send(self, kind: int, number: int, tag: int, body: Sequence[bytes]) -> bool:
        """Send a message, or what goes at once of it; whether that is all.

        :raises BrokenPipeError: if the broker is gone
        """
        size = sum(map(len, body))
        if size < SMALL:
            return self.send_small(kind, number, tag, b"".join(body))
        header = encode_header(self._cookie, kind, number, size, tag)
        with self._writing:
            self._add(memoryview(header), *map(memoryview, body))
            return self._flush()

    def send_small(self, kind: int, number: int, tag: int, body: bytes) -> bool:
        """Send a message, as `send` does: in a third of the time."""
        if self._is_read[0]:
            try:
                with self._writing:  # which is a fence, afterwards: see `ring.py`
                    ring = self._ring
                    is_written = (
                        ring is not None
                        and not self._unsent
                        and ring.write(self._sent, kind, number, tag, body)
                    )
                if is_written:
                    # The broker may have fallen asleep meanwhile.
                    return self._is_read[0] > 0 or self._write(Kind.LOOK, 0, 0, b"")
            except OSError:
                raise
            except BaseException:
                self.fail()
                raise
        return self._write(kind, number, tag, body)

    def _write(self, kind: int, number: int, tag: int, body: bytes) -> bool:
        """Send a message through the socket, which wakes the broker."""
        message = encode_header(self._cookie, kind, number, len(body), tag) + body
        with self._writing:
            if self._unsent:
                self._add(memoryview(message))
                return self._flush()
            descriptors = self._descriptors or self.descriptors  # which raises
            try:
                self._sent += 1
                count = os.write(descriptors.fd, message)
                if count < len(message):
                    self._unsent.append(memoryview(message)[count:])
            except BlockingIOError:
                self._unsent.append(memoryview(message))
            except OSError as error:
                raise self._broken() from error
            except BaseException:
                self.fail()
                raise
            return not self._unsent

    def _add(self, *pieces: memoryview) -> None:
        """Note a message to be sent, and that it is one more: both or neither."""
        try:
            self._sent += 1
            self._unsent += pieces
        except BaseException:
            self.fail()
            raise

    def flush(self) -> bool:
        """Send what goes at once of what is unsent; whether that is all."""
        with self._writing:
            return self._flush()

    def _flush(self) -> bool:
        unsent, descriptors = self._unsent, self.descriptors
        try:
            while unsent:
                drop_written(unsent, os.writev(descriptors.fd, unsent[:IOV_MAX]))
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._broken() from error
        except BaseException:
            self.fail()
            raise
        return True

    def read(self) -> None:
        """Take in what is there; for the thread that leads.

        :raises BrokenPipeError: if the broker is gone
        """
        if self._take_in() and self._bells:
            with self._leading:
                self._ring_bells()

    def _take_in(self) -> bool:
        """Take in what is there; whether there were messages."""
        with self._reading:
            decoder, descriptors = self._decoder, self.descriptors
            try:
                count = decoder.read(descriptors.fd)
                news = bool(decoder.messages)
                while decoder.messages:
                    self._dispatch(*decoder.messages.popleft())
            except BlockingIOError:
                return False
            except OSError as error:
                raise self._broken() from error
            except BaseException:
                self.fail()
                raise
        if not count:
            raise self._broken()
        return news

    def _dispatch(self, kind: int, number: int, tag: int, body: bytes) -> None:
        if kind in {Kind.RESULT, Kind.ERROR}:
            if tag in self._abandoned:
                self._abandoned.remove(tag)
            else:
                self.outcomes[tag] = kind == Kind.RESULT, body
            self._asked.discard(tag)
        elif kind == Kind.GONE:
            self.kept.pop(number, None)
        elif number in self.listening:
            self.listening[number].on_message(kind, tag, body)

    def _broken(self) -> BrokenPipeError:
        self.fail()
        return _gone()


def _gone() -> BrokenPipeError:
    return BrokenPipeError("the broker is gone")
