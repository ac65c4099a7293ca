"""Tasks by the hundred thousand while workers are killed: does each end exactly once?

    python -m benchmarks.chaos --help

Every `--every` seconds a random worker is killed. Each task has to end with its result
or, without retries, with `WorkerCrashed`; memory and descriptors must not grow.
"""

import os
import random
import signal
import time
from collections import Counter

import anyio
import click

import aioipc
from aioipc.worker.isolation import resident
from benchmarks.loops import LOOPS, run_on

ENOUGH = 5  # kills, for a statement about memory
AT_ONCE = 2_000
"""Tasks in flight."""


def work(n: int) -> int:
    return sum(range(n % 200)) + n


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


class Chaos:
    """One run."""

    def __init__(self, tasks: int, every: float, retries: int) -> None:
        self.tasks = tasks
        self.every = every
        self.retries = retries
        self.ended = bytearray(tasks)  # how often, by number
        self.outcomes: Counter[str] = Counter()
        self.kills = 0
        self.wrong = 0
        self.samples: list[tuple[int, int]] = []  # descriptors, resident bytes

    async def run(self) -> None:
        async with aioipc.WorkerPool(2) as pool:
            await pool.warm_up()
            self.sample()
            view = pool.options(retries=self.retries)
            async with anyio.create_task_group() as group:
                group.start_soon(self.kill, pool)
                async with anyio.create_task_group() as workers:
                    numbers = iter(range(self.tasks))
                    for _ in range(AT_ONCE):
                        workers.start_soon(self.call, view, numbers)
                group.cancel_scope.cancel()
            self.sample()

    async def call(self, pool: aioipc.Pool, numbers) -> None:
        for n in numbers:
            try:
                got = await pool.run(work, n)
            except aioipc.WorkerCrashed:
                self.outcomes["crashed"] += 1
            else:
                self.outcomes["result"] += 1
                self.wrong += got != work(n)
            self.ended[n] += 1

    async def kill(self, pool: aioipc.WorkerPool) -> None:
        rng = random.Random(1)
        while True:
            await anyio.sleep(self.every)
            pids = [member.pid for member in pool._crew.members.values()]
            if pids:
                os.kill(rng.choice(pids), signal.SIGKILL)
                self.kills += 1
            self.sample()

    def sample(self) -> None:
        """Note what this process uses."""
        self.samples.append((descriptors(), resident()))


@click.command()
@click.option("--tasks", default=200_000, show_default=True)
@click.option("--every", default=0.2, show_default=True, help="Seconds between kills.")
@click.option("--retries", default=0, show_default=True)
@click.option("--loop", type=click.Choice([*LOOPS]), default="asyncio")
def main(tasks: int, every: float, retries: int, loop: str) -> None:
    """Run tasks while workers are killed."""
    chaos = Chaos(tasks, every, retries)
    began = time.perf_counter()
    run_on(loop, chaos.run)
    took = time.perf_counter() - began
    assert chaos.ended == b"\1" * tasks
    assert chaos.wrong == 0
    third = len(chaos.samples) // 3
    early, late = chaos.samples[third], chaos.samples[-1]
    print(f"{tasks:,} tasks in {took:.1f} s, {chaos.kills} workers killed on {loop}")
    print(f"each ended exactly once: {dict(chaos.outcomes)}")
    print(f"descriptors {early[0]} -> {late[0]}, memory {early[1]:,} -> {late[1]:,}")
    assert late[0] <= early[0] + 20
    # A short run ends while the pool still grows to its size.
    assert late[1] <= early[1] * 1.1 or chaos.kills < ENOUGH
    assert not retries or "crashed" not in chaos.outcomes


if __name__ == "__main__":
    main()
