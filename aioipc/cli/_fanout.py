"""How do many files get through few workers? The coordinator's side of the demo.

Each worker has one task here, which keeps it busy until no path is left:

    todo ──> send ──> [ pipe ] ──> worker: measure ──> [ pipe ] ──> recv ──> on_result

The worker at the far end is `_measure.serve`: plain, blocking `multiprocessing`.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from contextlib import asynccontextmanager
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any

import anyio

# By name: `aioipc.Pipe` would be loaded on first use, and hold up the event loop.
from aioipc import AsyncConnection, AsyncProcess, Pipe, Process
from aioipc.cli._measure import FileReport, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from multiprocessing.context import BaseContext

# One file that the worker is measuring, and one for it to go on with at once. Both
# paths fit into any pipe, so sending never waits for a worker that waits to send.
_IN_FLIGHT = 2

START_METHOD = (
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)


async def fan_out(
    paths: Iterable[str],
    workers: int,
    on_result: Callable[[FileReport], object],
    *,
    context: BaseContext | None = None,
) -> None:
    """Measure each file in one of `workers` processes; report each as it is done.

    `on_result` gets exactly one report for each path, in order of completion. If a
    worker dies, the file that it was measuring is reported with an error, and a new
    worker takes its place. A cancel ends all workers.
    """
    todo = deque(paths)
    async with anyio.create_task_group() as tasks:
        for _ in range(min(workers, len(todo))):
            tasks.start_soon(_keep_busy, todo, on_result, context)


def worker_context() -> BaseContext:
    """Choose how workers start: from a fork server where there is one, else by spawn.

    Not by fork, which would copy the coordinator and its event loop into each worker.
    The fork server imports their module beforehand. On a 2-CPU machine, 2 workers had
    answered after 48 ms, and 16 after 89 ms; by spawn, after 60 and 380.

    The fork server starts with SIGINT blocked, which its workers inherit, so that not
    even one that is just being born answers a Ctrl-C with a traceback.
    """
    context = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "spawn":
        return context
    context.set_forkserver_preload([serve.__module__])
    # The tracker unblocks SIGINT behind itself when it starts: let it go first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


async def _keep_busy(
    todo: deque[str],
    on_result: Callable[[FileReport], object],
    context: BaseContext | None,
) -> None:
    """Work with one worker until nothing is left to do; with another if it dies."""
    while todo:
        in_flight: deque[str] = deque()
        async with _worker(context) as (connection, process):
            try:
                await _converse(connection, todo, in_flight, on_result)
            except (EOFError, BrokenPipeError):
                cause = _cause_of_death(await process.join())
                if in_flight:
                    on_result(FileReport(in_flight.popleft(), error=cause))
                todo.extendleft(reversed(in_flight))


@asynccontextmanager
async def _worker(
    context: BaseContext | None,
) -> AsyncGenerator[tuple[AsyncConnection[Any], AsyncProcess]]:
    """Have a worker inside the block, with a connection to it."""
    parent, child = Pipe(context=context)
    process = Process(target=serve, args=(child,), context=context)
    async with parent, process:
        child.close()  # So that the worker's own end is the last, and its death an EOF.
        yield parent, process


async def _converse(
    connection: AsyncConnection[Any],
    todo: deque[str],
    in_flight: deque[str],
    on_result: Callable[[FileReport], object],
) -> None:
    """Send paths ahead of the reports that are received; end with None.

    Reports arrive in the order of the paths, so the oldest path in flight is the
    one that the worker is at: left there when the connection breaks.
    """
    while todo or in_flight:
        while todo and len(in_flight) < _IN_FLIGHT:
            in_flight.append(todo.popleft())
            await connection.send(in_flight[-1])
        report = await connection.recv()
        in_flight.popleft()
        on_result(report)
    await connection.send(None)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"the worker died on it: {signal.strsignal(-exitcode)}"
    return f"the worker died on it: exit code {exitcode}"
