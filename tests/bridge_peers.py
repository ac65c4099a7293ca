"""What the workers of the bridge's tests run: plain multiprocessing, no aioipc."""

import os
import random
import signal
import time


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


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
