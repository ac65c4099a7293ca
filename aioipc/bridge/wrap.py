"""`wrap`: the awaitable counterpart of what `multiprocessing` made."""

from multiprocessing.connection import Connection
from multiprocessing.managers import BaseProxy
from multiprocessing.process import BaseProcess
from multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, overload

from aioipc.bridge.connection import AsyncConnection
from aioipc.bridge.process import AsyncProcess
from aioipc.bridge.queue import AsyncJoinableQueue, AsyncQueue, AsyncSimpleQueue
from aioipc.bridge.queue_proxy import AsyncQueueProxy
from aioipc.transport.choice import Transport
from aioipc.wire.frames import MAX_FRAME_SIZE

if TYPE_CHECKING:
    import queue

__all__ = ["wrap"]

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
def wrap(obj: BaseProcess, *, transport: Transport | None = ...) -> AsyncProcess: ...
@overload
def wrap(
    obj: "queue.Queue[T]",
) -> AsyncQueueProxy[T]: ...  # typeshed's Manager().Queue()
@overload
def wrap(obj: BaseProxy) -> AsyncQueueProxy[Any]: ...
def wrap(
    obj: Any,
    *,
    transport: Transport | None = None,
    max_message_size: int = MAX_FRAME_SIZE,
) -> Any:
    """Return the awaitable counterpart of an object of `multiprocessing`.

    It owns the object, in this process, until its `detach` gives it back.

    :param obj: a Connection, a Queue, JoinableQueue or SimpleQueue, a manager's queue
        proxy, or a Process
    :param transport: how to wait: ``"readiness"``, ``"threads"``, or None for the best
    :param max_message_size: bytes; a longer message is refused as its length arrives
    :raises TypeError: if there is no counterpart
    """
    match obj:
        case Connection():
            kind: Any = AsyncConnection
        case JoinableQueue():
            kind = AsyncJoinableQueue
        case Queue():
            kind = AsyncQueue
        case SimpleQueue():
            kind = AsyncSimpleQueue
        case BaseProcess():
            return AsyncProcess(obj, transport=transport)
        case BaseProxy() if hasattr(obj, "get") and hasattr(obj, "task_done"):
            return AsyncQueueProxy[Any](obj)
        case _:
            raise TypeError(f"there is no awaitable counterpart of {obj!r}")
    return kind(obj, transport=transport, max_message_size=max_message_size)
