"""What the workers of the bridge's tests run: plain multiprocessing, no aioipc."""

import os
import random
import stat
import time
from pathlib import Path

import psutil


def echo(connection) -> None:
    """Send back what comes, until the other end is closed."""
    try:
        while True:
            connection.send(connection.recv())
    except (EOFError, OSError):
        pass


def echo_bytes(connection) -> None:
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except (EOFError, OSError):
        pass


def count_up(put, stop: int, seed: int = 0) -> None:
    """Put 0, 1, 2 ... in bursts, so that the other side is now ahead, now behind."""
    rng = random.Random(seed)
    for n in range(stop):
        put(n)
        if rng.random() < 0.03:
            time.sleep(rng.random() * 0.003)


def drain(get, report, sentinel=None) -> None:
    """Get until the sentinel, then send all that came."""
    items = []
    while (item := get()) != sentinel:
        items.append(item)
    report(items)


def write_slowly(fd: int, data: bytes, pieces: int, seconds: float) -> None:
    """Write bytes in pieces spread over some time."""
    size = len(data) // pieces + 1
    for start in range(0, len(data), size):
        os.write(fd, data[start : start + size])
        time.sleep(seconds / pieces)


def get_forever(queue, started) -> None:
    """Sit in a blocking get, with the queue's lock held, until killed."""
    started.send("started")
    while True:
        started.send(queue.get())


def work(tasks, results) -> None:
    """Send every task back as its result, until None."""
    while (task := tasks.get()) is not None:
        results.put(task)


def do_tasks(queue, count: int) -> None:
    for _ in range(count):
        queue.get()
        queue.task_done()


def join_and_tell(queue, connection) -> None:
    connection.send("joining")
    queue.join()
    connection.send("joined")


def drain_queue(queue, connection) -> None:
    drain(queue.get, connection.send)


def drain_awaiting(queue, connection, backend, transport) -> None:
    """Like `drain_queue`, in an event loop of this process."""
    import anyio

    import aioipc

    async def main() -> list[object]:
        async with aioipc.wrap(queue, transport=transport) as awaited:
            return [item async for item in awaited.until(None)]

    connection.send(anyio.run(main, backend=backend[0], backend_options=backend[1]))


def send_half_a_frame(connection, size: int) -> None:
    """Announce a message, send half of it, and stall."""
    os.write(connection.fileno(), size.to_bytes(4, "big") + b"x" * (size // 2))
    connection.recv()


def resident() -> int:
    """Bytes of memory that this process has set aside."""
    return psutil.Process().memory_info().rss


def exists(path) -> bool:
    return Path(path).exists()


def mode(path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def descriptors() -> list[int]:
    """Those that this process has open."""
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


class Peer:
    """The plain end of a pipe, used in the test itself as if it were elsewhere.

    Only where the call can't block for long; the detector of blocking looks away.
    """

    def __init__(self, connection) -> None:
        self.connection = connection

    def send(self, obj) -> None:
        self.connection.send(obj)

    def send_bytes(self, data: bytes) -> None:
        self.connection.send_bytes(data)

    def recv(self):
        return self.connection.recv()

    def recv_bytes(self) -> bytes:
        return self.connection.recv_bytes()

    def write(self, data: bytes) -> None:
        """Write raw bytes, frame or not."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.connection.fileno(), view) :]

    def close(self) -> None:
        self.connection.close()


def tell_pid(connection) -> None:
    connection.send(os.getpid())
    connection.close()


def use_proxies(shared, both, named, numbers, queue) -> None:
    """Do what the library reference's example does."""
    items, value = both
    shared[1] = "1"
    shared["2"] = 2
    items.reverse()
    value.value += 1
    named["space"].name = "worker"
    numbers[0] = 10
    queue.put("done")


def count_under_lock(lock, value, count: int) -> None:
    for _ in range(count):
        with lock:
            value.value += 1


def play_even(condition, value, count: int) -> None:
    """Count on whenever the value is even."""
    with condition:
        for _ in range(count):
            condition.wait_for(lambda: value.value % 2 == 0)
            value.value += 1
            condition.notify()


def call_often(obj, method: str, count: int) -> None:
    for _ in range(count):
        getattr(obj, method)()


def pause(seconds: float) -> None:
    time.sleep(seconds)
