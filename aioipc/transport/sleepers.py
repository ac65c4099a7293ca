"""`Sleepers`: tasks that wait to be notified by any process, with one thread for all.

`multiprocessing.Condition` knows sleepers by three semaphores. Whoever goes to sleep
counts itself in `sleeping`, with the lock held. Whoever notifies holds the lock, too:
it takes the sleepers out of `sleeping`, and posts as many times to `wakeups`. Each
sleeper that comes back, notified or not, counts itself in `woken`: once. The notifier
waits for as many of these, and then takes back the wake-ups that nobody took.

Here, each task is a sleeper of its own. The thread takes wake-ups and answers for the
tasks at once, be the loop as busy as it may. What must hold:

- The thread waits for a wake-up only while at least one sleeper is counted for it: or
  else it would take one that is another process's. So a task that leaves (a timeout, a
  cancel) stays counted until the thread has come out of the semaphore, within a slice.
- A wake-up that comes for a task that has left goes to another one here. If there is
  none, `pass_on` is called: it has to notify once more, since someone elsewhere may
  have been meant. One too many is no harm; one too few would be a lost wake-up.

All fields are guarded by the mutex, which is only ever held for a moment.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import anyio

from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import current_loop
from aioipc.transport.threads import SLICE, Lockable, ServiceThread

__all__ = ["Sleeper", "Sleepers"]


class Semaphores(Protocol):
    """What a `multiprocessing.Condition` consists of."""

    sleeping: Lockable
    wakeups: Lockable
    woken: Lockable


class Sleeper:
    """A task that waits to be notified.

    :ivar notified: whether it was
    """

    __slots__ = ("_arrived", "_loop", "notified")

    def __init__(self) -> None:
        self._loop = current_loop()
        self._arrived = anyio.Event()
        self.notified = False

    async def wait(self) -> None:
        """Wait until it is notified."""
        await self._arrived.wait()

    def wake(self) -> bool:
        """Let the task go on; from any thread. False if its loop is over."""
        return self._loop.call_soon(self._arrived.set)


class Sleepers:
    """The sleeping tasks of one condition in this process, and their thread."""

    def __init__(
        self, semaphores: Semaphores, pass_on: Callable[[], object], what: str
    ) -> None:
        self._semaphores = semaphores
        self._pass_on = pass_on
        self._thread = ServiceThread(what)
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be without sleepers: they are the parent's; in a forked child."""
        self._mutex = threading.Lock()
        self._asleep: deque[Sleeper] = deque()
        self._left = 0  # are counted in `sleeping`, but are no more
        self._served = False

    def __len__(self) -> int:
        return len(self._asleep)

    def lie_down(self) -> Sleeper:
        """Be counted as asleep; only while the condition's lock is held.

        :raises RuntimeError: if there can't be another thread
        """
        sleeper = Sleeper()
        with self._mutex:
            if not self._served:
                job = self._thread.submit(self._serve)
                if job.done:  # it can't be, without the mutex: there is no thread
                    job.result()
                self._served = True
            self._semaphores.sleeping.release()
            self._asleep.append(sleeper)
        return sleeper

    def get_up(self, sleeper: Sleeper) -> bool:
        """Be asleep no more, and return whether that was by a notification."""
        with self._mutex:
            if not sleeper.notified:
                self._asleep.remove(sleeper)
                self._left += 1
        return sleeper.notified

    def wake_another(self) -> None:
        """Let somebody else have a notification that came for one who can't use it."""
        while True:
            with self._mutex:
                if not self._asleep:
                    break
                sleeper = self._asleep.popleft()
                sleeper.notified = True
                self._left += 1
            if sleeper.wake():
                return
        self._pass_on()

    def _serve(self) -> None:
        going_on = True
        while going_on:
            notified = self._semaphores.wakeups.acquire(True, SLICE)
            going_on = self._answer() if notified else self._be_counted()

    def _answer(self) -> bool:
        """Hand a wake-up on; False if nobody is left to wait for."""
        with self._mutex:
            sleeper = self._asleep.popleft() if self._asleep else None
            if sleeper is not None:
                sleeper.notified = True
                self._left += 1
        going_on = self._be_counted()
        if sleeper is None or not sleeper.wake():
            self.wake_another()
        return going_on

    def _be_counted(self) -> bool:
        """Count as woken those who are; False if nobody is left to wait for."""
        with self._mutex:
            for _ in range(self._left):
                self._semaphores.woken.release()
            self._left = 0
            self._served = bool(self._asleep)
            return self._served
