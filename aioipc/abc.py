"""The contracts, with their promises on cancel and errors.

`Pool` is kept by `WorkerPool` here, and by pools elsewhere; `aioipc.testing` has a
battery of tests for it.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

if TYPE_CHECKING:
    from types import EllipsisType, TracebackType

    from aioipc.pool.options import OnCancel
    from aioipc.pool.task import PoolTask

__all__ = ["Capabilities", "Items", "MapOptions", "Pool", "PoolStatistics", "Results"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

Items = Iterable[A] | AsyncIterable[A]
"""What a map takes its items from; lazily."""


class MapOptions(NamedTuple):
    """What tells `map`, `map_unordered` and `starmap` apart.

    :ivar unpack: whether an item is a tuple of arguments
    :ivar ordered: whether results come in the order of the items
    """

    unpack: bool
    ordered: bool
    buffersize: int | None
    return_exceptions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a pool can do. What it cannot it refuses, with `UnsupportedOperation`.

    :ivar concurrent: the event loop goes on while a task runs; else it is held up
    :ivar can_kill_running: a task that runs can be stopped: `on_cancel` may be
        "interrupt" or "kill"
    :ivar can_abandon_running: a task that runs can be left to itself: `on_cancel` may
        be "abandon"
    :ivar can_time_out: tasks may have a `timeout`
    :ivar has_priorities: tasks may have a `priority`
    :ivar survives_crashes: a task that ends its process, as a segmentation fault does,
        costs that task only
    :ivar at_most_once: no task begins again, after a crash, unless its `retries` say so
    :ivar can_retry: tasks may have `retries`
    :ivar can_resize: `resize` changes how many workers there may be
    :ivar pickles: arguments and results are pickled: a task works on copies
    :ivar bounds_bytes: a map reads ahead so many bytes at most, not only so many items
    :ivar zero_copy: large buffers are passed on without a copy for each reader
    :ivar crosses_machines: workers may be on other machines
    """

    concurrent: bool = False
    can_kill_running: bool = False
    can_abandon_running: bool = False
    can_time_out: bool = False
    has_priorities: bool = False
    survives_crashes: bool = False
    at_most_once: bool = False
    can_retry: bool = False
    can_resize: bool = False
    pickles: bool = False
    bounds_bytes: bool = False
    zero_copy: bool = False
    crosses_machines: bool = False


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The state of a pool. What it knows nothing of is 0.

    :ivar workers: processes or threads that there are, in whatever state
    :ivar starting: that are not yet ready
    :ivar idle: that have nothing to do
    :ivar busy: that are at work
    :ivar tasks_pending: no worker has begun
    :ivar tasks_running: a worker is at
    :ivar tasks_finished: have ended with a result
    :ivar tasks_failed: have ended with an error, or were cancelled
    :ivar crashes: workers that died with a task
    :ivar shared_memory: bytes for large buffers, in use or kept for the next ones
    """

    workers: int = 0
    starting: int = 0
    idle: int = 0
    busy: int = 0
    tasks_pending: int = 0
    tasks_running: int = 0
    tasks_finished: int = 0
    tasks_failed: int = 0
    crashes: int = 0
    shared_memory: int = 0


class Results(AsyncIterator[T], ABC):
    """What a map returns: results, as they are asked for.

    Leaving the loop early stops the work, at the latest when this object is collected;
    `aclose`, or `async with`, does it at once.
    """

    @abstractmethod
    async def aclose(self) -> None:
        """Stop the work that is going on."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class Pool(ABC):
    """Calls of functions in workers, awaited.

    Pools differ in what their workers are, and their `capabilities` say what follows
    from it. What is promised here they all do, or refuse.

    Where arguments and results are pickled, a function must be importable by the
    worker: it is sent by its name. Arguments must not be changed before the task has
    ended: it is not said when they are pickled, if at all.

    Errors of a task are raised as they are; where they were raised is told with them,
    by their traceback or that of their cause. Those that would steer the event loop are
    raised as `TaskError`.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this pool can do."""

    @abstractmethod
    async def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function in a worker, and return its result.

        A cancel stops the work as `on_cancel` says; see `options`.

        :raises WorkerCrashed: if the worker ended in the middle of it, and the pool
            survives that; a pool that is not `at_most_once` may run it again instead
        :raises EncodeError: if an argument or the result can't be pickled
        :raises DecodeError: if an argument or the result can't be unpickled
        :raises TimeoutError: if it ran for longer than the `timeout` of `options`
        :raises TaskError: if it raised what can't be raised here
        :raises ClosedResourceError: if the pool is closed
        :raises Exception: what the function raised
        """

    @abstractmethod
    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "PoolTask[T]":
        """Begin a call, and return a handle to await.

        `asyncio.gather`, `wait` and their like take it for a future, and so need no
        task of their own for it: that is the quickest way to await many calls.

        :raises ClosedResourceError: if the pool is closed
        """

    @overload
    def map(
        self,
        function: Callable[[A], T],
        items: Items[A],
        /,
        *,
        buffersize: int | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        function: Callable[[A, B], T],
        items: Items[A],
        more: Items[B],
        /,
        *,
        buffersize: int | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Items[Any],
        buffersize: int | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Items[Any],
        buffersize: int | None = ...,
        return_exceptions: bool,
    ) -> Results[T | BaseException]: ...

    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Items[Any],
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Call a function with each of the items; yield the results in their order.

        With several iterables it is called with an item of each, until one is used up.

        Items that take little time are sent in chunks. The end of a worker costs the
        chunk that it was at: all of its items raise WorkerCrashed.

        :param iterables: read as workers become free, `buffersize` items ahead
        :param buffersize: items read and not yet yielded, at most; None for enough to
            keep the workers busy and, where the pool `bounds_bytes`, no more than about
            16 MB for each of them, or two items where these are larger: as weighed so
            far, with what came back
        :param return_exceptions: yield the error of an item instead of raising it
        :raises Exception: of an item, at its place; the work behind it is stopped
        """
        how = MapOptions(False, True, buffersize, return_exceptions)
        return self._map(function, iterables, how)

    @overload
    def map_unordered(
        self,
        function: Callable[[A], T],
        items: Items[A],
        /,
        *,
        buffersize: int | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Results[T]: ...
    @overload
    def map_unordered(
        self,
        function: Callable[..., T],
        /,
        *iterables: Items[Any],
        buffersize: int | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Results[T]: ...
    @overload
    def map_unordered(
        self,
        function: Callable[..., T],
        /,
        *iterables: Items[Any],
        buffersize: int | None = ...,
        return_exceptions: bool,
    ) -> Results[T | BaseException]: ...

    def map_unordered(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Items[Any],
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Like `map`, but yield results as they come."""
        how = MapOptions(False, False, buffersize, return_exceptions)
        return self._map(function, iterables, how)

    @overload
    def starmap(
        self,
        function: Callable[..., T],
        items: Items[Iterable[Any]],
        /,
        *,
        buffersize: int | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Results[T]: ...
    @overload
    def starmap(
        self,
        function: Callable[..., T],
        items: Items[Iterable[Any]],
        /,
        *,
        buffersize: int | None = ...,
        return_exceptions: bool,
    ) -> Results[T | BaseException]: ...

    def starmap(
        self,
        function: Callable[..., Any],
        items: Items[Iterable[Any]],
        /,
        *,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Like `map`, with each item unpacked into the function's arguments."""
        how = MapOptions(True, True, buffersize, return_exceptions)
        return self._map(function, (items,), how)

    @abstractmethod
    def _map(
        self,
        function: Callable[..., Any],
        iterables: tuple[Items[Any], ...],
        how: MapOptions,
    ) -> Results[Any]:
        """Do what `map` and its like promise."""

    def options(
        self,
        *,
        timeout: "float | EllipsisType | None" = ...,
        priority: "int | EllipsisType" = ...,
        retries: "int | EllipsisType" = ...,
        on_cancel: "OnCancel | EllipsisType" = ...,
        name: "str | EllipsisType | None" = ...,
    ) -> "Pool":
        """Return the same pool, with other options for the tasks begun through it.

        :raises UnsupportedOperation: if the pool can't do that; nothing is left out
        :param timeout: seconds that a task may run in its worker
        :param priority: tasks of a higher one are begun before others that wait
        :param retries: how often a task is run again whose worker died. Only for tasks
            that may be done twice
        :param on_cancel: what becomes of a task that has begun when it is cancelled or
            late: ``"interrupt"``: an exception is raised in it, and after the pool's
            `grace` its worker is killed; ``"kill"``: its worker is killed at once;
            ``"abandon"``: it runs on, without a result; ``"shield"``: the await waits
            for its end. What it is at first is the pool's: the first of these that
            the pool can do
        :param name: of the task, in errors
        """
        return self._with(
            {
                "timeout": timeout,
                "priority": priority,
                "retries": retries,
                "on_cancel": on_cancel,
                "name": name,
            }
        )

    @abstractmethod
    def _with(self, changes: dict[str, Any]) -> "Pool":
        """Do what `options` promises; an ellipsis stands for no change."""

    @abstractmethod
    def statistics(self) -> PoolStatistics:
        """Return how many workers and tasks there are."""

    @abstractmethod
    def resize(self, max_workers: int) -> None:
        """Change how many workers there may be. Those too many end, after their task.

        :raises UnsupportedOperation: if the pool can't do that
        """

    @abstractmethod
    async def aclose(self, *, grace: float | None = None) -> None:
        """Take no more tasks, wait for those that there are, end the workers.

        :param grace: seconds; then what is left of the tasks raises TaskCancelled, and
            workers are killed, or left to themselves where they can't be. None for the
            pool's own
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: "type[BaseException] | None",
        exc_value: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        await self.aclose(grace=None if exc_type is None else 0)
