"""ServiceThread and Job: garbage is collected at any moment, and threads may fail."""

import gc
import os
import queue
import threading
from collections.abc import Callable

import anyio
import pytest

import aioipc
from aioipc.transport import threads
from aioipc.transport.loops import current_loop
from aioipc.transport.threads import Job, ServiceThread, ThreadWatch

pytestmark = pytest.mark.usefixtures("quick_threads")


class Garbage:
    """Does something as it is collected, for which it takes the collector."""

    def __init__(self, dying: Callable[[], object]) -> None:
        self.dying = dying
        self.itself = self

    def __del__(self) -> None:
        self.dying()


def call_aside(function: Callable[[], object]) -> None:
    """Call what might wait for itself; not in this thread, which has tests to do."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def fail_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("moment", ["__init__", "start"])
def test_garbage_that_submits_is_collected_within_a_submit(moment, monkeypatch) -> None:
    thread, done = ServiceThread("test"), queue.SimpleQueue[str]()
    real = getattr(threading.Thread, moment)

    def collect(self: threading.Thread, *args: object, **kwargs: object) -> None:
        real(self, *args, **kwargs)
        if "test" in self.name:
            gc.collect()

    def submit() -> None:
        Garbage(lambda: thread.submit(lambda: done.put("by __del__")))
        thread.submit(lambda: done.put("submitted"))

    gc.collect()
    monkeypatch.setattr(threading.Thread, moment, collect)
    call_aside(submit)
    assert [done.get(timeout=10) for _ in range(2)] == ["submitted", "by __del__"]


def test_garbage_that_waits_for_a_job_is_collected_as_it_ends() -> None:
    told: list[str] = []
    job = Job(gc.collect)
    Garbage(lambda: job.then(lambda: told.append("by __del__")))
    job.then(gc.collect)
    job.then(lambda: told.append("waited"))
    call_aside(job.run)
    assert sorted(told) == ["by __del__", "waited"]


def test_a_thread_that_cannot_start_fails_its_jobs_and_the_next_one_starts(
    monkeypatch,
) -> None:
    thread = ServiceThread("test")
    with monkeypatch.context() as patch:
        fail_to_start(patch)
        job = thread.submit(int)
    assert job.done
    with pytest.raises(RuntimeError, match="can't start new thread"):
        job.result()
    done = queue.SimpleQueue[int]()
    thread.submit(lambda: done.put(1))
    assert done.get(timeout=10) == 1


async def test_a_lock_is_as_it_was_after_a_thread_that_could_not_start(
    monkeypatch,
) -> None:
    lock = aioipc.Lock()
    assert lock.sync.acquire(block=False)
    with monkeypatch.context() as patch:
        fail_to_start(patch)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await lock.acquire()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lock.acquire)
            await anyio.wait_all_tasks_blocked()
            lock.sync.release()
    assert lock.locked()


async def test_a_condition_is_as_it_was_after_a_thread_that_could_not_start(
    monkeypatch,
) -> None:
    condition = aioipc.Condition()
    async with condition:
        with monkeypatch.context() as patch:
            fail_to_start(patch)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await condition.wait()
        assert not await condition.wait(0.01)


async def test_a_watch_that_is_garbage_is_closed_in_its_own_thread(monkeypatch) -> None:
    reader, writer = os.pipe()
    watch = ThreadWatch(current_loop(), reader, "read", lambda: True)
    real, closed = os.read, queue.SimpleQueue[str]()

    def read(fd: int, size: int) -> bytes:
        monkeypatch.setattr(os, "read", real)
        watch.close()  # as a `__del__` would
        closed.put(threading.current_thread().name)
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    watch.finish()
    assert closed.get(timeout=10) == "aioipc watch"
    os.close(reader)
    os.close(writer)


async def test_a_watch_is_as_it_was_after_a_thread_that_could_not_start(
    monkeypatch,
) -> None:
    reader, writer = os.pipe()
    watch = ThreadWatch(current_loop(), reader, "read", lambda: True)
    with monkeypatch.context() as patch:
        fail_to_start(patch)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await watch.wait()
    os.close(writer)  # which makes it ready
    with anyio.fail_after(5):
        await watch.wait()
    watch.close()
    os.close(reader)


def test_what_is_submitted_as_the_thread_ends_is_done(monkeypatch) -> None:
    monkeypatch.setattr(threads, "LINGER", 0)
    thread, done = ServiceThread("test"), queue.SimpleQueue[int]()
    for n in range(300):
        thread.submit(lambda n=n: done.put(n))
    assert [done.get(timeout=10) for _ in range(300)] == list(range(300))
