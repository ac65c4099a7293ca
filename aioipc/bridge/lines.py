"""`Lines`: the connections to one manager, lent to the threads that call it.

To the next reader. A manager serves each connection by a thread of its own, in which
locks are held, and a stdlib proxy looks for the connection of the thread that calls.
Here connections and threads are apart: a `Line` owns one connection, and lends it to
whichever thread makes its next call. So a lock that was acquired over a line is held as
long as the line lives, whatever becomes of the threads on this side.

- Short calls share `WIDTH` lines. All calls to one referent go over the same, so they
  happen in the order in which they were asked for, also if some are cancelled.
- A call that may take its time, because it waits in the manager, borrows a line.
- A line is one call at a time. Who gives a line back must hold nothing over it.
- The manager may have ended since the last call, and another be at its address. So a
  line looks whether its connection has ended, and makes another.
- A failure of the connection is told from what the referent raised right where it
  happens: the referent may raise an OSError too.
"""

import contextlib
import select
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary, finalize

from aioipc.bridge.insides.managers import ProxyInsides, Wire
from aioipc.errors import BrokenResourceError
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.threads import Job, ServiceThread

__all__ = ["Line", "Lines"]

R = TypeVar("R")

WIDTH = 4
"""Lines for the short calls to one manager; and how many others are kept for later."""


class Line:
    """One connection to a manager, made at the first call."""

    def __init__(self) -> None:
        self._thread = ServiceThread("manager call")
        self._wires: deque[_Watched] = deque()  # one, or none if it is in use
        self._closed = False
        forget_in_forks(self)

    def forget(self) -> None:
        """Be without a connection: it is the parent's; in a forked child."""
        self._wires = deque()

    def submit(self, proxy: ProxyInsides, function: Callable[[], R]) -> Job[R]:
        """Have `function` call `proxy` over this line, after what was submitted before.

        It raises BrokenResourceError if the manager is gone.
        """
        return self._thread.submit(lambda: self._run(proxy, function))

    def submit_aside(self, function: Callable[[], R]) -> Job[R]:
        """Have `function` called in the thread, in its turn, without the line."""
        return self._thread.submit(function)

    def close(self) -> None:
        """Close it when what was submitted is done; a lock held over it stays held."""
        self._closed = True
        self.hang_up()
        self._thread.close()

    def hang_up(self) -> None:
        """Close the connection, if it is not in use; the next call makes another."""
        with contextlib.suppress(IndexError):
            self._wires.pop().close()

    def _run(self, proxy: ProxyInsides, function: Callable[[], R]) -> R:
        wire = self._wires.pop() if self._wires else _Watched(proxy)
        if wire.has_ended():
            wire.close()
            wire = _Watched(proxy)
        proxy.lend(wire)
        try:
            return function()
        except (OSError, EOFError) as error:
            if wire.last != "#PROXY":
                raise
            # The reply names an object of which the manager could not be asked more.
            raise BrokenResourceError("the manager is gone") from error
        finally:
            if proxy.take_back() is not None and not wire.broken:
                self._wires.append(wire)
            if self._closed:
                self.hang_up()


class Lines:
    """The lines to one manager, closed when no proxy uses them any more."""

    _known: ClassVar["WeakValueDictionary[Any, Lines]"] = WeakValueDictionary()

    def __init__(self) -> None:
        self._shared = [Line() for _ in range(WIDTH)]
        self._spare: deque[Line] = deque()
        self._lent: set[Line] = set()
        self._closed = False
        # Not by __del__: in a cycle, those of the connections might come before it, and
        # their numbers be closed twice. This keeps all lines out of every cycle.
        finalizer = finalize(self, _finalize, self._shared, self._spare, self._lent)
        finalizer.atexit = False

    @classmethod
    def to(cls, address: Any) -> "Lines":
        """Return the lines to the manager at an address."""
        # Two threads may each make one: then there are a few connections more.
        return cls._known.get(address) or cls._known.setdefault(address, cls())

    def shared(self, proxy: ProxyInsides) -> Line:
        """Return the line for short calls to the referent of `proxy`."""
        return self._shared[hash(proxy.ident) % WIDTH]

    def borrow(self) -> Line:
        """Return a line that no one else uses until it is given back."""
        try:
            line = self._spare.pop()
        except IndexError:  # other threads borrow too
            line = Line()
        self._lent.add(line)
        return line

    def give_back(self, line: Line) -> None:
        """Let others have a line; from any thread."""
        self._lent.discard(line)
        if len(self._spare) < WIDTH and not self._closed:
            self._spare.append(line)
        else:
            line.close()

    def drop(self, line: Line) -> None:
        """Close a line that was borrowed, because something is still held over it."""
        self._lent.discard(line)
        line.close()

    def call_apart(self, proxy: ProxyInsides, function: Callable[[], R]) -> Job[R]:
        """Have `function` call `proxy` over a line of its own."""
        line = self.borrow()
        job = line.submit(proxy, function)
        job.then(lambda: self.give_back(line))
        return job

    def call_aside(self, function: Callable[[], R]) -> Job[R]:
        """Have `function` called in the thread of a line of its own, without the line.

        For what opens and closes its connections by itself.
        """
        line = self.borrow()
        job = line.submit_aside(function)
        job.then(lambda: self.give_back(line))
        return job

    def close(self) -> None:
        """Close the lines when what was submitted is done.

        A call that comes nevertheless makes a connection of its own.
        """
        self._closed = True
        for address in [a for a, lines in self._known.items() if lines is self]:
            del self._known[address]
        _close(self._shared, self._spare)


def _finalize(shared: list[Line], spare: deque[Line], _: set[Line]) -> None:
    _close(shared, spare)


def _close(*groups: Iterable[Line]) -> None:
    for group in groups:
        for line in list(group):
            line.close()


class _Watched:
    """A connection to a manager, whose own failures are told from the referent's.

    They come without the frames in which they happened: those hold a BytesIO and what
    it has lent, which Python 3.13 can't collect if the exception is in a cycle.

    :ivar last: the kind of the last reply
    """

    __slots__ = ("_connection", "broken", "last")

    def __init__(self, proxy: ProxyInsides) -> None:
        self.broken = False
        self.last = ""
        try:
            self._connection: Wire = proxy.connect("aioipc")
        except (OSError, EOFError) as error:
            raise BrokenResourceError("the manager is gone") from error

    def send(self, obj: object) -> None:
        """Send a request; an error of pickle leaves the connection as it was."""
        self.last = ""
        try:
            self._connection.send(obj)
        except OSError as error:
            raise self._break() from error.with_traceback(None)

    def recv(self) -> Any:
        """Receive the reply."""
        try:
            reply = self._connection.recv()
        except (OSError, EOFError) as error:
            raise self._break() from error.with_traceback(None)
        self.last = reply[0]
        return reply

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._connection.fileno()

    def has_ended(self) -> bool:
        """Whether the manager has closed it; a manager says nothing without a call."""
        ring = select.poll()
        ring.register(self.fileno(), select.POLLIN)
        return bool(ring.poll(0))

    def close(self) -> None:
        """Close it."""
        self.broken = True
        self._connection.close()

    def _break(self) -> BrokenResourceError:
        self.close()
        return BrokenResourceError("the manager is gone")
