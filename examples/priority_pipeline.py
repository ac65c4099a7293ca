"""Urgent jobs first, and none lost: a worker is killed in the middle of one.

What a worker has taken from a queue with `ack="manual"` is on lease until its
`task_done`. If the worker dies before, another one gets the job, in its old place.
"""

from collections import Counter

import anyio

import aioipc

URGENT, NORMAL = 0, 1
JOBS = [(NORMAL, f"thumbnail {n}") for n in (1, 2, 3, 4)] + [
    (URGENT, f"payment {n}") for n in (1, 2)
]

Jobs = aioipc.RemoteQueue[tuple[int, str]]
Reports = aioipc.RemoteQueue[tuple[str, str, str]]


def work(name: str, jobs: Jobs, reports: Reports, go: aioipc.RemoteEvent) -> None:
    """Do jobs until there are no more; blocking, as workers are."""
    for _, job in jobs:
        reports.put((name, "begins", job))
        go.wait()  # stands for what takes its time
        reports.put((name, "has done", job))
        jobs.task_done()


async def main() -> None:
    """Hand out jobs, lose a worker, and count how often each job was done."""
    async with aioipc.Broker() as broker:
        jobs = broker.PriorityQueue(maxsize=100, ack="manual")
        reports, go = broker.Queue(), broker.Event()
        rest = jobs, reports, go
        a, b, c = (aioipc.Process(None, work, args=(name, *rest)) for name in "ABC")
        for job in JOBS:
            await jobs.put(job)
        print(f"{jobs.qsize()} jobs wait; the urgent ones came last")
        async with a, b:
            pair = await reports.get(), await reports.get()
            begun = {job: name for name, _, job in pair}
            print("two workers begin with", " and ".join(sorted(begun)))
            victim = {"A": a, "B": b}[begun["payment 1"]]
            victim.kill()
            print(f"the worker at payment 1 is killed: exit code {await victim.join()}")
            async with c:
                print("worker {} {} {}".format(*await reports.get()))
                go.set()
                await jobs.join()  # until each job is done, by whomever
                jobs.shutdown()
        reports.shutdown()
        done = Counter([job async for _, what, job in reports if what == "has done"])
        print(f"{len(done)} jobs are done, so many times each: {[*done.values()]}")


if __name__ == "__main__":
    anyio.run(main)
