"""Messages over a pipe that other processes use too: a `multiprocessing` queue's.

Note to the next reader. What is shared is the pipe, a lock for those who read it and a
lock for those who write it, and they bind us:

- The descriptors must stay blocking: the flag would hit every process. So nothing is
  read that has not been counted by FIONREAD, nothing written without POLLOUT, and the
  loop watches an epoll descriptor of our own that contains the pipe's (uvloop would
  make the pipe itself non-blocking; and two watches of one descriptor would collide).
- Only what was asked for may be taken. So one frame is read, to its last byte and no
  further.
- Whoever has begun to read a frame keeps the lock until it is whole; also us, and
  whatever becomes of the task that wanted it.
- The locks can't be waited for by readiness. Others hold them for microseconds, while
  they copy a frame, or (a blocking `get` on an empty queue) while there is nothing to
  read anyway. So a lock that is taken is tried again a few times from the loop, and
  then waited for in a thread.
"""

import fcntl
import os
import select
import struct
import termios
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize

import anyio

from aioipc.errors import BrokenResourceError, ClosedResourceError
from aioipc.transport.choice import Transport
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.receiver import Receiver
from aioipc.transport.threads import (
    SLICE,
    Job,
    Lockable,
    ServiceThread,
    acquire,
)
from aioipc.transport.turns import Turn
from aioipc.wire.frames import FrameDecoder, encode_header, pack_length
from aioipc.wire.parts import IOV_MAX, drop_written

__all__ = ["Feeder", "Parcel", "SharedReceiver", "SharedSender"]

PATIENCE = 20
"""How often a lock that others hold is tried before a thread waits for it."""

BURST = 64
"""Frames taken without a pause before the loop gets its turn."""

STALL = 5.0
"""Seconds that a producer may pause in the middle of a frame that no one wants.

Between header and body it needs its GIL back, which C code may hold for long.
"""

_BULK = 1 << 20
_NO_COUNT = b"\0\0\0\0"
_native_int = struct.Struct("i").unpack
_unpack_length = struct.Struct("!i").unpack


class SharedReceiver(Receiver):
    """Messages from a pipe that other processes read too.

    :param lock: held while a frame is read
    :param slots: released after a frame was taken, if the queue is bounded
    """

    def __init__(
        self,
        fd: int,
        lock: Lockable,
        slots: Lockable | None,
        *,
        transport: Transport | None,
        max_size: int,
        what: str,
    ) -> None:
        self._pipe = fd
        self._lock = lock
        self._slots = slots
        self._locked = False
        self._refusals = 0
        self._burst = 0
        self._thread = ServiceThread("queue get")
        self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLIN)
        super().__init__(
            self._epoll.fileno(), transport=transport, max_size=max_size, what=what
        )
        self.eager = True  # a read takes one message only
        forget_in_forks(self)

    def forget(self) -> None:
        """Leave what has been read, and is being read, to the parent; in a fork."""
        self._locked = False
        self._loading = None
        self._turn = Turn()
        self.decoder = FrameDecoder(self.decoder.max_size)
        self.frames = self.decoder.frames

    def step(self) -> bool:
        if not self._locked and not self._lock.acquire(False):
            self._refusals += 1
            return self._refusals >= PATIENCE
        self._refusals = 0
        return self._read_locked()

    def try_now(self) -> bool:
        # Others must not lose by our taking one frame at a time; the loop neither.
        self._burst += 1
        if self._burst > BURST:
            self._burst = 0
            return False
        if not self._locked and not self._lock.acquire(False):
            return False  # which says nothing: there may be nothing to read
        return self._read_locked()

    async def unblock(self) -> None:
        if self._refusals >= PATIENCE and not self._locked:
            await acquire(self._lock, self._thread)
            self._locked = True
            self._refusals = 0
            self.step()

    def close(self) -> None:
        """Stop; a message in the middle of which we are is read to its end."""
        super().close()
        self._thread.close()
        self._epoll.close()
        if self._locked:
            # Others must not go on reading there, nor wait for the lock for ever; so
            # the end of the program waits for this.
            pipe = os.dup(self._pipe)
            Job(lambda: self._finish_frame(pipe)).start("queue close", daemon=False)

    def _read_locked(self) -> bool:
        """Read what is there; leave the lock unless in the middle of a frame."""
        self._locked = True
        if self._read_frame():
            self._unlock()
            if self._slots is not None:
                self._slots.release()
            return True
        if self.decoder.ending is not None:
            self._unlock()
            return True
        if not self.decoder.in_frame:
            self._unlock()
        return False

    def _unlock(self) -> None:
        self._locked = False
        self._lock.release()

    def _read_frame(self) -> bool:
        """Read on in the current frame, or begin one; True if it is whole."""
        decoder, pipe = self.decoder, self._pipe
        (count,) = _native_int(fcntl.ioctl(pipe, termios.FIONREAD, _NO_COUNT))
        if not count:
            self._check_eof()
            return False
        if count > 4 and not decoder.in_frame:
            # The common case: a small frame, which arrived whole
            header = os.read(pipe, 4)
            (size,) = _unpack_length(header)
            count -= 4
            if 0 < size <= count and size <= decoder.max_size:
                self.frames.append(os.read(pipe, size))
                return True
            decoder.feed(header)
        while count and decoder.ending is None and not self.frames:
            count -= self._read_part(min(count, _BULK))
        if decoder.expects_pickle:
            decoder.check_pickle()
        return bool(self.frames)

    def _read_part(self, limit: int) -> int:
        decoder = self.decoder
        if decoder.room:
            count = os.readv(self._pipe, [decoder.room[:limit]])
            decoder.filled(count)
            return count
        data = os.read(self._pipe, min(limit, decoder.missing))
        decoder.feed(data)
        return len(data)

    def _finish_frame(self, pipe: int) -> None:
        """Read the current frame to its end, for no one, and let others read."""
        self._pipe = pipe
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        try:
            while self.decoder.in_frame and poll.poll(STALL * 1000):
                if self._read_frame() and self._slots is not None:
                    self._slots.release()
        finally:
            os.close(pipe)
            self._unlock()

    def _check_eof(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if any(event & select.POLLHUP for _, event in poll.poll(0)):
            self.decoder.feed_eof()


class Parcel(Job[None]):
    """A message on its way through a `Feeder`."""

    __slots__ = ("begun", "withdrawn")

    def __init__(self, fd: int, parts: Sequence[bytes]) -> None:
        super().__init__(lambda: _write_all(fd, parts))
        self.begun = False
        self.withdrawn = False


class Feeder:
    """Writes messages to the pipe in a thread, one after the other.

    Like the feeder thread of a `multiprocessing.Queue`, but what it gets is pickled.

    :param owner: of the descriptor, to be kept alive
    """

    def __init__(self, fd: int, lock: Lockable, owner: object) -> None:
        self._fd = fd
        self._lock = lock
        self._owner = owner
        self._changed = threading.Condition()
        self._parcels: deque[Parcel] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._at_end: Callable[[], None] = lambda: None
        self._at_exit: Finalize | None = None
        self._join_cancelled = False
        forget_in_forks(self)

    def forget(self) -> None:
        """Leave what is to be written to the parent; in a forked child."""
        self._changed = threading.Condition()
        self._parcels.clear()
        self._thread = None
        self._at_exit = None

    @property
    def backlog(self) -> int:
        """How many messages are not yet written."""
        return len(self._parcels)

    def feed(self, parts: Sequence[bytes], *, join_at_exit: bool) -> Parcel:
        """Write a message after those before it."""
        parcel = Parcel(self._fd, parts)
        with self._changed:
            if self._closed:
                raise ClosedResourceError("the queue is closed")
            self._parcels.append(parcel)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="aioipc queue feeder", daemon=True
            )
            self._thread.start()
        if join_at_exit:
            self.finish_at_exit()
        return parcel

    def finish_at_exit(self) -> None:
        """Have the end of the program wait until all is written."""
        if self._at_exit is None and not self._join_cancelled:
            self._at_exit = Finalize(None, self._join_at_exit, exitpriority=-5)

    def withdraw(self, parcel: Parcel) -> bool:
        """Take a message back; False if some of it is already out."""
        with self._changed:
            if parcel.begun:
                return False
            parcel.withdrawn = True
            self._changed.notify_all()
            return True

    def close(self, then: Callable[[], None]) -> None:
        """Let the thread end when all is written, and call `then`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._thread is not None and self._thread.is_alive():
                self._at_end = then
                return
        then()

    def cancel_join(self) -> None:
        """Don't wait at exit for what is not yet written."""
        self._join_cancelled = True
        self._forget_exit()

    def _forget_exit(self) -> None:
        if self._at_exit is not None:
            self._at_exit.cancel()
            self._at_exit = None

    def join(self) -> None:
        """Wait until the thread has ended; blocking."""
        if self._thread is not None:
            self._thread.join()
        self._forget_exit()

    def _join_at_exit(self) -> None:
        self.close(lambda: None)
        self.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._parcels or self._closed)
                if not self._parcels:
                    break
                parcel = self._parcels[0]
            self._deliver(parcel)
            with self._changed:
                self._parcels.popleft()
        self._forget_exit()
        self._at_end()

    def _deliver(self, parcel: Parcel) -> None:
        while not self._lock.acquire(True, SLICE):
            if parcel.withdrawn:
                return
        try:
            room = select.poll()
            room.register(self._fd, select.POLLOUT)
            while not room.poll(SLICE * 1000):
                if parcel.withdrawn:
                    return
            with self._changed:
                if parcel.withdrawn:
                    return
                parcel.begun = True
            parcel.run()
        finally:
            self._lock.release()


class SharedSender:
    """Messages to a pipe that other processes write too."""

    def __init__(self, fd: int, lock: Lockable, owner: object, what: str) -> None:
        self.feeder = Feeder(fd, lock, owner)
        self._fd = fd
        self._lock = lock
        self._what = what
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)

    def send_nowait(self, message: bytes) -> bool:
        """Write a small message if that needs no waiting."""
        if len(message) + 4 > select.PIPE_BUF or self.feeder.backlog:
            return False
        if not self._lock.acquire(False):
            return False
        try:
            # A pipe with any room at all has room for PIPE_BUF bytes.
            if not self._room.poll(0):
                return False
            os.write(self._fd, pack_length(len(message)) + message)
        except OSError as error:
            raise BrokenResourceError(f"{self._what} is broken") from error
        finally:
            self._lock.release()
        return True

    def has_room(self) -> bool:
        """Whether a small message could be written at this moment."""
        return not self.feeder.backlog and bool(self._room.poll(0))

    async def send(self, parts: Sequence[bytes], timeout: float | None = None) -> bool:
        """Write a message, or return False if it was not begun in time.

        A cancel has written all of it or nothing.
        """
        parcel = self.feeder.feed(parts, join_at_exit=False)
        try:
            with anyio.move_on_after(timeout):
                await parcel.wait()
        except BaseException:
            if not self.feeder.withdraw(parcel):
                self.feeder.finish_at_exit()
            raise
        if not parcel.done:
            if self.feeder.withdraw(parcel):
                return False
            self.feeder.finish_at_exit()
            return True
        try:
            parcel.result()
        except OSError as error:
            raise BrokenResourceError(f"{self._what} is broken") from error
        return True


def _write_all(fd: int, parts: Sequence[bytes]) -> None:
    header = encode_header(sum(map(len, parts)))
    rest = [memoryview(part) for part in (header, *parts) if len(part)]
    while rest:
        drop_written(rest, os.writev(fd, rest[:IOV_MAX]))
