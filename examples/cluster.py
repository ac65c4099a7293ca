"""The same on processes, and on a cluster of programs that loses one in the middle."""

import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise

import anyio

import aioipc

WEB = ("--dashboard-address", "127.0.0.1:0")
Program = subprocess.Popen[bytes]
BLOCKS = [range(start, start + 1000) for start in range(0, 40_000, 1000)]


def primes(block: range) -> list[int]:
    """Return the primes of a block."""
    return [n for n in block if n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))]


def twins(found: list[int]) -> int:
    """Count the neighbours that are two apart."""
    return sum(b - a == 2 for a, b in pairwise(found))


async def pipeline(pool: aioipc.Pool, victim: Program | None = None) -> int:
    """Count twins in each block as soon as its primes are known."""
    total = 0
    async for count in pool.map(twins, pool.map(primes, BLOCKS, buffersize=8)):
        total += count
        if victim and total > 100:
            victim.kill()  # more than once does no harm
    return total


async def main() -> None:
    """Run it on each."""
    async with aioipc.WorkerPool(2) as pool:
        print("on processes:", await pipeline(pool))
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
    with ExitStack() as stack:

        def dask(name: str, *args: str) -> Program:
            command = [sys.executable, "-m", "dask", name, *args, *WEB]
            program = stack.enter_context(Program(command, stderr=subprocess.DEVNULL))
            stack.callback(program.kill)
            return program

        dask("scheduler", "--host", host, "--port", str(port))
        one, _ = (dask("worker", f"{host}:{port}", "--no-nanny") for _ in range(2))
        async with aioipc.open_pool(f"dask://{host}:{port}") as pool:
            print("on a cluster:", await pipeline(pool, one))


if __name__ == "__main__":
    anyio.run(main)
