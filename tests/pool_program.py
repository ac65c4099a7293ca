"""A program with a pool, for tests that end it: prints the pids of its workers."""

import sys

import anyio
import pool_tasks as tasks

import aioipc


async def main(method: str, fifo: str) -> None:
    async with aioipc.WorkerPool(3, mp_context=method) as pool:
        await pool.warm_up()
        pool.submit(tasks.loop_forever, fifo)
        pool.submit(tasks.hold_gil, fifo)
        pids = [member.pid for member in pool._crew.members.values()]
        print(*pids, flush=True)  # noqa: T201
        await anyio.sleep_forever()


if __name__ == "__main__":
    loop, method, fifo = sys.argv[1:]
    options = {} if loop == "trio" else {"use_uvloop": loop == "uvloop"}
    backend = "trio" if loop == "trio" else "asyncio"
    anyio.run(main, method, fifo, backend=backend, backend_options=options)
