"""Await `multiprocessing` and worker processes: streams, and a crash-proof pool.

The names are imported on first use, so that `import aioipc` costs a worker nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioipc._version import __version__
    from aioipc.abc import Pool, Results
    from aioipc.bridge.connection import AsyncConnection, ConnectionStatistics, Pipe
    from aioipc.bridge.process import AsyncProcess, Process
    from aioipc.bridge.queue import (
        AsyncJoinableQueue,
        AsyncQueue,
        AsyncSimpleQueue,
        JoinableQueue,
        Queue,
        QueueStatistics,
        SimpleQueue,
    )
    from aioipc.bridge.queue_proxy import AsyncQueueProxy
    from aioipc.bridge.wrap import wrap
    from aioipc.errors import (
        BrokenResourceError,
        BusyResourceError,
        ClosedResourceError,
        DecodeError,
        EncodeError,
        EndOfStream,
        EventLoopError,
        FrameError,
        QueueEmpty,
        QueueFull,
        TaskCancelled,
        TaskError,
        UndeliveredError,
        WorkerCrashed,
        WorkerStartError,
        WorkerTraceback,
    )
    from aioipc.pool.pool import PoolStatistics, WorkerPool
    from aioipc.pool.task import PoolTask

__all__ = [
    "AsyncConnection",
    "AsyncJoinableQueue",
    "AsyncProcess",
    "AsyncQueue",
    "AsyncQueueProxy",
    "AsyncSimpleQueue",
    "BrokenResourceError",
    "BusyResourceError",
    "ClosedResourceError",
    "ConnectionStatistics",
    "DecodeError",
    "EncodeError",
    "EndOfStream",
    "EventLoopError",
    "FrameError",
    "JoinableQueue",
    "Pipe",
    "Pool",
    "PoolStatistics",
    "PoolTask",
    "Process",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueStatistics",
    "Results",
    "SimpleQueue",
    "TaskCancelled",
    "TaskError",
    "UndeliveredError",
    "WorkerCrashed",
    "WorkerPool",
    "WorkerStartError",
    "WorkerTraceback",
    "__version__",
    "wrap",
]

_HOMES = {
    "aioipc._version": "__version__",
    "aioipc.bridge.wrap": "wrap",
    "aioipc.bridge.connection": "AsyncConnection ConnectionStatistics Pipe",
    "aioipc.bridge.queue": "AsyncQueue AsyncJoinableQueue AsyncSimpleQueue Queue "
    "JoinableQueue SimpleQueue QueueStatistics",
    "aioipc.bridge.queue_proxy": "AsyncQueueProxy",
    "aioipc.bridge.process": "AsyncProcess Process",
    "aioipc.pool.pool": "PoolStatistics WorkerPool",
    "aioipc.pool.task": "PoolTask",
    "aioipc.abc": "Pool Results",
    "aioipc.errors": "BrokenResourceError BusyResourceError ClosedResourceError "
    "DecodeError EncodeError EndOfStream EventLoopError FrameError QueueEmpty "
    "QueueFull TaskCancelled TaskError UndeliveredError WorkerCrashed "
    "WorkerStartError WorkerTraceback",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'aioipc' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
