"""A Dask scheduler, and many workers in one process: both are programs of this file.

To the scheduler they are as many as processes would be, and they take the memory of
one. Each program says one line when it is ready, and ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True)
class Crowd:
    """A cluster of so many workers, to be measured."""

    count: int
    module: str | None = "distributed"

    @property
    def name(self) -> str:
        return f"{self.count:,} workers"


@contextlib.asynccontextmanager
async def cluster(crowd: Crowd) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Start a scheduler and its workers; yield the address, and its process."""
    async with (
        _program() as (scheduler, address),
        _program(address, str(crowd.count)),
    ):
        yield address, scheduler


@contextlib.asynccontextmanager
async def _program(*args: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Start this file, and wait until it says something."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, *args),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        line = await process.stdout.readline()  # pyright: ignore[reportOptionalMemberAccess]
        if not line:
            raise RuntimeError(f"{__name__} {' '.join(args)} did not start")
        yield psutil.Process(process.pid), line.decode().strip()
    finally:
        process.kill()
        await process.communicate()


async def _serve() -> None:
    """Be the scheduler."""
    from distributed import Scheduler  # noqa: PLC0415

    async with Scheduler(
        host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
    ) as scheduler:
        print(scheduler.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _work(address: str, count: int) -> None:
    """Be the workers."""
    from distributed import Worker  # noqa: PLC0415

    workers = [Worker(address, nthreads=1, name=str(n)) for n in range(count)]
    for some in range(0, count, 20):
        await asyncio.gather(*workers[some : some + 20])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if args := sys.argv[1:]:
        asyncio.run(_work(args[0], int(args[1])))
    else:
        asyncio.run(_serve())
