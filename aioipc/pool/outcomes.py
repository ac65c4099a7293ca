"""What a task raised, as an exception of the coordinator's."""

import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from aioipc.errors import DecodeError, EncodeError, TaskError, WorkerTraceback
from aioipc.pool.blame import blame
from aioipc.wire.pickles import loads
from aioipc.worker.failures import Failure, beyond_here, text_of

__all__ = ["cannot_load", "cannot_send", "error_of", "kept", "load_failure"]

# Raised by an await, these end a coroutine or a generator, or look like a cancel.
_STEERING = (StopIteration, StopAsyncIteration, CancelledError)


def load_failure(body: bytes) -> Failure:
    """Load what a worker sent as an ERROR."""
    return loads(body)


def kept(error: BaseException, _doing: str = "run") -> BaseException:
    """Return an exception itself, with its traceback; for tasks of this process."""
    return error.with_traceback(beyond_here(error))


def error_of(failure: Failure | BaseException, name: str) -> BaseException:
    """Return what is to be raised for the failure of the task `name`."""
    if isinstance(failure, BaseException):
        return _raised_here(failure, name)
    said = f"{failure.kind}: {failure.text}" if failure.text else failure.kind
    cause = WorkerTraceback(f"in the worker:\n\n{failure.trace}")
    error: BaseException | None = None
    if failure.doing == "load":
        error = DecodeError(f"the worker can't unpickle task {name}: {said}")
    elif failure.doing == "pickle":
        error = EncodeError(f"the result of task {name} can't be pickled: {said}")
    else:
        error = failure.rebuild()
    if isinstance(error, Exception) and not isinstance(error, _STEERING):
        with contextlib.suppress(Exception):  # whatever a class of the user's raises
            error.__cause__ = cause
            return error
    wrapped = TaskError(f"task {name} raised {said}", failure.kind)
    wrapped.__cause__ = cause
    return wrapped


def _raised_here(error: BaseException, name: str) -> BaseException:
    if isinstance(error, Exception) and not isinstance(error, _STEERING):
        return error
    kind, text = type(error), text_of(error)
    qualified = f"{kind.__module__}.{kind.__qualname__}"
    said = f"{qualified}: {text}" if text else qualified
    wrapped = TaskError(f"task {name} raised {said}", qualified)
    wrapped.__cause__ = error
    return wrapped


def cannot_load(name: str, error: BaseException) -> DecodeError:
    """Return what is to be raised for a result that can't be unpickled."""
    said = f"{type(error).__name__}: {text_of(error)}"
    failure = DecodeError(f"the result of task {name} can't be unpickled: {said}")
    failure.__cause__ = error
    return failure


def cannot_send(
    name: str,
    call: tuple[Any, Sequence[Any], Mapping[str, Any]],
    error: BaseException,
    dumps: Callable[[Any], object] = pickle.dumps,
) -> EncodeError:
    """Return what is to be raised for a call that can't be pickled.

    :param call: the function and its arguments
    :param dumps: which could not
    """
    what = blame(*call, dumps=dumps) or f"{type(error).__name__}: {text_of(error)}"
    failure = EncodeError(f"task {name} can't be sent: {what}")
    failure.__cause__ = error
    return failure
