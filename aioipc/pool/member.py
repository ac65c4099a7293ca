"""One worker process, and the coordinator's end of its private channel.

`Launched` starts the process, in a thread. A `Member` then belongs to the loop: it
sends without blocking, brings what arrives to its `on_messages`, and tells of the end
once, by `on_death`, after everything that the worker had said.
"""

import contextlib
import fcntl
import os
import signal
import struct
import sys
import termios
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

from aioipc.bridge.insides.processes import is_served_by_forkserver
from aioipc.memory.arena import Arena
from aioipc.memory.file import File, open_memory
from aioipc.memory.views import Views
from aioipc.pool.sharing import close_views, import_all
from aioipc.transport.choice import open_watch
from aioipc.transport.forks import starting
from aioipc.transport.loops import Loop
from aioipc.transport.threads import run_in_thread
from aioipc.wire.messages import COOKIE_SIZE, MessageDecoder, encode_header
from aioipc.wire.parts import IOV_MAX, drop_written
from aioipc.wire.tasks import (
    INLINE,
    NO_TASK,
    Kind,
    TaskCall,
    encode_batch,
    encode_call,
    encode_released,
)
from aioipc.worker.channel import Endpoints
from aioipc.worker.main import Setup, serve
from aioipc.worker.tokens import take_tokens

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from aioipc.memory.parcels import Parcel
    from aioipc.pool.task import Call
    from aioipc.transport.watches import Watch

__all__ = ["PROCESS_NAME", "Launched", "Member"]

PROCESS_NAME = "aioipc worker"

_PIPE_SIZE = 1 << 18
_CHUNK = 1 << 14
"""Bytes that one read takes: some 500 replies, which keep the loop for about 2 ms."""

_BULK = 1 << 20
_LOG_SIZE = 1 << 14
_NUMBER = struct.Struct("!Q")
_INT = struct.Struct("i")
_REAPING = 1.0
"""Seconds within which an ended process has an exit code."""


class Launched:
    """A started process and the descriptors that are ours; all still blocking.

    :param arguments: a memfd that brings large buffers of arguments; closed here
    """

    def __init__(
        self, context: BaseContext, setup: dict[str, Any], arguments: int
    ) -> None:
        self.fds = [arguments]
        self.cookie = os.urandom(COOKIE_SIZE)
        try:
            tasks, self.tasks = self._pipe()
            self.replies, replies = self._pipe()
            interrupts, self.interrupts = self._pipe()
            lifeline, self.lifeline = self._pipe()
            theirs = [tasks, replies, interrupts, lifeline]
            self.tokens = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
            self.crash_log = open_memory("aioipc crash log")
            self.results = open_memory("aioipc results")
            self._oom_kills = oom_kills()
            self.fds += self.tokens, self.crash_log, self.results
            for fd in (tasks, self.replies):
                with contextlib.suppress(OSError):  # a user's pipes are limited
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            ends = Endpoints(
                tasks,
                replies,
                self.tokens,
                interrupts,
                lifeline,
                self.crash_log,
                arguments,
                self.results,
            )
            is_fork = context.get_start_method() == "fork"
            factory: Any = context
            self.process: BaseProcess = factory.Process(
                target=serve,
                name=PROCESS_NAME,
                args=(ends, Setup(cookie=self.cookie, is_fork=is_fork, **setup)),
                daemon=True,  # so that it is no reason for a program not to end
            )
            if is_fork:
                import_all()
            with starting():
                self.process.start()
        except BaseException:
            self.close()
            raise
        for fd in (*theirs, arguments):
            os.close(fd)
            self.fds.remove(fd)

    def _pipe(self) -> tuple[int, int]:
        pipe = os.pipe()
        self.fds += pipe
        return pipe

    def may_have_run_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process for that since the start."""
        return oom_kills() > self._oom_kills

    def close(self) -> None:
        """Close our descriptors: the worker is killed by its lifeline then."""
        while self.fds:
            os.close(self.fds.pop())


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory."""
    # Not by pathlib, for which a program's first result would wait 3 ms.
    with (
        contextlib.suppress(OSError),
        open("/proc/vmstat", encoding="ascii") as counters,  # noqa: PTH123
    ):
        for line in counters:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


class Member:
    """A worker process, in the coordinator's loop.

    :ivar views: large buffers of its results
    :param arena: by which large buffers of arguments go
    :param on_messages: called when `messages` has something new
    :param on_death: called once, with the exit code, or None if that is not to be had
    """

    def __init__(
        self,
        launched: Launched,
        loop: Loop,
        arena: Arena,
        on_messages: Callable[[], None],
        on_death: Callable[[int | None], None],
    ) -> None:
        self._launched = launched
        self._loop = loop
        self._on_messages = on_messages
        self._on_death = on_death
        self.process = launched.process
        self.pid = launched.process.pid
        self.exitcode: int | None = None
        self.blamed = False  # whether a task has been told that it wrote garbage
        self.garbage = b""  # the start of what arrived and is no message
        self._decoder = MessageDecoder(launched.cookie)
        self.messages = self._decoder.messages
        self._cookie = launched.cookie
        self.views = Views(File(launched.results))
        launched.fds.remove(launched.results)
        self._arena = arena
        self._is_closed = False
        self._lent: Counter[int] = Counter()  # slots of the arena that it may look at
        self._known = {INLINE}  # functions that the worker has been sent
        self._unsent: list[memoryview] = []
        self._writing: Watch | None = None
        self._pidfd = -1
        self._reading = self._watching = None
        for fd in (launched.tasks, launched.replies, launched.interrupts):
            os.set_blocking(fd, False)
        self._reading = self._watch(launched.replies, "read", self.read)
        try:
            self._pidfd = os.pidfd_open(self.pid or 0)
        except OSError:  # it is gone, and somebody has reaped it
            loop.call_soon(self._end)
            return
        if is_served_by_forkserver(self.process):
            fd = self.process.sentinel  # brings the exit code
        else:
            fd = self._pidfd
        self._watching = self._watch(fd, "read", self._end)

    @property
    def hint(self) -> str:
        """What may have been the cause of its end, if it is to be guessed."""
        if self.exitcode == -signal.SIGKILL and (
            self._launched.may_have_run_out_of_memory()
        ):
            return "the kernel has just killed a process for want of memory"
        return ""

    @property
    def crash_log(self) -> str:
        """What faulthandler has written."""
        return os.pread(self._launched.crash_log, _LOG_SIZE, 0).decode(errors="replace")

    def send_batch(self, calls: "Sequence[Call]", functions: Sequence[bytes]) -> None:
        """Send tasks, and a token for each.

        :param functions: pickles, by number
        """
        parts: list[bytes | bytearray] = []
        batch: list[TaskCall] = []
        if self.views.released:
            parts.append(encode_released(self._cookie, self.views.released))
        for call in calls:
            if call.parcel is not None:
                self._lend(call.parcel)
            number = call.function_number
            if number not in self._known:
                self._known.add(number)
                body = functions[number]
                parts += self._header(Kind.FUNCTION, number, len(body)), body
            batch.append((call.number, number, call.arguments or b""))
        if len(batch) == 1:
            parts += encode_call(self._cookie, *batch[0])
        else:
            parts += encode_batch(self._cookie, batch)
        os.eventfd_write(self._launched.tokens, len(calls))
        if len(parts) > 1 and sum(map(len, parts)) < _BULK:
            parts = [b"".join(parts)]
        self._write(parts)

    def take_tokens(self, count: int) -> int:
        """Take up to `count` tokens, return how many there were."""
        return take_tokens(self._launched.tokens, count)

    def take_back(self, call: "Call") -> None:
        """Note that it has not begun a task, and looks at none of its buffers."""
        if call.parcel is not None:
            self.let_go(call.parcel.starts)

    def let_go(self, starts: Iterable[int]) -> None:
        """Note that it does not look at slots of the arena any more."""
        lent = self._lent
        known: list[int] = []
        for start in starts:
            if lent[start] > 0:  # it may say what it wants
                lent[start] -= 1
                known.append(start)
        self._arena.let_go(known)

    @property
    def shares_memory(self) -> bool:
        """Whether it has memory of results, or may look at arguments."""
        return self.views.memory > 0 or any(self._lent.values())

    def limit(self, size: int) -> None:
        """Have it use so many bytes of memory for results, at most."""
        self._write([self._header(Kind.LIMIT, size, 0)])

    def trim(self) -> None:
        """Have it give back the memory that no one looks at, when it is idle."""
        released = encode_released(self._cookie, self.views.released)
        self._write([released + self._header(Kind.TRIM, NO_TASK, 0)])

    def _lend(self, parcel: "Parcel") -> None:
        self._arena.keep(parcel.starts)
        self._lent.update(parcel.starts)

    def interrupt(self, number: int) -> None:
        """Raise an exception in the worker, if it is at that task."""
        with contextlib.suppress(OSError):  # it is gone, or has not read the others
            os.write(self._launched.interrupts, _NUMBER.pack(number))

    def end(self) -> None:
        """Have the worker end when it has done what it was sent."""
        self._write([self._header(Kind.END, NO_TASK, 0)])

    def kill(self) -> None:
        """Kill the worker."""
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def abandon(self) -> None:
        """Kill the worker and let it go, without a loop."""
        self.kill()
        self.close()

        if not sys.is_finalizing():  # or no thread would start; the kernel reaps then
            # It is not closed: multiprocessing may be joining it, too, at exit.
            run_in_thread(self.process.join, "reap")

    def forget(self) -> None:
        """Close our descriptors only: in a fork, the rest is the parent's."""
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._launched.close()

    def close(self) -> None:
        """Let everything go; the worker dies if it is alive."""
        for watch in (self._reading, self._writing, self._watching):
            if watch is not None:
                watch.close()
        self._reading = self._writing = self._watching = None
        self._arena.let_go(self._lent.elements())
        self._lent.clear()
        self._close_descriptors()
        if not self._is_closed:
            self._is_closed = True
            close_views(self.views)

    def _header(self, kind: Kind, number: int, size: int) -> bytes:
        return encode_header(self._cookie, kind, number, size)

    def _watch(self, fd: int, direction: Any, step: Callable[[], bool]) -> "Watch":
        watch = open_watch(self._loop, fd, direction, step, None)
        watch.finish()
        return watch

    def _write(self, parts: Sequence[bytes | bytearray]) -> None:
        if not self._unsent and len(parts) == 1:
            parts = self._write_now(parts[0])
            if not parts:
                return
        was_writing = bool(self._unsent)
        self._unsent += map(memoryview, parts)
        if not was_writing and not self._flush():
            if self._writing is None:
                self._writing = open_watch(
                    self._loop, self._launched.tasks, "write", self._flush, None
                )
            self._writing.finish()

    def _write_now(self, message: bytes | bytearray) -> list[bytes | bytearray]:
        """Try to write a message; return the rest.

        `_flush` would do, but takes 3 % of a lone call longer.
        """
        try:
            count = os.write(self._launched.tasks, message)
        except BlockingIOError:
            return [message]
        except OSError:  # see `_flush`
            return []
        return [message[count:]] if count < len(message) else []

    def _flush(self) -> bool:
        unsent = self._unsent
        while unsent:
            try:
                count = os.writev(self._launched.tasks, unsent[:IOV_MAX])
            except BlockingIOError:
                return False
            except OSError:  # it is dying, and its tokens are still there
                return True
            drop_written(unsent, count)
        return True

    def read(self) -> bool:
        """Take in what is there; True at the end."""
        decoder = self._decoder
        try:
            if decoder.room:
                count = os.readv(self._launched.replies, [decoder.room[:_BULK]])
                if count:
                    decoder.filled(count)
            else:
                data = os.read(self._launched.replies, _CHUNK)
                count = len(data)
                decoder.feed(data)
        except BlockingIOError:
            return False
        if decoder.messages:
            self._on_messages()
        if not count:
            self.kill()  # it ends anyway, or a task has closed its channel
        return not count

    def _end(self) -> bool:
        """Bring the last messages, then the exit code."""
        replies = self._launched.replies
        while self._launched.fds and _has_bytes(replies):
            self.read()
        self._reap(_REAPING)
        return True

    def _reap(self, patience: float) -> None:
        exitcode = self.process.exitcode
        if exitcode is None and patience > 0 and self._watching is not None:
            # Another thread has it from the kernel, and has not noted it yet.
            self._loop.call_later(0.001, lambda: self._reap(patience - 0.001))
            return
        if exitcode is not None:
            self.process.join()  # does not wait, but forgets the child
            self.process.close()
        self.exitcode = exitcode
        self._on_death(exitcode)


def _has_bytes(fd: int) -> bool:
    return _INT.unpack(fcntl.ioctl(fd, termios.FIONREAD, bytes(_INT.size)))[0] > 0
