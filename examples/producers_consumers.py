"""Two producers, three consumers, and a coordinator that awaits the results.

The stdlib version polls `empty()`, true also while an item is on its way, and joins the
consumers before it reads, which hangs once the results fill the pipe. Here results are
awaited as they come, and sentinels end first the consumers, then that.
"""

import time
from multiprocessing import Queue, current_process
from typing import Any

import anyio

import aioipc

SECONDS = {"high": 0.01, "medium": 0.02, "low": 0.03}


def produce(tasks: "Queue[Any]", first: int) -> None:
    """Put four tasks."""
    for n in range(first, first + 4):
        task = {"task_id": n, "data": n * 10, "priority": list(SECONDS)[n % 3]}
        tasks.put(task | {"timestamp": time.time()})


def consume(tasks: "Queue[Any]", results: "Queue[Any]") -> None:
    """Handle tasks until the sentinel."""
    while (task := tasks.get()) is not None:
        time.sleep(SECONDS[task["priority"]])
        results.put(task | {"result": task["data"] + 1, "by": current_process().name})


async def collect(results: aioipc.AsyncQueue[Any], done: dict[int, Any]) -> None:
    """Note each result as it comes."""
    async for result in results.until(None):
        done[result["task_id"]] = result


async def main() -> None:
    """Report who did what."""
    done: dict[int, Any] = {}
    async with aioipc.Queue() as tasks, aioipc.Queue() as results:
        consumers = [aioipc.Process(None, consume, n, (tasks, results)) for n in "ABC"]
        producers = [aioipc.Process(None, produce, args=(tasks, n)) for n in (1, 5)]
        async with anyio.create_task_group() as group:
            group.start_soon(collect, results, done)
            async with consumers[0], consumers[1], consumers[2]:
                async with producers[0], producers[1]:
                    pass  # left when both have ended: all tasks are in the queue
                for _ in consumers:
                    await tasks.put(None)
            await results.put(None)  # the consumers have ended: this is the last
    for n, task in sorted(done.items()):
        print(f"task {n} ({task['priority']}): {task['result']} by {task['by']}")
    print(f"{len(done)} of 8 tasks done")


if __name__ == "__main__":
    anyio.run(main)
