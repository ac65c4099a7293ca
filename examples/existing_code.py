"""A program written for multiprocessing, awaited. Its workers are as they were."""

import time
from multiprocessing import Event, JoinableQueue, Lock, Process, Queue, Value
from typing import Any

import anyio

import aioipc


def worker(start: Any, tasks: Any, results: Any, lock: Any, total: Any) -> None:
    """Do tasks until the sentinel, once told to start."""
    start.wait()
    while (task := tasks.get()) is not None:
        with lock:  # of something that two can't use at a time
            time.sleep(0.01)
            total.value += 1
        results.put(task**2)
        tasks.task_done()
    tasks.task_done()


async def tick(ticks: list[int]) -> None:
    """Do what else there is to do; a blocking `results.get()` would not let us."""
    while True:
        await anyio.sleep(0.01)
        ticks.append(len(ticks))


async def main() -> None:
    """Have ten numbers squared by two workers."""
    tasks: JoinableQueue[int | None] = JoinableQueue()
    results: Queue[int] = Queue()
    start, lock, total = Event(), Lock(), Value("i", 0)
    args = (start, tasks, results, lock, total)
    ticks: list[int] = []
    async with (
        aioipc.wrap(tasks) as todo,
        aioipc.wrap(results) as squares,
        aioipc.wrap(Process(target=worker, args=args)),
        aioipc.wrap(Process(target=worker, args=args)),
        anyio.create_task_group() as group,
    ):
        group.start_soon(tick, ticks)
        for task in (*range(10), None, None):
            await todo.put(task)
        async with aioipc.wrap(lock):  # the workers wait for it, and the loop goes on
            await aioipc.wrap(start).set()
            print("done while we have the lock:", aioipc.wrap(total).value)
        await todo.join()
        print(sorted([await squares.get() for _ in range(10)]))
        print("tasks done:", aioipc.wrap(total).value)
        print("meanwhile the loop was free:", len(ticks) > 1)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
