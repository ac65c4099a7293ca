"""Await squares from a worker, over one duplex pipe.

The worker is plain multiprocessing, and could be a program that you already have.
"""

from multiprocessing.connection import Connection  # noqa: TC003
from typing import Any

import anyio

import aioipc


def square_all(connection: "Connection[int, int | None]") -> None:
    """Answer each number with its square, until None."""
    while (number := connection.recv()) is not None:
        connection.send(number * number)


async def main() -> None:
    """Have five numbers squared."""
    parent: aioipc.AsyncConnection[Any]
    parent, child = aioipc.Pipe()
    async with parent, aioipc.Process(target=square_all, args=(child,)) as worker:
        child.close()  # the worker has its own; now its death would be an end of stream
        results: list[int] = []
        for task in (1, 2, 3, 4, 5):
            await parent.send(task)
            results.append(await parent.recv())
        await parent.send(None)
        print(results)
        print("exit code", await worker.join())


if __name__ == "__main__":
    anyio.run(main)
