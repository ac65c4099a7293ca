"""What the pool promises in seconds and counts: ``python -m benchmarks.promises``.

How soon an await ends when its worker dies, how soon capacity is back after a cancel,
that a cancel never hits another task, that nothing is left of a thousand pools, and
that an idle pool uses no CPU.
"""

import contextlib
import ctypes
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import click

import aioipc
from aioipc.testing import no_leaks
from benchmarks.loops import LOOPS, run_on

METHODS = ["fork", "forkserver", "spawn"]
GRACE = 0.2


def kill_at(moment: float, number: int) -> None:
    while time.time() < moment:
        pass
    os.kill(os.getpid(), number)
    time.sleep(60)


def exit_at(moment: float, code: int) -> None:
    while time.time() < moment:
        pass
    os._exit(code)


def segfault_at(moment: float) -> None:
    while time.time() < moment:
        pass
    ctypes.string_at(0)


def loop_forever() -> None:
    while True:
        pass


def sleep_forever() -> None:
    time.sleep(1e6)


def hold_gil() -> None:
    sum(range(10**15))


def echo(n: int) -> int:
    return n


def spin(seconds: float, n: int) -> int:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return n


@contextlib.asynccontextmanager
async def warm(method: str) -> AsyncIterator[aioipc.WorkerPool]:
    async with aioipc.WorkerPool(2, mp_context=method, grace=GRACE) as pool:
        await pool.warm_up()
        for n in range(10):
            await pool.run(echo, n)
        yield pool


async def crashes(method: str) -> None:
    """How long after a worker's death its task's await ends."""
    ends: list[tuple[Callable[..., None], list[int]]] = [
        (exit_at, [0]),
        (exit_at, [3]),
        (kill_at, [signal.SIGKILL]),
        (kill_at, [signal.SIGABRT]),
        (segfault_at, []),
    ]
    async with warm(method) as pool:
        worst = 0.0
        for function, args in ends * 3:
            moment = time.time() + 0.1
            with contextlib.suppress(aioipc.WorkerCrashed):
                await pool.run(function, moment, *args)
            worst = max(worst, time.time() - moment)
            await pool.warm_up()
    print(f"  {method}: the await ends {worst * 1e3:.1f} ms after the worker's end")


async def capacity(method: str) -> None:
    """How long after a cancel both workers are at work again."""
    for function in (loop_forever, sleep_forever, hold_gil):
        for on_cancel in ("interrupt", "kill"):
            async with warm(method) as pool:
                view = pool.options(on_cancel=on_cancel)
                with anyio.move_on_after(0.1):
                    await view.run(function)
                began = time.perf_counter()
                await _both(pool)
                seconds = time.perf_counter() - began
            print(
                f"  {method}: {function.__name__}, {on_cancel}: {seconds * 1e3:.0f} ms"
            )


async def _both(pool: aioipc.WorkerPool) -> None:
    """Wait until two tasks have run side by side."""
    while pool.statistics().idle < 2:
        await anyio.sleep(0.002)
        if pool.statistics().workers < 2:
            await pool.warm_up()


async def victims(tries: int) -> None:
    """Cancel tasks as they end: is another one hit?"""
    rng, wrong, cancelled = random.Random(1), 0, 0
    async with warm("forkserver") as pool:

        async def bystander(n: int) -> None:
            nonlocal wrong
            wrong += await pool.run(spin, 2e-5, n) != n

        for n in range(0, tries, 20):
            async with anyio.create_task_group() as group:
                for k in range(20):
                    task = pool.submit(spin, 2e-5 * rng.random(), n + k)
                    group.start_soon(bystander, n + k)
                    for _ in range(rng.randrange(5)):
                        await anyio.lowlevel.checkpoint()
                    cancelled += task.cancel()
        crashes = pool.statistics().crashes
    print(
        f"  {tries:,} tries, {cancelled:,} cancelled: {wrong} wrong, {crashes} crashes"
    )


async def pools(count: int) -> None:
    """Open and close pools."""
    for n in range(count):
        async with aioipc.WorkerPool(1, mp_context="forkserver") as pool:
            assert await pool.run(echo, n) == n


async def idle() -> None:
    """What an idle pool uses."""
    async with warm("forkserver") as pool:
        pids = [member.pid for member in pool._crew.members.values()]
        before = _ticks([os.getpid(), *pids])
        await anyio.sleep(3)
        used = _ticks([os.getpid(), *pids]) - before
    print(f"  {used * 1000 / os.sysconf('SC_CLK_TCK'):.0f} ms of CPU in 3 s")


def _ticks(pids: list[int | None]) -> int:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


@click.command()
@click.option("--loop", type=click.Choice([*LOOPS]), default="asyncio")
@click.option("--tries", default=10_000, show_default=True, help="Of a wrong victim.")
@click.option("--count", default=1_000, show_default=True, help="Of pools.")
def main(loop: str, tries: int, count: int) -> None:
    """Measure what the pool promises."""

    def run(function: Callable[..., Awaitable[None]], *args: object) -> None:
        run_on(loop, function, *args)

    print(f"a worker's end, on {loop}")
    for method in METHODS:
        run(crashes, method)
    print(f"capacity is back after a cancel (grace {GRACE} s)")
    for method in METHODS:
        run(capacity, method)
    print("cancels as the task ends")
    run(victims, tries)
    print("an idle pool")
    run(idle)
    run(pools, 1)  # starts the fork server
    began = time.perf_counter()
    with no_leaks():
        run(pools, count)
    seconds = time.perf_counter() - began
    print(f"{count:,} pools opened and closed in {seconds:.1f} s: nothing is left")


if __name__ == "__main__":
    main()
