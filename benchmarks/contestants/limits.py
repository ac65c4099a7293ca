"""The limits: what the same work costs with no library in the way.

A socket pair without pickles, a blocking Connection, copies of memory that is warm,
shared memory with nobody to wait for, and futures that no process resolves.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import multiprocessing
import socket
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contestants import Reference
from benchmarks.figures import percentile
from benchmarks.isolation import fork
from benchmarks.tasks import compute, nothing, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PING_PONG = "blocking ping-pong"
BULK = 1 << 18
"""Bytes that a reader of a stream asks for at once."""


def round_trips(size: int, count: int) -> Reference:
    """Bytes there and back through a socket pair."""

    def measure() -> float:
        ours, theirs = socket.socketpair()
        buffer = memoryview(bytearray(size))
        with _peer(_echo, theirs, size):
            _trip(ours, buffer)
            started = time.perf_counter()
            for _ in range(count):
                _trip(ours, buffer)
            return (time.perf_counter() - started) / count

    return Reference("socketpair, no pickling", measure)


def stream(size: int, count: int) -> Reference:
    """A write for each message, and reads of whatever is there."""

    def measure() -> float:
        ours, theirs = socket.socketpair()
        left, buffer = size * count, bytearray(BULK)
        started = time.perf_counter()
        with _peer(_write, theirs, size, count):
            while left:
                left -= ours.recv_into(buffer)
            return (time.perf_counter() - started) / count

    return Reference("socketpair, no pickling", measure)


@contextlib.contextmanager
def _peer(function: Callable[..., None], *args: Any) -> Iterator[None]:
    """A forked process, which is killed at the end."""
    process = fork.Process(target=function, args=args)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _trip(end: socket.socket, buffer: memoryview) -> None:
    end.sendall(buffer)
    _read(end, buffer)


def _read(end: socket.socket, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        done += end.recv_into(buffer[done:])


def _echo(end: socket.socket, size: int) -> None:
    buffer = memoryview(bytearray(size))
    while True:
        _read(end, buffer)
        end.sendall(buffer)


def _write(end: socket.socket, size: int, count: int) -> None:
    message = bytes(size)
    for _ in range(count):
        end.sendall(message)


def ping_pong(count: int) -> Reference:
    """A blocking round trip of a call's pickle on a Connection."""

    def measure() -> float:
        with _ping_pongs(count) as call:
            started = time.perf_counter()
            for n in range(count):
                call(n)
            return (time.perf_counter() - started) / count

    return Reference(PING_PONG, measure)


def ping_pong_percentiles(count: int, shares: tuple[float, ...]) -> Reference:
    """The same, with the percentiles for these shares."""

    def measure() -> tuple[float, ...]:
        times = []
        with _ping_pongs(count) as call:
            for n in range(count):
                started = time.perf_counter()
                call(n)
                times.append(time.perf_counter() - started)
        return tuple(percentile(times, share) for share in shares)

    return Reference(PING_PONG, measure)


@contextlib.contextmanager
def _ping_pongs(count: int) -> Iterator[Callable[[int], None]]:
    """Yield a round trip, after some that do not count."""
    ours, theirs = multiprocessing.Pipe()

    def call(n: int) -> None:
        ours.send((nothing, n))
        ours.recv()

    with _peer(_answer, theirs):
        for n in range(count // 10):
            call(n)
        yield call


def _answer(end: Any) -> None:
    while True:
        _, n = end.recv()
        end.send(n)


def in_this_process(tasks: int, steps: int) -> Reference:
    """The same computations one after another, with no pool."""

    def measure() -> float:
        compute(steps)
        started = time.perf_counter()
        for _ in range(tasks):
            compute(steps)
        return time.perf_counter() - started

    return Reference("one process", measure)


async def gather_futures(count: int) -> float:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    futures = [loop.create_future() for _ in range(count)]
    gathered = asyncio.gather(*futures)
    await asyncio.sleep(0)
    for n, future in enumerate(futures):
        future.set_result(n)
    await gathered
    return (time.perf_counter() - started) / count


async def gather_tasks(count: int) -> float:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[int]] = []

    async def one() -> int:
        future = loop.create_future()
        futures.append(future)
        return await future

    started = time.perf_counter()
    gathered = asyncio.gather(*(one() for _ in range(count)))
    await asyncio.sleep(0)
    for n, future in enumerate(futures):
        future.set_result(n)
    await gathered
    return (time.perf_counter() - started) / count


def futures(count: int) -> Reference:
    return Reference("asyncio's futures", lambda: asyncio.run(gather_futures(count)))


def tasks(count: int) -> Reference:
    return Reference("asyncio's tasks", lambda: asyncio.run(gather_tasks(count)))


def warm(size: int) -> Any:
    """An array whose pages are all there."""
    return np.ones(size // 8)


def memcpy(make: Callable[[], Any], repeats: int) -> Reference:
    """A copy into memory that is warm, which is then read."""

    def measure() -> float:
        values = make()
        target = np.ones_like(values)

        def go() -> None:
            np.copyto(target, values)
            total(target)

        return _median_time(go, repeats)

    return Reference("memcpy", measure)


def shared_memory(
    step: Callable[[Any, Any], None], size: int, repeats: int
) -> Reference:
    """What a worker would do, here, between two mappings that are warm."""

    def measure() -> float:
        there, back = (np.frombuffer(mmap.mmap(-1, size)) for _ in range(2))
        return _median_time(partial(step, there, back), repeats)

    return Reference("bare shared memory", measure)


def copies(make: Callable[[], list[Any]], repeats: int) -> Reference:
    """The same for many, one after the other."""

    def measure() -> float:
        many = make()
        targets = [np.ones_like(many[0]) for _ in range(20)]

        def go() -> None:
            for n, values in enumerate(many):
                np.copyto(targets[n % 20], values)
                total(targets[n % 20])

        return _median_time(go, repeats)

    return Reference("1,000 copies", measure)


def _median_time(function: Callable[[], Any], repeats: int) -> float:
    def timed() -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    function()
    return statistics.median(timed() for _ in range(repeats))
