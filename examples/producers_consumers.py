"""Two producers, three consumers, and a coordinator that awaits the results.

The stdlib version polls `empty()`, true also while an item is on its way, and joins the
consumers before it reads their results, which hangs once these fill the pipe. Here
results are awaited as they come, and sentinels end the consumers.
"""

import time
from multiprocessing import Queue, current_process
from typing import Any

import anyio

import aioipc

SECONDS = {"high": 0.01, "medium": 0.02, "low": 0.03}
PRIORITIES = list(SECONDS)


def produce(tasks: "Queue[Any]", first: int) -> None:
    """Put four tasks."""
    for n in range(first, first + 4):
        task = {"task_id": n, "data": n * 10, "priority": PRIORITIES[n % 3]}
        tasks.put(task | {"timestamp": time.time()})


def consume(tasks: "Queue[Any]", results: "Queue[Any]") -> None:
    """Handle tasks until the sentinel; say so with another one."""
    while (task := tasks.get()) is not None:
        time.sleep(SECONDS[task["priority"]])
        results.put(task | {"result": task["data"] + 1, "by": current_process().name})
    results.put(None)


async def main() -> None:
    """Report who did what."""
    done: dict[int, Any] = {}
    async with (
        aioipc.Queue() as tasks,
        aioipc.Queue() as results,
        aioipc.Process(None, consume, "consumer-1", (tasks, results)),
        aioipc.Process(None, consume, "consumer-2", (tasks, results)),
        aioipc.Process(None, consume, "consumer-3", (tasks, results)),
    ):
        async with aioipc.Process(None, produce, "producer-1", (tasks, 1)):  # noqa: SIM117
            async with aioipc.Process(None, produce, "producer-2", (tasks, 5)):
                pass  # left when both have ended: all tasks are in the queue
        for _ in range(3):
            await tasks.put(None)
        for _ in range(3):
            done |= {r["task_id"]: r async for r in results.until(None)}
    for task_id, task in sorted(done.items()):
        print(f"task {task_id} ({task['priority']}): {task['result']} by {task['by']}")
    print(f"{len(done)} of 8 tasks done")


if __name__ == "__main__":
    anyio.run(main)
