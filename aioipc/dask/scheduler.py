"""What the scheduler does for a pool; all here runs there.

Above all when the pool leaves it. Dask itself keeps a queue, a lock, an event or topic
for as long as the scheduler lives, and who waits for one that is gone waits for ever.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

__all__ = ["Kind", "Left", "assigned", "settle"]

_log = logging.getLogger(__name__)

Kind = Literal["queues", "semaphores", "events"]
"""Dask's extension of the scheduler that has something shared."""


class Left(NamedTuple):
    """What a pool leaves of something shared.

    :ivar ends: whether it ends for all
    :ivar items: that were taken out of a queue, for no one
    :ivar leases: of a semaphore, that were not given back
    """

    kind: Kind
    name: str
    ends: bool
    items: Sequence[bytes] = ()
    leases: Sequence[str] = ()


def assigned(keys: Iterable[str], dask_scheduler: Any) -> dict[str, list[str]]:
    """Return which of these tasks have been given to which worker."""
    found: dict[str, list[str]] = {}
    for key in keys:
        task = dask_scheduler.tasks.get(key)
        if task is not None and task.processing_on is not None:
            found.setdefault(task.processing_on.address, []).append(key)
    return found


def settle(topic: str, left: Iterable[Left], dask_scheduler: Any) -> None:
    """Forget a pool's topic, and put in order what it has left."""
    topics: dict[str, Any] = getattr(dask_scheduler._broker, "_topics", {})  # noqa: SLF001
    topics.pop(topic, None)
    for each in left:
        try:
            extension = dask_scheduler.extensions[each.kind]
            _SETTLE[each.kind](extension, each)
        except Exception:  # noqa: BLE001 - the others are to be settled, too
            _log.exception("%s", each)


def _settle_queue(queues: Any, left: Left) -> None:
    queue = queues.queues.get(left.name)
    if queue is None:
        return
    if left.ends:
        while left.name in queues.queues:  # it counts who has known it
            queues.release(left.name)
        _fail([*queue._getters, *queue._putters], left.name)  # noqa: SLF001
        return
    for data in reversed(left.items):
        queue._queue.appendleft({"type": "msgpack", "value": data})  # noqa: SLF001
    for _ in left.items:
        queue._wakeup_next(queue._getters)  # noqa: SLF001


def _settle_semaphore(semaphores: Any, left: Left) -> None:
    if left.ends:
        event = semaphores.events.get(left.name)
        for known in (semaphores.leases, semaphores.metrics["pending"]):
            known.pop(left.name, None)  # to close warns of them
        semaphores.close(left.name)
        _fail_waiters(event, left.name)
        return
    for lease in left.leases:
        with suppress(KeyError):  # it has timed out
            semaphores._release_value(left.name, lease)  # noqa: SLF001


def _settle_event(events: Any, left: Left) -> None:
    event: asyncio.Event | None = events._events.get(left.name)  # noqa: SLF001
    if not left.ends or event is None:
        return
    event.clear()
    if events._waiter_count[left.name]:  # noqa: SLF001
        _fail_waiters(event, left.name)  # the last of them forgets it
    else:
        events.event_clear(left.name)


_SETTLE = {
    "queues": _settle_queue,
    "semaphores": _settle_semaphore,
    "events": _settle_event,
}


def _fail_waiters(event: asyncio.Event | None, name: str) -> None:
    if event is not None:
        _fail(event._waiters, name)  # type: ignore[attr-defined]  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue]


def _fail(waiters: "Iterable[asyncio.Future[Any]]", name: str) -> None:
    """Raise in who waits for something that has ended."""
    for waiter in [*waiters]:
        if not waiter.done():
            waiter.set_exception(RuntimeError(f"{name} has ended with its pool"))
