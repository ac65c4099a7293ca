"""Await `multiprocessing` and worker processes: streams, a pool, crash-proof queues.

The names are imported on first use, so that `import aioipc` costs a worker nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioipc._version import __version__
    from aioipc.abc import Capabilities, Pool, PoolStatistics, Results
    from aioipc.bridge.barrier import AsyncBarrier, Barrier, BarrierStatistics
    from aioipc.bridge.conditions import (
        AsyncCondition,
        AsyncEvent,
        Condition,
        ConditionStatistics,
        Event,
        EventStatistics,
    )
    from aioipc.bridge.connection import AsyncConnection, ConnectionStatistics, Pipe
    from aioipc.bridge.event_proxies import AsyncBarrierProxy, AsyncEventProxy
    from aioipc.bridge.listener import AsyncListener, Client, Listener
    from aioipc.bridge.lock_proxies import (
        AsyncAcquirerProxy,
        AsyncConditionProxy,
        AsyncLockProxy,
        AsyncRLockProxy,
        AsyncSemaphoreProxy,
    )
    from aioipc.bridge.locks import (
        AsyncBoundedSemaphore,
        AsyncLock,
        AsyncRLock,
        AsyncSemaphore,
        BoundedSemaphore,
        Lock,
        LockStatistics,
        RLock,
        Semaphore,
    )
    from aioipc.bridge.manager import AsyncManager, Manager
    from aioipc.bridge.process import AsyncProcess, Process
    from aioipc.bridge.proxies import (
        AsyncArrayProxy,
        AsyncDictProxy,
        AsyncIteratorProxy,
        AsyncListProxy,
        AsyncNamespaceProxy,
        AsyncValueProxy,
    )
    from aioipc.bridge.proxy import AsyncProxy
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
    from aioipc.bridge.shared_values import Array, AsyncArray, AsyncValue, Value
    from aioipc.bridge.waiting import wait
    from aioipc.bridge.wrap import wrap
    from aioipc.broker.broker import Broker, BrokerStatistics
    from aioipc.broker.locks import (
        BrokerBarrier,
        BrokerCondition,
        BrokerEvent,
        BrokerLock,
        BrokerSemaphore,
    )
    from aioipc.broker.queues import BrokerDeque, BrokerQueue, BrokerQueueStatistics
    from aioipc.broker.remote_broker import RemoteBroker
    from aioipc.broker.remote_locks import (
        RemoteBarrier,
        RemoteCondition,
        RemoteEvent,
        RemoteLock,
        RemoteSemaphore,
    )
    from aioipc.broker.remote_queue import RemoteDeque, RemoteQueue
    from aioipc.errors import (
        AuthenticationError,
        BrokenBarrierError,
        BrokenResourceError,
        BusyResourceError,
        ClosedResourceError,
        DecodeError,
        EncodeError,
        EndOfStream,
        EventLoopError,
        FrameError,
        QueueClosed,
        QueueEmpty,
        QueueFull,
        QueueShutDown,
        TaskCancelled,
        TaskError,
        UndeliveredError,
        UnsupportedOperation,
        WorkerCrashed,
        WorkerStartError,
        WorkerTraceback,
    )
    from aioipc.pool.opening import open_pool
    from aioipc.pool.pool import WorkerPool
    from aioipc.pool.task import PoolTask
    from aioipc.pool.threads import ThreadPool
    from aioipc.transport.acceptor import ListenerStatistics
    from aioipc.wire.shutdown import ShutDown

__all__ = [
    "Array",
    "AsyncAcquirerProxy",
    "AsyncArray",
    "AsyncArrayProxy",
    "AsyncBarrier",
    "AsyncBarrierProxy",
    "AsyncBoundedSemaphore",
    "AsyncCondition",
    "AsyncConditionProxy",
    "AsyncConnection",
    "AsyncDictProxy",
    "AsyncEvent",
    "AsyncEventProxy",
    "AsyncIteratorProxy",
    "AsyncJoinableQueue",
    "AsyncListProxy",
    "AsyncListener",
    "AsyncLock",
    "AsyncLockProxy",
    "AsyncManager",
    "AsyncNamespaceProxy",
    "AsyncProcess",
    "AsyncProxy",
    "AsyncQueue",
    "AsyncQueueProxy",
    "AsyncRLock",
    "AsyncRLockProxy",
    "AsyncSemaphore",
    "AsyncSemaphoreProxy",
    "AsyncSimpleQueue",
    "AsyncValue",
    "AsyncValueProxy",
    "AuthenticationError",
    "Barrier",
    "BarrierStatistics",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BrokenResourceError",
    "Broker",
    "BrokerBarrier",
    "BrokerCondition",
    "BrokerDeque",
    "BrokerEvent",
    "BrokerLock",
    "BrokerQueue",
    "BrokerQueueStatistics",
    "BrokerSemaphore",
    "BrokerStatistics",
    "BusyResourceError",
    "Capabilities",
    "Client",
    "ClosedResourceError",
    "Condition",
    "ConditionStatistics",
    "ConnectionStatistics",
    "DecodeError",
    "EncodeError",
    "EndOfStream",
    "Event",
    "EventLoopError",
    "EventStatistics",
    "FrameError",
    "JoinableQueue",
    "Listener",
    "ListenerStatistics",
    "Lock",
    "LockStatistics",
    "Manager",
    "Pipe",
    "Pool",
    "PoolStatistics",
    "PoolTask",
    "Process",
    "Queue",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "QueueStatistics",
    "RLock",
    "RemoteBarrier",
    "RemoteBroker",
    "RemoteCondition",
    "RemoteDeque",
    "RemoteEvent",
    "RemoteLock",
    "RemoteQueue",
    "RemoteSemaphore",
    "Results",
    "Semaphore",
    "ShutDown",
    "SimpleQueue",
    "TaskCancelled",
    "TaskError",
    "ThreadPool",
    "UndeliveredError",
    "UnsupportedOperation",
    "Value",
    "WorkerCrashed",
    "WorkerPool",
    "WorkerStartError",
    "WorkerTraceback",
    "__version__",
    "open_pool",
    "wait",
    "wrap",
]

_HOMES = {
    "aioipc._version": "__version__",
    "aioipc.bridge.wrap": "wrap",
    "aioipc.bridge.connection": "AsyncConnection ConnectionStatistics Pipe",
    "aioipc.bridge.queue": "AsyncJoinableQueue AsyncQueue AsyncSimpleQueue "
    "JoinableQueue Queue QueueStatistics SimpleQueue",
    "aioipc.bridge.queue_proxy": "AsyncQueueProxy",
    "aioipc.bridge.process": "AsyncProcess Process",
    "aioipc.bridge.listener": "AsyncListener Client Listener",
    "aioipc.bridge.waiting": "wait",
    "aioipc.bridge.barrier": "AsyncBarrier Barrier BarrierStatistics",
    "aioipc.bridge.conditions": "AsyncCondition AsyncEvent Condition "
    "ConditionStatistics Event EventStatistics",
    "aioipc.bridge.locks": "AsyncBoundedSemaphore AsyncLock AsyncRLock "
    "AsyncSemaphore BoundedSemaphore Lock "
    "LockStatistics RLock Semaphore",
    "aioipc.bridge.shared_values": "Array AsyncArray AsyncValue Value",
    "aioipc.bridge.manager": "AsyncManager Manager",
    "aioipc.bridge.proxy": "AsyncProxy",
    "aioipc.bridge.proxies": "AsyncArrayProxy AsyncDictProxy "
    "AsyncIteratorProxy AsyncListProxy "
    "AsyncNamespaceProxy AsyncValueProxy",
    "aioipc.bridge.event_proxies": "AsyncBarrierProxy AsyncEventProxy",
    "aioipc.bridge.lock_proxies": "AsyncAcquirerProxy AsyncConditionProxy "
    "AsyncLockProxy AsyncRLockProxy AsyncSemaphoreProxy",
    "aioipc.pool.pool": "WorkerPool",
    "aioipc.pool.opening": "open_pool",
    "aioipc.pool.task": "PoolTask",
    "aioipc.pool.threads": "ThreadPool",
    "aioipc.broker.broker": "Broker BrokerStatistics",
    "aioipc.broker.queues": "BrokerDeque BrokerQueue BrokerQueueStatistics",
    "aioipc.broker.locks": "BrokerBarrier BrokerCondition BrokerEvent "
    "BrokerLock BrokerSemaphore",
    "aioipc.broker.remote_broker": "RemoteBroker",
    "aioipc.broker.remote_queue": "RemoteDeque RemoteQueue",
    "aioipc.broker.remote_locks": "RemoteBarrier RemoteCondition RemoteEvent "
    "RemoteLock RemoteSemaphore",
    "aioipc.abc": "Capabilities Pool PoolStatistics Results",
    "aioipc.wire.shutdown": "ShutDown",
    "aioipc.errors": "AuthenticationError BrokenBarrierError "
    "BrokenResourceError BusyResourceError "
    "ClosedResourceError DecodeError EncodeError "
    "EndOfStream EventLoopError FrameError QueueClosed QueueEmpty "
    "QueueFull QueueShutDown TaskCancelled TaskError "
    "UndeliveredError UnsupportedOperation WorkerCrashed WorkerStartError "
    "WorkerTraceback",
    "aioipc.transport.acceptor": "ListenerStatistics",
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
