"""`PoolExecutor`: a pool for code that knows `concurrent.futures` only."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from aioipc.pool.engine import Engine
    from aioipc.pool.options import Options
    from aioipc.pool.task import Call

__all__ = ["PoolExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class PoolExecutor(Executor):
    """Runs calls in a pool's workers, for `loop.run_in_executor` and threads.

    To cancel a future stops the work, also if it has begun. The pool is not shut down
    with its executor.
    """

    def __init__(self, owner: object, engine: "Engine", options: "Options") -> None:
        self._owner = owner  # the pool, which must not be collected before
        self._engine = engine
        self._options = options
        self._futures: dict[Future[Any], None] = {}
        self._shut_down = False

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Begin a call; from any thread."""
        if self._shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        engine, future = self._engine, Future[T]()

        def begin() -> None:
            if future.cancelled():
                return
            try:
                call = engine.submit(fn, args, kwargs, self._options)
            except Exception as error:  # noqa: BLE001 - e.g. the pool is closed
                _settle(future, None, error)
                return
            call.then(lambda: _settle(future, call.value, call.error))
            future.add_done_callback(lambda _: self._ended(future, call))

        self._futures[future] = None
        future.add_done_callback(self._forget)
        if engine.loop.is_current():
            begin()
        elif not engine.loop.call_soon(begin):
            raise RuntimeError("the pool's event loop has ended")
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        :param wait: for those that there are; not possible in the pool's own loop
        """
        self._shut_down = True
        futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait and not self._engine.loop.is_current():
            for future in futures:
                with contextlib.suppress(BaseException):
                    future.exception()

    def _forget(self, future: "Future[Any]") -> None:
        self._futures.pop(future, None)
        if future.cancelled():
            future.set_running_or_notify_cancel()  # wakes `concurrent.futures.wait`

    def _ended(self, future: Future[Any], call: "Call") -> None:
        if future.cancelled() and not call.done:
            self._engine.loop.call_soon(lambda: self._engine.cancel(call))


def _settle(future: Future[Any], value: Any, error: BaseException | None) -> None:
    with contextlib.suppress(InvalidStateError):  # it was cancelled
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
