"""What large transfers promise: ``python -m benchmarks.transfers``.

Workers, and programs with their workers, are killed at random moments of transfers:
nothing is left behind, and the pool works. And the memory of many transfers stays
within its bound.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import click
import numpy as np

import aioipc
from aioipc.testing import no_leaks
from aioipc.worker.isolation import resident
from benchmarks.loops import LOOPS, run_on

MB = 1_000_000
LIMIT = 200 * MB


def add_one(values):
    return values + 1


async def kill_workers(count: int) -> None:
    """Kill a worker in each of so many transfers."""
    rng, values, crashed = random.Random(1), np.zeros(2 * MB), 0
    async with aioipc.WorkerPool(2, mp_context="fork", max_shared_memory=LIMIT) as pool:
        await pool.warm_up()
        for _ in range(count):
            task = pool.submit(add_one, values)
            await anyio.sleep(rng.random() * 0.03)
            for member in list(pool._crew.members.values()):
                os.kill(member.pid, signal.SIGKILL)
            try:
                assert (await task).all()
            except aioipc.WorkerCrashed:
                crashed += 1
        assert (await pool.run(add_one, values)).all()
        used = pool._crew.memory.arena.statistics.buffers
    print(
        f"  {count} times both workers killed: {crashed} crashes, {used} buffers left"
    )


async def transfer_for_ever() -> None:
    values = np.zeros(2 * MB)
    async with aioipc.WorkerPool(2, mp_context="fork", max_shared_memory=LIMIT) as pool:
        await pool.run(add_one, values)
        print(os.getpid(), flush=True)
        while True:
            await pool.run(add_one, values)


def kill_programs(count: int) -> None:
    """Kill programs, each in a transfer."""
    rng, before = random.Random(2), _segments()
    for _ in range(count):
        call = [sys.executable, "-m", "benchmarks.transfers", "--for-ever"]
        with subprocess.Popen(
            call, stdout=subprocess.PIPE, start_new_session=True
        ) as it:
            assert it.stdout is not None
            it.stdout.readline()
            time.sleep(rng.random() * 0.05)
            it.kill()
            it.wait()
            deadline = time.monotonic() + 2
            while _is_group_alive(it.pid):
                assert time.monotonic() < deadline, "workers are left"
                time.sleep(0.001)
    left = _segments() - before
    print(f"  {count} programs killed: {len(left)} segments and no worker left")


def _segments() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


def _is_group_alive(group: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


async def memory(count: int) -> None:
    """Resident memory of coordinator and workers after so many transfers of 10 MB."""
    values = np.ones(10 * MB // 8)
    async with aioipc.WorkerPool(
        2, mp_context="forkserver", max_shared_memory=LIMIT
    ) as pool:
        await pool.warm_up()
        before = resident() + sum([await pool.run(resident) for _ in range(2)])
        for _ in range(count):
            await pool.run(add_one, values)
        grown = resident() + sum([await pool.run(resident) for _ in range(2)]) - before
        shared = pool.statistics().shared_memory
    print(
        f"  {count:,} transfers of 10 MB: {grown / MB:.0f} MB more in use, "
        f"{shared / MB:.0f} MB of them shared (bound {LIMIT / MB:.0f})"
    )
    assert grown <= LIMIT
    assert shared <= LIMIT


@click.command()
@click.option("--loop", type=click.Choice([*LOOPS]), default="asyncio")
@click.option("--kills", default=200, show_default=True)
@click.option("--programs", default=20, show_default=True, help="That are killed.")
@click.option("--transfers", default=1_000, show_default=True)
@click.option("--for-ever", is_flag=True, hidden=True)
def main(
    loop: str, kills: int, programs: int, transfers: int, *, for_ever: bool
) -> None:
    """Measure what large transfers promise."""
    if for_ever:
        run_on(loop, transfer_for_ever)
        return
    print(f"transfers of 16 MB, on {loop}")
    run_on(loop, kill_workers, 1)  # starts the fork server
    with no_leaks():
        run_on(loop, kill_workers, kills)
        kill_programs(programs)
    print("memory")
    run_on(loop, memory, transfers)


if __name__ == "__main__":
    main()
