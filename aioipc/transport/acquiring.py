"""`Acquirer`: a lock that other processes use too, acquired by tasks of this one.

Tasks queue here, first come, first served. The first of them tries; if it must wait,
one thread waits in the operating system's semaphore, in slices, because nothing but a
release can wake it. So a thousand waiting tasks take one thread, and a cancelled one
leaves none behind for longer than a slice.

What the thread acquires for a task that is gone is released at once. (For a slice after
a cancel, somebody else's ``acquire(False)`` may hit upon just that instant.) No task of
this process is served before others' because it is nearer: the next one takes its
chance with the other processes, as the semaphore has it.

Each event loop has a line of its own, with a thread. Loops that run at the same time,
in several threads, are to each other as processes are.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import NOWHERE, Loop, current_loop, running_loop
from aioipc.transport.threads import Job, Lockable, ServiceThread, acquire
from aioipc.transport.turns import Turn

__all__ = ["Acquirer"]

R = TypeVar("R")

BURST = 64
"""Acquisitions without a pause before the loop gets its turn."""


class Line:
    """The tasks of one loop that wait for a lock, and the thread that waits for them.

    :ivar burst: acquisitions since the loop had its turn
    """

    __slots__ = ("burst", "loop", "mark", "thread", "turn")

    def __init__(self, loop: Loop, what: str) -> None:
        self.loop = loop
        self.mark = loop.mark  # see `running_loop`
        self.thread = ServiceThread(what)
        self.turn = Turn()
        self.burst = 0


class Acquirer:
    """Acquires a lock or semaphore for the tasks of this process, of whatever loop.

    :param lockable: any thread may release it; its `release` and ``acquire(False)``
        answer at once. (One that lives elsewhere may say False to the latter, and have
        its `release` done by a thread.)
    :param what: its name, for threads
    """

    def __init__(self, lockable: Lockable, what: str) -> None:
        self._lockable = lockable
        self._what = what
        self._helper = ServiceThread(f"{what} notify")
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be without waiters: they are the parent's; in a forked child."""
        self._lines: dict[Loop, Line] = {}
        self._latest = Line(NOWHERE, self._what)
        # No line's: a lock may be released in another loop than it was acquired in.
        self._held_for: Job[Any] | None = None  # the last of them

    @property
    def tasks(self) -> int:
        """How many tasks are waiting, in all loops."""
        return sum(line.turn.tasks for line in list(self._lines.values()))

    async def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it, or return False.

        A cancel leaves nothing acquired.

        :param block: whether to wait for it
        :param timeout: seconds to wait at most, for ever if None; negative is 0
        """
        line = self._latest
        if line.mark is not running_loop() and not line.loop.is_current():
            line = self._latest = self._line_here()
        line.burst += 1
        if line.burst > BURST:
            line.burst = 0
            await anyio.lowlevel.checkpoint()
        if not line.turn.taken and self._lockable.acquire(False):
            return True
        if not block or (timeout is not None and timeout <= 0):
            return False
        with anyio.move_on_after(timeout):
            await self._wait(line)
            return True
        return False

    def release(self) -> None:
        """Release it; never blocks, and needs no loop."""
        job, self._held_for = self._held_for, None
        if job is None or job.done:
            self._lockable.release()
        else:
            job.then(self._release_late)

    def call_held(self, function: Callable[[], R]) -> Job[R]:
        """Have `function` called in a thread, for who holds it.

        Only when that is done does a `release` come into effect. Several are called one
        after the other.
        """
        self._held_for = job = self._helper.submit(function)
        return job

    async def until_called(self) -> None:
        """Wait until what `call_held` was told of is done; only while it is held."""
        if self._held_for is not None:
            await self._held_for.wait()

    async def _wait(self, line: Line) -> None:
        turn = line.turn
        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            if not self._lockable.acquire(False):
                await acquire(self._lockable, line.thread)
        finally:
            turn.pass_on()

    def _line_here(self) -> Line:
        """Return that of the current loop; those of closed ones are dropped."""
        loop = current_loop()
        line = self._lines.get(loop)
        if line is None:
            # Other loops' threads may be here, too: each adds its own, and nobody waits
            # in one that is dropped.
            for other in list(self._lines):
                if other.is_closed():
                    self._lines.pop(other, None)
            line = self._lines[loop] = Line(loop, self._what)
        return line

    def _release_late(self) -> None:
        # Nobody is there to be told that it was released too often.
        with contextlib.suppress(ValueError):
            self._lockable.release()
