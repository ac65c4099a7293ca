"""Hand out jobs over TCP, with a key, to other programs: plain multiprocessing."""

import secrets
import sys
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import anyio

import aioipc

JOBS = [1000, 2000, 3000, 4000, 5000]


def work(port: int) -> None:
    """Be a worker: a program that was given a port, and a key where no one sees it."""
    key = sys.stdin.buffer.read()
    try:
        with Client(("127.0.0.1", port), authkey=key) as coordinator:
            while (job := coordinator.recv()) is not None:
                coordinator.send(sum(n * n for n in range(job)))
    except AuthenticationError as error:
        print("a worker says:", error)


async def hand_out(worker: aioipc.AsyncConnection[int | None]) -> None:
    """Have one worker do jobs, as long as there are some."""
    async with worker:
        while JOBS:
            await worker.send(job := JOBS.pop())
            print(f"the sum of {job} squares is {await worker.recv()}")
        await worker.send(None)


async def serve(listener: aioipc.AsyncListener) -> None:
    """Hand out jobs to all workers that know the key, side by side."""
    async with anyio.create_task_group() as group:
        async for worker in listener:
            group.start_soon(hand_out, worker)


async def main() -> None:
    """Be the coordinator, and start four workers, one of which has a wrong key."""
    key = secrets.token_bytes()
    async with aioipc.Listener(("127.0.0.1", 0), authkey=key) as listener:
        command = [sys.executable, __file__, str(listener.address[1])]
        start = partial(anyio.run_process, command, stdout=None)
        async with anyio.create_task_group() as group:
            group.start_soon(serve, listener)
            async with anyio.create_task_group() as workers:
                for its_key in (key, b"a wrong key", key, key):
                    workers.start_soon(partial(start, input=its_key))
            group.cancel_scope.cancel()  # there is no one left to serve
        print(listener.statistics().refused, "refused")


if __name__ == "__main__":
    anyio.run(main) if len(sys.argv) == 1 else work(int(sys.argv[1]))
