"""What `multiprocessing` hides of queues."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

from aioipc.transport.threads import SLICE, Lockable

__all__ = ["QueueInsides", "Tasks"]


class QueueInsides:
    """The pipe and the locks of a `multiprocessing` queue.

    :ivar slots: counts the free slots; None for a SimpleQueue, which has none
    """

    __slots__ = (
        "_queue",
        "read_lock",
        "reader",
        "slots",
        "write_lock",
        "writer",
    )

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self.reader: int = queue._reader.fileno()
        self.writer: int = queue._writer.fileno()
        self.read_lock: Lockable = queue._rlock
        self.write_lock: Lockable = queue._wlock
        self.slots: Lockable | None = getattr(queue, "_sem", None)

    def close(self) -> None:
        """Close the pipe in this process, unless the queue's own thread will."""
        if not self.feeds:
            self._queue._reader.close()
            self._queue._writer.close()

    @property
    def feeds(self) -> bool:
        """Whether the queue's own thread feeds its pipe in this process."""
        thread = getattr(self._queue, "_thread", None)
        return thread is not None and thread.is_alive()

    def feed(self, obj: object) -> None:
        """Give an item that has its slot to the queue's own thread."""
        with self._queue._notempty:
            self._queue._buffer.append(obj)
            self._queue._notempty.notify()


class Tasks:
    """The count of unfinished tasks of a `multiprocessing.JoinableQueue`."""

    __slots__ = ("_cond", "_queue", "_unfinished")

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._cond = queue._cond
        self._unfinished = queue._unfinished_tasks

    def add(self) -> None:
        """Count one more."""
        self._unfinished.release()

    def done_nowait(self) -> bool:
        """Count one less, if no lock and no waiter can hold us up."""
        if not self._cond.acquire(False):
            return False
        try:
            # notify_all() waits until those that it wakes are awake.
            if not self._cond._sleeping_count._semlock._is_zero():
                return False
            self._queue.task_done()
            return True
        finally:
            self._cond.release()

    def join_for_a_while(self) -> bool:
        """Wait for `SLICE` seconds; True if all is done."""
        with self._cond:
            return self._unfinished._semlock._is_zero() or self._cond.wait(SLICE)
