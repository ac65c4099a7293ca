"""What the workers of the broker's tests run: blocking, and without an event loop."""

import contextlib
import os
import random
import signal
import sys
import threading
from threading import BrokenBarrierError

import psutil

from aioipc.broker import remote
from aioipc.wire.broker import Kind
from aioipc.wire.messages import encode_header


def double(jobs, results) -> None:
    for number in jobs:
        results.put(2 * number)
    results.shutdown()


def answer_each(requests, counts) -> None:
    """Answer each request in its own queue; tell how many objects are left."""
    for number, reply in requests:
        reply.put(number)
    del reply
    counts.put(len(remote._known.objects))


def get_some(jobs, results, count: int) -> None:
    for _ in range(count):
        results.put(jobs.get())


def get_then_stop(jobs, results) -> None:
    """Get an item, say so, and then be stopped until the end."""
    results.put(jobs.get())
    os.kill(os.getpid(), signal.SIGSTOP)


def get_then_stop_at(jobs, results, last) -> None:
    """Get until a certain item comes, say so, and be stopped until the end."""
    while jobs.get() != last:
        pass
    results.put(last)
    os.kill(os.getpid(), signal.SIGSTOP)


def ask_while_stopped(jobs, results) -> None:
    """Ask for an item; a thread stops the process before there is one."""
    results.put("ready")
    jobs.get()
    results.put("got it")


def say_and_wait(results, *what) -> None:
    """Call each, say what it returned, and wait to be killed."""
    for call in what:
        results.put(call())
    signal.pause()


def acquire_and_wait(lock, results) -> None:
    lock.acquire()
    results.put("acquired")
    signal.pause()


def acquire_twice(lock, results) -> None:
    with lock:
        results.put("first")
    with lock:
        results.put("second")


def wait_at(barrier, results) -> None:
    try:
        results.put(barrier.wait())
    except BrokenBarrierError:
        results.put("broken")


def outcome_of(call, *args, **kwargs):
    """Return what a call returns, or the name of what it raises."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error).__name__


def try_all(jobs, results) -> None:
    """Say what a queue with room for one does, when it is empty and when it is full."""
    say = results.put
    say(outcome_of(jobs.get, block=False))
    say(outcome_of(jobs.get, timeout=0.01))
    say(outcome_of(jobs.get_nowait))
    say(outcome_of(jobs.get_many, 3, 0.01))
    say((jobs.empty(), jobs.full(), jobs.qsize()))
    jobs.put("only")
    say(outcome_of(jobs.put, 1, block=False))
    say(outcome_of(jobs.put, 1, timeout=0.01))
    say(outcome_of(jobs.put_nowait, 1))
    say((jobs.empty(), jobs.full(), jobs.qsize()))
    say(jobs.get())
    jobs.task_done()
    say(outcome_of(jobs.task_done))
    jobs.join()
    jobs.shutdown()
    say(outcome_of(jobs.put, 1))
    say(outcome_of(jobs.get))


def try_lock(lock, results) -> None:
    say = results.put
    say(lock.acquire())
    say(lock.acquire(False))
    say(lock.acquire(timeout=0.01))
    say(lock.locked())
    lock.release()
    say(outcome_of(lock.release))
    with lock:
        say(lock.locked())
    say(lock.locked())


def try_semaphore(semaphore, results) -> None:
    say = results.put
    with semaphore:
        say(semaphore.get_value())
        say(semaphore.acquire(False))
        say(semaphore.acquire(False))
        say(semaphore.acquire(timeout=0.01))
        semaphore.release(2)
        say(semaphore.get_value())
    say(semaphore.get_value())


def try_event(event, results) -> None:
    say = results.put
    say(event.is_set())
    say(event.wait(0.01))
    event.set()
    say(event.is_set())
    say(event.wait())
    event.clear()
    say(event.is_set())


def wait_in(condition, results) -> None:
    with condition:
        results.put("waiting")
        condition.wait()
        results.put("notified")


def try_condition(condition, results) -> None:
    say = results.put
    say(outcome_of(condition.wait))
    say(outcome_of(condition.notify))
    with condition:
        say(condition.wait(0.01))
        say(condition.wait_for(lambda: "true"))
        say(condition.wait_for(bool, 0.01))
        condition.notify()
        condition.notify_all()


def in_threads(jobs, results, threads: int) -> None:
    """Get in several threads at a time, until the queue is shut down."""

    def work() -> None:
        for number in jobs:
            results.put((threading.get_ident(), number))

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    results.shutdown()


def in_a_fork(jobs, results) -> None:
    """Use what the parent uses, too."""
    results.put(("parent", jobs.get()))
    pid = os.fork()
    if not pid:
        results.put(("child", jobs.get()))
        os._exit(0)
    os.waitpid(pid, 0)
    results.put(("parent", jobs.get()))


def what_is_loaded(jobs, results) -> None:
    jobs.get()
    heavy = {"anyio", "asyncio", "trio", "uvloop", "multiprocessing.managers"}
    results.put(sorted(heavy & {*sys.modules}))


def take_leases(jobs, results, count: int) -> None:
    """Get some items, and be done with the last only."""
    taken = [jobs.get() for _ in range(count)]
    jobs.task_done()
    results.put(taken)
    signal.pause()


def produce(jobs, first: int, count: int) -> None:
    for number in range(first, first + count):
        jobs.put(number)


def get_and_leave(jobs, results) -> None:
    """Get two items, and be done with the last only, as if the first had failed."""
    results.put(jobs.get())
    results.put(jobs.get())
    jobs.task_done()


def get_and_wait(jobs, results) -> None:
    """Get an item, say so, and wait to be interrupted."""
    results.put(jobs.get())
    threading.Event().wait()


def work_on_lease(jobs, results) -> None:
    for job in jobs:
        results.put(job)
        jobs.task_done()
    results.put("end")


def wait_and_count(condition, path) -> None:
    """Add to a file's length, alone; and wait to be interrupted."""
    with condition:
        path.write_bytes(path.read_bytes() + b"!")
        condition.wait()


def get_all_in_turn(jobs, results) -> None:
    """Get for ever; put each item where it can be seen, in the same instant."""
    for item in jobs:
        results.put(item)


def hold(lock, begun) -> None:
    """Hold a lock for ever."""
    with lock:
        has_begun(begun)
        threading.Event().wait()


def has_begun(path) -> None:
    """Tell the test that we are there."""
    path.write_bytes(b"!")


def tell(pipe: int, *words: str) -> None:
    os.write(pipe, " ".join(words).encode() + b"\n")


def put_for_ever(jobs, pipe: int, first: int, seed: int) -> None:
    """Put one number after the other; tell of each when it has been put."""
    rng = random.Random(seed)
    number = first
    while True:
        if rng.random() < 0.8:
            jobs.put(number)
            number += 1
        else:
            count = rng.randrange(1, 10)
            jobs.put_many(range(number, number + count))
            number += count
        tell(pipe, str(number - 1))


def get_for_ever(jobs, pipe: int, manual: bool) -> None:
    """Get one item after the other; tell of each when it is there."""
    while True:
        tell(pipe, str(jobs.get()))
        if manual:
            jobs.task_done()


def get_many_for_ever(jobs, pipe: int, seed: int) -> None:
    """Get some items at a time; tell of them when they are there."""
    rng = random.Random(seed)
    while True:
        tell(pipe, *map(str, jobs.get_many(rng.randrange(1, 9))))


def lock_for_ever(lock, pipe: int) -> None:
    """Acquire and release, and tell of it while it is held."""
    me = str(os.getpid())
    while True:
        with lock:
            tell(pipe, "enter", me)
            tell(pipe, "leave", me)


def get_until(jobs, results, last) -> None:
    """Get until `last` comes, then tell of all."""
    items = []
    while (item := jobs.get()) != last:
        items.append(item)
    results.put(items)


def gone(jobs, connection) -> None:
    """Wait in `get` until the broker is gone, and say what that raises."""
    connection.send("ready")
    connection.send(outcome_of(jobs.get))
    connection.send(outcome_of(jobs.put, 1))


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped; for the test."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def lines_of(pipe: int) -> list[str]:
    """Return what dead workers have told; for the test."""
    os.set_blocking(pipe, False)  # others may have inherited the other end
    told = b""
    with contextlib.suppress(BlockingIOError):
        while some := os.read(pipe, 1 << 16):
            told += some
    return told.decode().splitlines()


def put_large_and_stop(jobs) -> None:
    """Stop in the middle of a message."""
    jobs.put("before")
    link = jobs._link
    pickled = jobs._dumps(bytes(100_000))
    message = encode_header(link._cookie, Kind.PUT, jobs._number, len(pickled))
    os.set_blocking(link.descriptors.fd, True)
    os.write(link.descriptors.fd, message + pickled[:50_000])
    os.kill(os.getpid(), signal.SIGSTOP)


def put_in_threads(jobs, told) -> None:
    """Put items of many sizes from three threads, until told to end or killed."""
    is_over = threading.Event()

    def put(thread: int) -> None:
        sizes, number = random.Random(thread), 0
        while not is_over.is_set():
            size = sizes.choice([0, 10, 100, 5_000, 60_000, 100_000])
            jobs.put((thread, number, bytes(size)))
            number += 1

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    told.get()
    is_over.set()
    for thread in threads:
        thread.join()


def lease_around_a_task(jobs, told, may_end) -> None:
    """Have an item on lease while a task runs in this very thread."""
    import anyio

    from aioipc.testing import InlinePool

    async def main() -> None:
        async with InlinePool() as pool:
            with jobs.lease() as job:
                await pool.run(abs, -1)
                told.put(job)
                may_end.get()

    anyio.run(main)
