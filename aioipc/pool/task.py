"""One call of a function in a worker: as the pool sees it, and as its user does."""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aioipc.errors import TaskCancelled
from aioipc.memory.bulky import is_bulky, wrapper
from aioipc.worker.chunks import call_each_row

if TYPE_CHECKING:
    from aioipc.memory.parcels import Parcel
    from aioipc.pool._states import Worker
    from aioipc.pool.engine import Engine
    from aioipc.pool.options import Options
    from aioipc.transport.waiters import Waiter

__all__ = ["Call", "PoolTask", "name_of", "not_done"]

T = TypeVar("T")

NO_KWARGS: dict[str, Any] = {}


class Call:
    """One call, from its submission to its outcome.

    :ivar number: which no other call of the pool has
    :ivar key: what its time is measured by: calls with the same key take about the same
    :ivar arguments: pickled, once it is to be sent
    :ivar parcel: its large buffers, which the pickle leaves out
    :ivar size: how many items of a map it stands for; 0 if it is none of a map's
    :ivar weight: bytes of its arguments and its result; noted for maps only
    :ivar worker: to which it has been sent
    :ivar away: whether it is being pickled by a thread, or its result unpickled
    :ivar done: whether it has an outcome, or none is wanted any more
    """

    __slots__ = (
        "_others",
        "_then",
        "args",
        "arguments",
        "away",
        "done",
        "error",
        "function",
        "function_number",
        "key",
        "kwargs",
        "number",
        "options",
        "parcel",
        "size",
        "tries",
        "value",
        "waiter",
        "weight",
        "worker",
    )

    def __init__(
        self,
        number: int,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: "Options",
    ) -> None:
        self.number = number
        self.function = function
        self.key: object = function
        self.args = args
        self.kwargs = kwargs or NO_KWARGS  # a dictionary less to be collected
        self.options = options
        self.arguments: bytes | bytearray | None = None
        self.parcel: Parcel | None = None
        self.function_number = 0
        self.worker: Worker | None = None
        self.size = self.weight = 0
        self.tries = 0
        self.away = False
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.waiter: Waiter | None = None
        self._then: Callable[[], Any] | None = None
        self._others: list[Callable[[], Any]] | None = None

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.options.name or name_of(self.function)

    @property
    def has_begun(self) -> bool:
        """Whether a worker is at it, as far as is known."""
        return self.worker is not None and self.worker.sent[0] is self

    def withdraw(self) -> bool:
        """Keep it from beginning; False if it has."""
        return not self.has_begun

    @property
    def bulk(self) -> int:
        """Bytes of its large buffers."""
        return 0 if self.parcel is None else self.parcel.size

    def to_pickle(self) -> tuple[Any, ...]:
        """Return what the worker is sent: the function too, if it has no number."""
        if self.function_number:
            return self.args, self.kwargs
        return self.args, self.kwargs, self.function

    @property
    def is_bulky(self) -> bool:
        """Whether that makes a difference."""
        if self._has_rows:
            return any(any(map(is_bulky, row)) for row in self.args if _is_row(row))
        return any(map(is_bulky, self.args)) or any(map(is_bulky, self.kwargs.values()))

    @property
    def _has_rows(self) -> bool:
        return self.function is call_each_row

    def to_pickle_wrapped(self) -> tuple[Any, ...]:
        """Return the same, made so that large `bytes` are left out of the pickle."""
        wrap = wrapper()

        def wrap_row(row: Any) -> Any:
            return tuple(map(wrap, row)) if _is_row(row) else row

        args = tuple(map(wrap_row if self._has_rows else wrap, self.args))
        kwargs = {name: wrap(value) for name, value in self.kwargs.items()}
        return args, kwargs, *self.to_pickle()[2:]

    def weigh(self, result: int) -> None:
        """Note how much its answer and all that was sent for it have weighed."""
        self.weight = self.bulk + len(self.arguments or b"") + result

    def resolve(self, value: Any, error: BaseException | None = None) -> None:
        """Give it its outcome, and wake whoever waits."""
        self.value, self.error = value, error
        self.done = True
        self.args, self.kwargs, self.arguments = (), NO_KWARGS, None
        if self.parcel is not None:
            self.parcel.let_go()
            self.parcel = None
        if self.waiter is not None:
            self.waiter.wake()
        if self._then is not None:
            then, self._then = self._then, None  # or a cycle would be left
            others, self._others = self._others, None
            then()
            for function in others or ():
                function()

    def then(self, function: Callable[[], Any]) -> None:
        """Have `function` called in the loop when there is an outcome, or now."""
        if self.done:
            function()
        elif self._then is None:
            self._then = function  # with no list: there is seldom another
        elif self._others is None:
            self._others = [function]
        else:
            self._others.append(function)

    def drop(self, is_unwanted: Callable[[Callable[[], Any]], bool]) -> int:
        """Call not what `then` was given and is unwanted; return how many those are."""
        if self._then is None:
            return 0
        given = [self._then, *(self._others or ())]
        kept = [function for function in given if not is_unwanted(function)]
        self._then, self._others = (kept[0], kept[1:]) if kept else (None, None)
        return len(given) - len(kept)

    def take(self) -> Any:
        """Return or raise the outcome, for the last time.

        What brought it is still under way, and is not to keep a large result.
        """
        value, self.value = self.value, None
        error, self.error = self.error, None
        if error is None:
            return value
        try:
            raise error
        finally:
            del self, error  # or the traceback would keep them, and they it

    def result(self) -> Any:
        """Return or raise the outcome."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                del self  # or the traceback would keep it
        return self.value


def _is_row(value: Any) -> bool:
    """Whether a value can be taken apart as often as wanted, if it is a row at all."""
    return type(value) in {tuple, list}


def not_done(task: "PoolTask[Any]") -> RuntimeError:
    """Return what is raised when a task is asked for what it has not yet."""
    return RuntimeError(f"{task!r} is not done")


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function is called in errors."""
    name: object = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else f"a {type(function).__qualname__}"


class PoolTask(Generic[T]):
    """A task that has been submitted: await it for its result.

    Any number of tasks of the event loop may await it, also later. A cancelled await
    leaves the task running: `cancel` stops it.
    """

    __slots__ = ("__weakref__", "_call", "_engine", "_is_cancelled", "_owner")

    def __init__(self, call: Call, engine: "Engine", owner: object) -> None:
        self._call = call
        self._engine = engine
        self._owner = owner  # the pool, which must not be collected before
        self._is_cancelled = False

    def __await__(self) -> Generator[Any, Any, T]:
        call = self._call
        if not call.done:
            waiter = self._engine.loop.waiter()
            call.then(waiter.wake)
            yield from waiter.__await__()
        try:
            return call.result()
        finally:
            del self, call  # or the traceback would keep them, and they it

    def cancel(self) -> bool:
        """Stop the task as its `on_cancel` says; False if it is done already.

        It is done at once: whoever awaits it gets TaskCancelled. With "shield" a task
        that has begun is not cancelled, and False is returned.
        """
        call = self._call
        if call.done or (call.options.on_cancel == "shield" and not call.withdraw()):
            return False
        self._is_cancelled = True
        self._engine.cancel(call)
        return True

    def done(self) -> bool:
        """Return whether it has ended: with a result, with an error or cancelled."""
        return self._call.done

    def cancelled(self) -> bool:
        """Return whether `cancel` has ended it.

        What the end of its pool ends has failed, with a TaskCancelled.
        """
        return self._is_cancelled

    def exception(self) -> BaseException | None:
        """Return the error that it ended with, or None.

        :raises RuntimeError: if it is not done
        """
        if not self._call.done:
            raise not_done(self)
        return self._call.error

    @property
    def started(self) -> bool:
        """Whether a worker has begun it."""
        if self._call.done:
            return not isinstance(self._call.error, TaskCancelled)
        return self._call.has_begun

    @property
    def name(self) -> str:
        """The function's name, or the one that `options` gave it."""
        return self._call.name

    def __repr__(self) -> str:
        call = self._call
        if not call.done:
            state = "running" if call.has_begun else "pending"
        elif call.error is None:
            state = "finished"
        else:
            state = "cancelled" if self.cancelled() else f"failed {call.error!r}"
        return f"<PoolTask {call.number} {call.name} {state}>"
