"""What the tests of `DaskPool` look at: programs, its client, and the scheduler."""

import subprocess
import sys
from typing import Any

from aioipc.dask import DaskPool


def run_program(code: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that is given as text, to its end."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def client_of(pool: DaskPool) -> Any:
    return pool._engine._connection.client


def names(dask_scheduler: Any) -> set[str]:
    """Return all that a scheduler knows of aioipc's."""
    extensions = dask_scheduler.extensions
    known = [
        *(dask_scheduler._broker._topics, dask_scheduler.worker_plugins),
        *(extensions["queues"].queues, extensions["events"]._events),
        extensions["semaphores"].max_leases,
    ]
    return {name for names in known for name in names if name.startswith("aioipc")}


def queue_waiters(name: str, dask_scheduler: Any) -> int:
    """Return how many requests wait for an item."""
    queues = dask_scheduler.extensions["queues"].queues
    return len(queues[name]._getters) if name in queues else 0


def semaphore_waiters(name: str, dask_scheduler: Any) -> int:
    """Return how many requests wait for a permit."""
    return len(dask_scheduler.extensions["semaphores"].events[name]._waiters)


def event_waiters(name: str, dask_scheduler: Any) -> int:
    """Return how many requests wait for an event."""
    return dask_scheduler.extensions["events"]._waiter_count[name]
