"""`wrap`: the awaitable counterpart of what `multiprocessing` made."""

from collections.abc import Sequence
from multiprocessing.connection import Connection, Listener
from multiprocessing.managers import (
    BaseManager,
    BaseProxy,
    DictProxy,
    ListProxy,
    Namespace,
    ValueProxy,
)
from multiprocessing.process import BaseProcess
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from multiprocessing.sharedctypes import (
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
)
from multiprocessing.synchronize import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)
from typing import TYPE_CHECKING, Any, TypeVar, overload

from aioipc.bridge.barrier import AsyncBarrier
from aioipc.bridge.conditions import AsyncCondition, AsyncEvent
from aioipc.bridge.connection import AsyncConnection
from aioipc.bridge.event_proxies import AsyncBarrierProxy, AsyncEventProxy
from aioipc.bridge.listener import AsyncListener
from aioipc.bridge.lock_proxies import (
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
)
from aioipc.bridge.manager import AsyncManager
from aioipc.bridge.process import AsyncProcess
from aioipc.bridge.proxies import (
    AsyncArrayProxy,
    AsyncDictProxy,
    AsyncListProxy,
    AsyncNamespaceProxy,
    AsyncValueProxy,
)
from aioipc.bridge.proxy import AsyncProxy, counterpart
from aioipc.bridge.queue import AsyncJoinableQueue, AsyncQueue, AsyncSimpleQueue
from aioipc.bridge.queue_proxy import AsyncQueueProxy
from aioipc.bridge.shared_values import AsyncArray, AsyncValue
from aioipc.transport.choice import Transport

if TYPE_CHECKING:
    import queue
    import threading

__all__ = ["wrap"]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


@overload
def wrap(
    obj: "Connection[Any, T]",
    *,
    transport: Transport | None = ...,
    max_message_size: int = ...,
) -> AsyncConnection[T]: ...
@overload
def wrap(
    obj: "JoinableQueue[T]",
    *,
    transport: Transport | None = ...,
    max_message_size: int = ...,
) -> AsyncJoinableQueue[T]: ...
@overload
def wrap(
    obj: "Queue[T]",
    *,
    transport: Transport | None = ...,
    max_message_size: int = ...,
) -> AsyncQueue[T]: ...
@overload
def wrap(
    obj: "SimpleQueue[T]",
    *,
    transport: Transport | None = ...,
    max_message_size: int = ...,
) -> AsyncSimpleQueue[T]: ...
@overload
def wrap(
    obj: Listener,
    *,
    transport: Transport | None = ...,
    max_message_size: int = ...,
) -> AsyncListener: ...
@overload
def wrap(obj: BaseProcess, *, transport: Transport | None = ...) -> AsyncProcess: ...
@overload
def wrap(obj: Lock) -> AsyncLock: ...
@overload
def wrap(obj: RLock) -> AsyncRLock: ...
@overload
def wrap(obj: BoundedSemaphore) -> AsyncBoundedSemaphore: ...
@overload
def wrap(obj: Semaphore) -> AsyncSemaphore: ...
@overload
def wrap(obj: Event) -> AsyncEvent: ...
@overload
def wrap(obj: Condition) -> AsyncCondition: ...
@overload
def wrap(  # pyright: ignore[reportOverlappingOverload] - it is threading's, too
    obj: Barrier,
) -> AsyncBarrier: ...
@overload
def wrap(  # pyright: ignore[reportOverlappingOverload] - it is a SynchronizedBase, too
    obj: "SynchronizedArray[T]",
) -> AsyncArray[T]: ...
@overload
def wrap(obj: "Synchronized[T]") -> AsyncValue[T]: ...
@overload
def wrap(obj: "SynchronizedBase[Any]") -> AsyncValue[Any]: ...
@overload
def wrap(obj: BaseManager) -> AsyncManager: ...
# What a manager makes, in the words of typeshed
@overload
def wrap(obj: "queue.Queue[T]") -> AsyncQueueProxy[T]: ...
@overload
def wrap(obj: "DictProxy[K, V]") -> AsyncDictProxy[K, V]: ...
@overload
def wrap(  # pyright: ignore[reportOverlappingOverload] - it is a Sequence, too
    obj: "ListProxy[T]",
) -> AsyncListProxy[T]: ...
@overload
def wrap(obj: Sequence[T]) -> AsyncArrayProxy[T]: ...  # the word for an Array
@overload
def wrap(obj: "ValueProxy[T]") -> AsyncValueProxy[T]: ...
@overload
def wrap(obj: Namespace) -> AsyncNamespaceProxy: ...
@overload
def wrap(obj: "threading.Lock") -> AsyncLockProxy: ...
@overload
def wrap(obj: "threading.RLock") -> AsyncRLockProxy: ...
@overload
def wrap(obj: "threading.Semaphore") -> AsyncSemaphoreProxy: ...
@overload
def wrap(obj: "threading.Condition") -> AsyncConditionProxy: ...
@overload
def wrap(obj: "threading.Event") -> AsyncEventProxy: ...
@overload
def wrap(obj: "threading.Barrier") -> AsyncBarrierProxy: ...
@overload
def wrap(obj: BaseProxy) -> AsyncProxy: ...
def wrap(
    obj: Any,
    *,
    transport: Transport | None = None,
    max_message_size: int | None = None,
) -> Any:
    """Return the awaitable counterpart of an object of `multiprocessing`.

    It owns the object, in this process, until its `detach` gives it back.

    :param obj: a Connection, a Queue, JoinableQueue or SimpleQueue, a Listener, a
        Process, a Lock, RLock, Semaphore or BoundedSemaphore, an Event, a Condition, a
        Barrier, a Value or Array that has a lock, a manager, or any proxy of one
    :param transport: how to wait: ``"readiness"``, ``"threads"``, or None for the best;
        for a Connection, a queue, a Listener, a Process
    :param max_message_size: bytes; a longer message is refused as its length arrives;
        for a Connection, a queue, a Listener
    :raises TypeError: if there is no counterpart, or it does not take the option
    """
    options = {"transport": transport, "max_message_size": max_message_size}
    given = {name: value for name, value in options.items() if value is not None}
    for kind, (awaitable, *takes) in _COUNTERPARTS.items():
        if isinstance(obj, kind):
            for name in given.keys() - takes:
                msg = f"the counterpart of a {kind.__name__} takes no {name}"
                raise TypeError(msg)
            return awaitable(obj, **given)
    raise TypeError(f"there is no awaitable counterpart of {obj!r}")


_STREAM = "transport", "max_message_size"

# The first that fits; with the options that it takes
_COUNTERPARTS: dict[type, tuple[Any, *tuple[str, ...]]] = {
    Connection: (AsyncConnection, *_STREAM),
    JoinableQueue: (AsyncJoinableQueue, *_STREAM),
    Queue: (AsyncQueue, *_STREAM),
    SimpleQueue: (AsyncSimpleQueue, *_STREAM),
    Listener: (AsyncListener, *_STREAM),
    BaseProcess: (AsyncProcess, "transport"),
    Lock: (AsyncLock,),
    RLock: (AsyncRLock,),
    BoundedSemaphore: (AsyncBoundedSemaphore,),
    Semaphore: (AsyncSemaphore,),
    Event: (AsyncEvent,),
    Condition: (AsyncCondition,),
    Barrier: (AsyncBarrier,),
    SynchronizedArray: (AsyncArray,),
    SynchronizedBase: (AsyncValue,),
    BaseManager: (AsyncManager,),
    BaseProxy: (counterpart,),
}
