"""What the scheduler has decided to be done."""

from typing import TYPE_CHECKING, NamedTuple

from aioipc.pool._states import Worker

if TYPE_CHECKING:
    from aioipc.pool.task import Call

__all__ = ["Action", "End", "Interrupt", "Kill", "Send", "Start", "TakeBack"]


class Start(NamedTuple):
    """Start a process for a worker."""

    worker: Worker


class Send(NamedTuple):
    """Send tasks to a worker, and a token for each."""

    worker: Worker
    tasks: "list[Call]"


class TakeBack(NamedTuple):
    """Take up to `limit` tokens, and tell how many there were by `took_back`."""

    worker: Worker
    limit: int


class Interrupt(NamedTuple):
    """Raise an exception in the worker, if it is at that task."""

    worker: Worker
    task: "Call"


class Kill(NamedTuple):
    """Kill a worker."""

    worker: Worker


class End(NamedTuple):
    """Let a worker end by itself."""

    worker: Worker


Action = Start | Send | TakeBack | Interrupt | Kill | End
