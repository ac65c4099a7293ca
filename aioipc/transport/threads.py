"""Blocking calls, off the loop: threads that can be stopped and leave nothing behind.

A `Job` is one call whose result outlives the task that asked for it: if that task is
cancelled, the next one finds the result. A `ServiceThread` runs jobs one after the
other and ends by itself when it has had nothing to do for a while. `ThreadWatch` waits
for a descriptor where the loop can't, or shan't.

They are daemon threads but for one: what they do may be dropped at exit.
"""

import contextlib
import os
import queue
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import anyio

from aioipc.errors import ClosedResourceError
from aioipc.transport.forks import forget_in_forks
from aioipc.transport.loops import Loop, current_loop
from aioipc.transport.watches import Direction, Step, Watch

__all__ = [
    "Job",
    "Lockable",
    "ServiceThread",
    "ThreadWatch",
    "acquire",
    "run_in_thread",
]

R = TypeVar("R")

LINGER = 1.0
"""Seconds that an idle service thread waits for more work before it ends."""

SLICE = 0.05
"""Seconds: how long a thread waits in a semaphore, which nothing else can wake."""


class Job(Generic[R]):
    """One call in a thread, and its outcome once it is there."""

    __slots__ = ("_error", "_function", "_then", "_value", "done")

    def __init__(self, function: Callable[[], R]) -> None:
        self._function = function
        self._then: deque[Callable[[], Any]] = deque()
        self._value: R
        self._error: BaseException | None = None
        self.done = False

    def start(self, name: str, *, daemon: bool = True) -> None:
        """Make the call in a thread of its own; or here, if there can't be another."""
        thread = threading.Thread(target=self.run, name=f"aioipc {name}", daemon=daemon)
        try:
            thread.start()
        except RuntimeError:
            self.run()

    def run(self) -> None:
        """Make the call; in the thread."""
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            self._error = error
        self._end()

    def fail(self, error: BaseException) -> None:
        """Have it raise an error, instead of making the call."""
        self._error = error
        self._end()

    def then(self, function: Callable[[], Any]) -> None:
        """Have `function` called when the job is done, in its thread, or now."""
        self._then.append(function)
        if self.done:
            self._call_back()

    def _end(self) -> None:
        del self._function
        self.done = True
        self._call_back()

    def _call_back(self) -> None:
        while self._then:
            try:
                function = self._then.popleft()
            except IndexError:  # another thread is here, too
                return
            function()

    async def wait(self) -> None:
        """Wait for the job; a cancel leaves it running."""
        if self.done:
            return
        loop, arrived = current_loop(), anyio.Event()
        self.then(lambda: loop.call_soon(arrived.set))
        await arrived.wait()

    @property
    def succeeded(self) -> bool:
        """Whether the job is done, and raised nothing."""
        return self.done and self._error is None

    def result(self) -> R:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def take(self) -> R:
        """Return what the call returned, for the last time, or raise what it raised."""
        value = self.result()
        del self._value
        return value


def run_in_thread(function: Callable[[], R], name: str) -> Job[R]:
    """Start a thread for one job."""
    job = Job(function)
    job.start(name)
    return job


class ServiceThread:
    """Runs jobs one after the other in one thread, which starts at the first.

    To the next reader: a collection of garbage may come in the middle of every method
    here, and of `Job`'s, and run the `__del__` of something that submits a job to the
    same thread. So nothing waits for a lock, and each step leaves all in order: first
    the job is there, and then somebody sees to it that there is a thread.
    """

    def __init__(self, name: str) -> None:
        self._name = f"aioipc {name}"
        self.closed = False
        self.forget()
        forget_in_forks(self)

    def forget(self) -> None:
        """Be without a thread: it is the parent's; in a forked child."""
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._has_thread = threading.Lock()  # as long as it is held; no one waits

    def submit(self, function: Callable[[], R]) -> Job[R]:
        """Queue a call, behind those that were submitted before.

        The job raises RuntimeError if there can't be another thread. From any thread,
        and from every `__del__`.
        """
        job = Job(function)
        self._jobs.put(job)
        self._have_thread()
        return job

    def check_open(self) -> None:
        """Raise ClosedResourceError after `close`."""
        if self.closed:
            raise ClosedResourceError("closed while waiting")

    def close(self) -> None:
        """Let the thread end when it has done what was submitted."""
        self.closed = True
        self._jobs.put(None)

    def _have_thread(self) -> None:
        """Start the thread, if there is something to do and no one does it."""
        while not self._jobs.empty() and self._has_thread.acquire(blocking=False):
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._refuse(error)
                self._has_thread.release()
            else:
                return

    def _refuse(self, error: RuntimeError) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.fail(error)

    def _serve(self) -> None:
        try:
            with contextlib.suppress(queue.Empty):
                while True:
                    job = self._jobs.get(timeout=0 if self.closed else LINGER)
                    if job is not None:
                        job.run()
                    del job  # and with it what it returned, which no one may want
        finally:
            self._has_thread.release()
            # For what came just now, and found that there was a thread.
            self._have_thread()


class Lockable(Protocol):
    """A lock or a semaphore of `multiprocessing`."""

    def acquire(self, block: bool = True, timeout: float | None = None, /) -> bool:
        """Acquire it; False if that takes longer than `timeout` seconds."""
        ...

    def release(self) -> None:
        """Release it."""
        ...


async def acquire(semaphore: Lockable, thread: ServiceThread) -> None:
    """Acquire a `multiprocessing` lock or semaphore.

    A cancel leaves it as it was; `thread` is free again within `SLICE`.

    :raises ClosedResourceError: if `thread` is closed meanwhile
    """
    given_up = threading.Event()

    def attempt() -> bool:
        while not given_up.is_set() and not thread.closed:
            if semaphore.acquire(True, SLICE):
                return True
        return False

    def undo() -> None:
        if job.succeeded and job.result():
            semaphore.release()

    job = thread.submit(attempt)
    try:
        await job.wait()
        thread.check_open()
    except BaseException:
        given_up.set()
        job.then(undo)
        raise
    job.result()


class ThreadWatch(Watch):
    """A watch whose waiting is done by a thread of its own, in `poll`.

    The thread only waits: `step` runs in the loop, so nothing is ever in its hands.
    """

    def __init__(self, loop: Loop, fd: int, direction: Direction, step: Step) -> None:
        super().__init__()
        self._loop = loop
        self._fd = fd
        self._event = select.POLLIN if direction == "read" else select.POLLOUT
        self._step = step
        self._waiter: anyio.Event | None = None
        self._finishing = False
        self._closed = False
        self._requests: deque[bool] = deque()  # True: watch once more; False: end
        self._alarm: tuple[int, int] | None = None  # a pipe, while the thread lives
        self._thread: threading.Thread | None = None
        self._watching = False

    async def wait(self) -> None:
        self._check_open()
        self._waiter = waiter = anyio.Event()
        try:
            self._request()
            await waiter.wait()
        finally:
            self._waiter = None
        self._check_open()

    def finish(self) -> None:
        self._finishing = True
        self._request()

    def close(self) -> None:
        self._closed = True
        self._step = bool  # in no reference cycle any more
        self._finishing = False
        if self._waiter is not None and not self._loop.is_closed():
            self._waiter.set()
        # While the interpreter ends, daemon threads stand still: don't wait for one.
        if self._alarm is not None and not sys.is_finalizing():
            self._requests.append(False)
            os.write(self._alarm[1], b"!")
            # At once: it only ever waits in poll(). The descriptor may now be closed.
            assert self._thread is not None
            # Garbage may be collected there, too.
            if self._thread is not threading.current_thread():
                self._thread.join()
            self._alarm = None

    def forget(self) -> None:
        self._closed = True
        self._alarm = None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError("closed while waiting")

    def _request(self) -> None:
        if self._watching or self._closed:
            return
        if self._alarm is None:
            self._alarm = self._start()
        self._watching = True
        self._requests.append(True)
        os.write(self._alarm[1], b"!")

    def _start(self) -> tuple[int, int]:
        alarm = os.pipe()
        self._thread = threading.Thread(
            target=self._serve, name="aioipc watch", args=alarm, daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # there can't be another thread
            for fd in alarm:
                os.close(fd)
            raise
        return alarm

    def _on_ready(self) -> None:
        self._watching = False
        if self._closed or (self._waiter is None and not self._finishing):
            return
        if not self._step():
            self._request()
            return
        self._finishing = False
        if self._waiter is not None:
            self._waiter.set()

    def _serve(self, *alarm: int) -> None:
        try:
            self._watch(alarm[0])
        finally:
            for fd in alarm:
                os.close(fd)

    def _watch(self, alarm: int) -> None:
        ring = select.poll()
        ring.register(alarm, select.POLLIN)
        both = select.poll()
        both.register(alarm, select.POLLIN)
        both.register(self._fd, self._event)
        watching = False
        while True:
            ready = dict((both if watching else ring).poll())
            if alarm in ready:
                os.read(alarm, 1)
                watching = self._requests.popleft()
                if not watching:
                    return
            if self._fd in ready:
                watching = False
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon(self._on_ready)
