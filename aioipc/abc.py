"""The contracts, with their promises on cancel and errors.

`Pool` is kept by `WorkerPool` here, and by pools elsewhere; `aioipc.testing` has a
battery of tests for it.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
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

__all__ = ["Items", "MapOptions", "Pool", "Results"]

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
    """Calls of functions in worker processes, awaited.

    A function must be importable by the worker: it is sent by its name. Arguments and
    results are pickled. Arguments are pickled when the task is sent, so they must not
    be changed before it has ended.

    Errors of a task are raised as they are, with the worker's traceback as their cause;
    those that would steer the event loop are raised as `TaskError`.
    """

    @abstractmethod
    async def run(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function in a worker, and return its result.

        A cancel stops the work as `on_cancel` says; see `options`.

        :raises WorkerCrashed: if the worker ended in the middle of it
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
            keep the workers busy, and no more than about 16 MB for each of them, or two
            items where these are larger: as weighed so far, with what came back
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

        :param timeout: seconds that a task may run in its worker
        :param priority: tasks of a higher one are begun before others that wait
        :param retries: how often a task is run again whose worker died. Only for tasks
            that may be done twice
        :param on_cancel: what becomes of a task that has begun when it is cancelled or
            late: ``"interrupt"``: an exception is raised in it, and after the pool's
            `grace` its worker is killed; ``"kill"``: its worker is killed at once;
            ``"abandon"``: it runs on, without a result; ``"shield"``: the await waits
            for its end
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
    async def aclose(self, *, grace: float | None = None) -> None:
        """Take no more tasks, wait for those that there are, end the workers.

        :param grace: seconds; then workers are killed, and what is left of the tasks
            raises TaskCancelled. None for the pool's own
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
