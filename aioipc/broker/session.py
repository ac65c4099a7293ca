"""The broker's end of one worker's connection, and what that worker would leave behind.

A `Session` belongs to the loop. What arrives it brings to the `Service` of the object
that it is about, in one of `services.py` or `lock_services.py`. Its end is the end of
the worker, as far as the broker is concerned: each service is told once, after
everything that the worker had sent.
"""

import contextlib
import os
import pickle
import socket
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aioipc.broker.inbox import Inbox
from aioipc.broker.taking import Taking
from aioipc.transport.choice import open_watch
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.handshakes import HANDSHAKE_TIMEOUT
from aioipc.transport.loops import Loop, Timer
from aioipc.wire.broker import Kind
from aioipc.wire.messages import encode_header
from aioipc.wire.parts import IOV_MAX, drop_written
from aioipc.worker.tokens import take_tokens

if TYPE_CHECKING:
    from aioipc.broker.lending import Consumer
    from aioipc.transport.watches import Watch

__all__ = ["Call", "Service", "Session", "SlotTokens"]

_CHUNK = 1 << 16
GREETING_TIMEOUT = HANDSHAKE_TIMEOUT
"""Seconds in which a worker that was let in has to say who it is."""

_UNDO = 64
"""Calls that were answered last, and can still be undone."""

_STREAM = 2
"""Messages in a row, with no word from here, after which more are expected."""


class SlotTokens:
    """The tokens of one slot: an eventfd in semaphore mode, which is closed by this.

    :param taking: tells when the worker has taken some
    """

    __slots__ = ("_fd", "_info", "_last", "_taking")

    def __init__(self, fd: int, taking: Taking) -> None:
        self._fd = fd
        self._taking = taking
        self._info = -1  # what tells how many there are, if they were counted before
        self._last = 0

    def put(self, count: int) -> None:
        """Add some."""
        self._last = count
        os.eventfd_write(self._fd, count)

    def take(self, count: int) -> int:
        """Take up to `count`; return how many there were."""
        return take_tokens(self._fd, count)

    def count(self) -> int:
        """Return how many there are; as of before, if no descriptor is left."""
        with contextlib.suppress(OSError):
            if self._info < 0:
                self._info = os.open(f"/proc/self/fdinfo/{self._fd}", os.O_RDONLY)
            self._last = _eventfd_count(os.pread(self._info, 512, 0))
        return self._last

    def tell(self, taken: Callable[[], object]) -> None:
        """Have a function called after some were taken; perhaps more than once."""
        self._taking.tell(self._fd, taken)

    def close(self) -> None:
        """Close the eventfd; no loan may be left."""
        os.close(self._fd)
        if self._info >= 0:
            os.close(self._info)


def _eventfd_count(info: bytes) -> int:
    """Return what a file in /proc tells of an eventfd."""
    return int(info.partition(b"eventfd-count:")[2].split(maxsplit=1)[0], 16)


class Call:
    """A call of a worker's, to be answered once.

    :ivar withdraw: what to do if it is cancelled before it is answered
    :ivar undo: what to do if no one has heard the answer: called with that, if it is no
        error
    :ivar is_abandoned: whether no one will hear the answer
    """

    __slots__ = (
        "_request",
        "_service",
        "is_abandoned",
        "session",
        "undo",
        "withdraw",
    )

    def __init__(self, session: "Session", service: "Service", request: int) -> None:
        self.session = session
        self._service = service
        self._request = request
        self.withdraw: Callable[[], object] | None = None
        self.undo: Callable[[Any], object] | None = None
        self.is_abandoned = False

    def resolve(self, outcome: Any) -> None:
        """Have it return `outcome`, or raise it if it is an error."""
        kind = Kind.ERROR if isinstance(outcome, Exception) else Kind.RESULT
        undo = self.undo and partial(self.undo, outcome)
        if kind == Kind.ERROR:
            undo = None
        self.session.answered(self._request, None if self.is_abandoned else undo)
        self.session.send(kind, self._service.number, self._request, [_dumps(outcome)])
        if self.is_abandoned and undo is not None:
            undo()


def _dumps(outcome: Any) -> bytes:
    try:
        return pickle.dumps(outcome)
    except Exception:  # noqa: BLE001 - a class of the user's
        return pickle.dumps(RuntimeError(repr(outcome)))


class Service(ABC):
    """What workers may do with one object.

    :ivar number: of the object in its broker
    :ivar methods: what they can call
    """

    number: int
    methods: dict[str, Callable[..., Any]]

    def on_message(self, session: "Session", kind: int, tag: int, body: bytes) -> None:
        """Take a message."""
        if kind != Kind.CALL:
            raise ValueError(f"it sent a message of kind {kind}, which is not for this")
        name, args = pickle.loads(body)
        call = Call(session, self, tag)
        session.calls[tag] = call
        try:
            self.methods[name](call, *args)
        except Exception as error:  # noqa: BLE001 - it is the worker's
            call.resolve(error)

    @abstractmethod
    def forget(self, session: "Session") -> None:
        """Undo what a dead worker has of this."""


class Session:
    """The connection of one worker.

    :ivar calls: that are not answered, by their number
    :ivar slots: whose loans they bring
    :param services: by number
    :param on_end: called once
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        services: Mapping[int, Service],
        on_end: Callable[["Session", str], None],
    ) -> None:
        self.calls: dict[int, Call] = {}
        self.slots: dict[int, Consumer[Any]] = {}
        self._undo: OrderedDict[int, Callable[[], object]] = OrderedDict()
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._services = services
        self._on_end = on_end
        self._inbox = Inbox(sock)
        self._tokens: list[SlotTokens] = []
        self._taking = Taking(loop)
        self._is_greeted = False
        self._in_a_row = 0  # messages since the last one was sent, if not fallen asleep
        self._is_polling = False
        self._is_quiet = False  # since the last poll
        self._unsent: list[memoryview] = []
        self._is_open = True
        self._reading: Watch = open_watch(loop, self._fd, "read", self._read, None)
        self._writing: Watch | None = None
        self._deadline: Timer | None = loop.call_later(GREETING_TIMEOUT, self._is_late)
        forget_in_forks(self)
        self._reading.finish()

    @property
    def pid(self) -> int | None:
        """Of the worker, as it says; None before it has said so."""
        return self._inbox.pid

    def tokens(self, slot: int) -> SlotTokens | None:
        """Return the tokens of a slot; None if the worker says what it has taken."""
        return self._tokens[slot] if slot < len(self._tokens) else None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def send(self, kind: int, number: int, tag: int, body: Sequence[bytes]) -> None:
        """Send a message, as soon as there is room."""
        if not self._is_open:
            return
        size = sum(map(len, body))
        self._in_a_row = 0
        header = encode_header(self._inbox.cookie, kind, number, size, tag)
        was_writing = bool(self._unsent)
        if size < _CHUNK:
            self._unsent.append(memoryview(b"".join((header, *body))))
        else:
            self._unsent += map(memoryview, (header, *body))
        if not was_writing and not self._flush():
            if self._writing is None:
                self._writing = open_watch(
                    self._loop, self._fd, "write", self._flush, None
                )
            self._writing.finish()

    def answered(self, request: int, undo: Callable[[], object] | None) -> None:
        """Note that a call has its answer."""
        self.calls.pop(request, None)
        if undo is not None:
            self._undo[request] = undo
            if len(self._undo) > _UNDO:
                self._undo.popitem(last=False)

    def close(self) -> None:
        """Part from the worker, without a word."""
        if self._is_open:
            self._is_open = False
            self._end_deadline()
            self._reading.close()
            if self._writing is not None:
                self._writing.close()
            self._sock.close()
            self._inbox.close()

    def drop_tokens(self) -> None:
        """Close the eventfds; no loan may be left."""
        self._taking.close()
        self._close_tokens()

    def forget(self) -> None:
        """Leave the worker to the parent; in a forked child."""
        if self._is_open:
            self._is_open = False
            self._sock.close()
            self._inbox.forget()
        self._close_tokens()

    def _close_tokens(self) -> None:
        while self._tokens:
            self._tokens.pop().close()

    def _flush(self) -> bool:
        unsent = self._unsent
        while unsent:
            try:
                count = os.writev(self._fd, unsent[:IOV_MAX])
            except BlockingIOError:
                return False
            except OSError:  # its end is to be read
                unsent.clear()
                return True
            drop_written(unsent, count)
        return True

    def look(self) -> None:
        """Take in what is there, outside of the loop's turn."""
        if self._is_open:
            self._deal_with(self._inbox.read_some)

    def _read(self) -> bool:
        """Take in what is there; True at the end."""
        return self._deal_with(self._inbox.read)

    def _deal_with(self, read: Callable[[], bool]) -> bool:
        """Read, and bring each message to where it belongs; True at the end."""
        try:
            try:
                is_over = not read()
            finally:  # what came before garbage was meant
                self._dispatch()
        except OSError as error:
            self._on_end(self, str(error))
            return True
        except Exception as error:  # noqa: BLE001 - whatever garbage comes to
            self._on_end(self, f"it sent garbage: {error!r}")
            return True
        if is_over:
            self._on_end(self, "")
        elif self._in_a_row >= _STREAM and not self._is_polling and self._inbox.wake():
            self._is_polling = True
            self._loop.repeat(self._poll)
        return is_over

    def _dispatch(self) -> None:
        messages, services = self._inbox.messages, self._services
        if not self._is_greeted and self.pid is not None:
            self._greeted()
        if messages:
            self._loop.served = self._fd
            self._in_a_row += len(messages)
            self._is_quiet = False
        while messages:
            kind, number, tag, body = messages.popleft()
            if kind in _ON_CALLS:
                self._end_call(kind, tag)
            elif kind == _LOOK:  # which `read` has done
                pass
            elif number in services:
                services[number].on_message(self, kind, tag, body)
            else:
                self._refuse(kind, number, tag)

    def _poll(self) -> bool:
        """Look into the ring once in each turn of the loop, as long as there is news.

        True when there was none, and the worker knows that it must wake the loop.
        """
        is_over = True
        try:
            is_over = not self._is_open or self._looks_no_more()
        except BaseException:  # an interrupt, and the loop may be run once more
            self._loop.call_soon(self.look)
            raise
        finally:
            if is_over:
                self._inbox.sleep()
                self._in_a_row = 0
                self._is_polling = False
        return is_over

    def _looks_no_more(self) -> bool:
        """Look into the ring; True if there was nothing, also after saying so."""
        if self._deal_with(self._inbox.read_ring):
            return True
        if self._is_quiet:
            self._inbox.sleep()
            if self._deal_with(self._inbox.read_ring) or self._is_quiet:
                return True
            self._inbox.wake()
        self._is_quiet = True
        return False

    def _refuse(self, kind: int, number: int, tag: int) -> None:
        """Answer a message about an object of a broker that was here before."""
        if not number or kind == Kind.GARBAGE:
            raise ValueError("it sent no message")
        if kind in {Kind.CALL, Kind.PUT_WAIT}:
            gone = RuntimeError("the broker does not know this any more")
            self.send(Kind.ERROR, number, tag, [_dumps(gone)])
            self.send(Kind.GONE, number, 0, ())
        elif kind in {Kind.WANT, Kind.PUT, Kind.PUT_ALL}:
            self.send(Kind.SHUT, number, 0, ())
            self.send(Kind.NO_ITEMS, number, tag, [b"\1"])
            self.send(Kind.GONE, number, 0, ())

    def _greeted(self) -> None:
        self._is_greeted = True
        self._end_deadline()
        for fd in self._inbox.take_descriptors():
            self._tokens.append(SlotTokens(fd, self._taking))

    def _end_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    def _is_late(self) -> None:
        self._deadline = None
        self.look()  # it may have said so while the loop was busy
        if self._is_open and self.pid is None:
            self._on_end(self, "it did not say in time who it is")

    def _end_call(self, kind: int, request: int) -> None:
        call = self.calls.get(request)
        if call is not None:
            if kind == Kind.ABANDON:
                call.is_abandoned = True
            if call.withdraw is not None:
                call.withdraw()
        elif kind == Kind.ABANDON:
            undo = self._undo.pop(request, None)
            if undo is not None:
                undo()

    def __repr__(self) -> str:
        return f"<worker pid={self.pid}>"


_ON_CALLS = {Kind.CANCEL.value, Kind.ABANDON.value}
_LOOK = Kind.LOOK.value
